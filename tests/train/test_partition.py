"""Freezing: which parameters train, and that they come back whole."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from jaxft import prng
from jaxft.errors import UserError
from jaxft.model.config import BertConfig
from jaxft.model.initial import initialise
from jaxft.train.partition import flatten, nest, partition

LAYERS = 3


@pytest.fixture(scope="module")
def params() -> dict:
    config = BertConfig(
        vocab_size=11,
        hidden_size=8,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        intermediate_size=12,
        max_position_embeddings=16,
    )
    return initialise(config, "classify", 3, prng.stream("init", 0))


def size(flat: dict) -> int:
    return sum(leaf.size for leaf in flat.values())


@pytest.mark.parametrize("freeze", ["none", "encoder", "layers:1", "layers:3", "re:bias$", "re:^encoder/embeddings/"])
def test_parts_are_disjoint_and_join_to_the_whole(params, freeze):
    part = partition(freeze, params, LAYERS)
    trainable, frozen = part.split(params)
    assert not trainable.keys() & frozen.keys() and size(trainable) + size(frozen) == size(flatten(params))
    assert trainable and bool(frozen) == (freeze != "none")
    jax.tree.map(np.testing.assert_array_equal, part.whole(trainable, frozen), params)


def test_none_trains_everything(params):
    assert flatten(params).keys() == partition("none", params, LAYERS).split(params)[0].keys()


def test_encoder_leaves_pooler_and_classifier(params):
    part = partition("encoder", params, LAYERS)
    assert {path[0] for path in part.split(params)[0]} == {"pooler", "classifier"}
    assert part.frozen_layers == LAYERS


def test_layers_freezes_embeddings_and_the_bottom_layers(params):
    part = partition("layers:2", params, LAYERS)
    trainable, frozen = part.split(params)
    assert part.frozen_layers == 2
    assert {path[:2] for path in frozen} == {("encoder", "embeddings"), ("encoder", "frozen")}
    kernel = params["encoder"]["layers"]["up"]["kernel"]
    np.testing.assert_array_equal(frozen["encoder", "frozen", "up", "kernel"], kernel[:2])
    np.testing.assert_array_equal(trainable["encoder", "layers", "up", "kernel"], kernel[2:])


def test_layers_0_freezes_the_embeddings_alone(params):
    frozen = partition("layers:0", params, LAYERS).split(params)[1]
    assert {path[:2] for path in frozen} == {("encoder", "embeddings")}


def test_a_pattern_is_found_anywhere_in_the_path(params):
    frozen = partition("re:norm/(scale|bias)", params, LAYERS).split(params)[1]
    assert frozen and all("norm" in "/".join(path) for path in frozen)


@pytest.mark.parametrize(
    ("freeze", "says"),
    [
        ("layers:4", "4 layers of 3"),
        ("re:no_such_name", "matches none of"),
        ("re:(", "not a regular expression"),
        ("re:.", "freezes all"),
    ],
)
def test_what_makes_no_sense_is_refused(params, freeze, says):
    with pytest.raises(UserError, match=says):
        partition(freeze, params, LAYERS)


def test_flatten_and_nest_are_inverse(params):
    again = nest(flatten(params))
    assert jax.tree.structure(again) == jax.tree.structure(params)
    assert all(a is b for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(params), strict=True))
