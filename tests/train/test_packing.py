"""Packing changes nothing: packed rows against one example a row, with MiniLM's weights, dropout on, in f32.

All differences are relative and within 1e-6: of the losses, the largest over the largest loss; of the logits and of
the gradient (summed over a step of 16 examples), the Euclidean norm over that of what it is compared with, for every
parameter of every layer by itself. What is left is rounding: a longer row cuts the sums of attention at other places.
In rows of one width losses and logits come out equal to the bit. For scale: changing every word embedding by one unit
in the last place moves the logits of 6 layers by 1.0e-6 in the same norm; rows of 128 tokens move them by 3e-7 to 4e-7
(the largest change of a single logit is 7e-7 to 1.1e-6 of the largest logit). The masks do not differ in a bit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft import prng
from jaxft.kernels.attention.reference import MAX_POSITIONS
from jaxft.kernels.dropout.reference import features, keep, token_words
from jaxft.model.bert import address_of
from jaxft.train.partition import flatten
from jaxft.train.setup import Setup

LIMIT = 1e-6
KEY = prng.device_words(prng.stream("dropout", 7))
EPOCH = jnp.uint32(1)

Place = tuple[int, int, int]
"""Example, occurrence, position: of a token, or of an example's first token."""


class Outcome(NamedTuple):
    """losses, logits: place -> value. gradient: parameter (and layer) -> array."""

    losses: dict[Place, float]
    logits: dict[Place, np.ndarray]
    gradient: dict[str, np.ndarray]


def layout(setup: Setup, **train) -> dict[str, jax.Array]:
    """The first step's examples in other rows: [B, L] arrays. train: `packing`, `row_tokens`."""
    recipe = dataclasses.replace(setup.recipe, train=dataclasses.replace(setup.recipe.train, **train))
    arrays = dataclasses.replace(setup, recipe=recipe).batches().make(0).arrays
    return {name: jnp.asarray(values[0]) for name, values in arrays.items()}


def reverse(batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """The same rows in the opposite order."""
    return {name: values[::-1] for name, values in batch.items()}


def cut(setup: Setup, layers: int) -> Setup:
    """The bottom `layers` layers of the model."""
    encoder = dict(setup.params["encoder"])
    encoder["layers"] = jax.tree.map(lambda leaf: leaf[:layers], encoder["layers"])
    config = dataclasses.replace(setup.config, num_hidden_layers=layers)
    return dataclasses.replace(setup, config=config, params={**setup.params, "encoder": encoder}, vocabulary=None)


@partial(jax.jit, static_argnums=0)
def forward_and_back(static: Static, params: dict, batch: dict[str, jax.Array]):
    """(losses, logits), gradient of the losses' sum."""

    def loss_sum(params):
        logits = static.model.apply({"params": params}, batch, KEY, EPOCH)
        losses, _ = static.task.loss(logits, batch["targets"], label_smoothing=0.0, class_weights=None)
        return losses.sum(), (losses, logits)

    gradient, outcome = jax.grad(loss_sum, has_aux=True)(params)
    return outcome, gradient


class Static(NamedTuple):
    """What `forward_and_back` is compiled for."""

    model: Any
    task: Any


def compute(setup: Setup, batch: dict[str, jax.Array]) -> Outcome:
    static = Static(setup.model(training=True).clone(unroll=1), setup.task)  # compiles faster
    (losses, logits), gradient = forward_and_back(static, setup.params, batch)
    losses, logits = np.asarray(losses), np.asarray(logits)
    places = dict(_places(batch))
    return Outcome(
        {place: losses[at] for place, at in places.items()},
        {place: logits[at] for place, at in places.items()},
        dict(_by_layer(gradient)),
    )


def _places(batch: dict[str, jax.Array]) -> Iterator[tuple[Place, tuple[int, int]]]:
    """Place of each target -> its index in the losses."""
    host = {name: np.asarray(values) for name, values in batch.items()}
    per_token = host["targets"].shape == host["tokens"].shape
    for row, at in zip(*np.nonzero(host["targets"] >= 0), strict=True):
        column = at if per_token else host["firsts"][row, at]
        example, occurrence, position = (
            int(host[name][row, column]) for name in ("example", "occurrence", "positions")
        )
        yield (example, occurrence, position), (row, at)


def _by_layer(gradient: dict) -> Iterator[tuple[str, np.ndarray]]:
    for path, leaf in flatten(gradient).items():
        if path[:2] == ("encoder", "layers"):
            yield from ((f"{'/'.join(path)} {layer}", np.asarray(part)) for layer, part in enumerate(leaf))
        else:
            yield "/".join(path), np.asarray(leaf)


class Difference(NamedTuple):
    """As the module's docstring defines them. gradient: of the worst parameter; whole: of all as one vector."""

    losses: float
    logits: float
    gradient: float
    whole: float


def difference(one: Outcome, other: Outcome) -> Difference:
    assert one.losses.keys() == other.losses.keys()
    losses, logits = (
        [np.stack([part[place] for place in one.losses]) for part in parts]
        for parts in ((one.losses, other.losses), (one.logits, other.logits))
    )
    norms = {
        name: (np.linalg.norm(values.astype(np.float64) - other.gradient[name]), np.linalg.norm(values))
        for name, values in one.gradient.items()
    }
    whole = np.sqrt(sum(d**2 for d, _ in norms.values()) / sum(n**2 for _, n in norms.values()))
    return Difference(
        float(np.abs(losses[0] - losses[1]).max() / np.abs(losses[0]).max()),
        float(np.linalg.norm(logits[0] - logits[1]) / np.linalg.norm(logits[0])),
        float(max(d / n for d, n in norms.values())),
        float(whole),
    )


CASES = {"classify, 2 layers": ("classify", 2, (64, 256)), "tag, all 6 layers": ("tag", 6, (128,))}
"""Name -> task, bottom layers of MiniLM, widths of packed rows."""


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_packed_rows_give_what_one_example_a_row_gives(name, set_up_on, minilm):
    task, layers, widths = CASES[name]
    setup = cut(set_up_on(task, model=minilm, dropout=0.1), layers)
    alone = layout(setup, packing=False, row_tokens=64)
    expected = compute(setup, alone)
    layouts = {f"packed {width}": layout(setup, packing=True, row_tokens=width) for width in widths}
    assert all(len(batch["tokens"]) < 16 for batch in layouts.values())
    for kind, batch in {"reversed": reverse(alone), **layouts}.items():
        found = difference(expected, compute(setup, batch))
        print(f"{name}: {kind} {tuple(batch['tokens'].shape)}: {found}")
        assert max(found) <= LIMIT, (kind, found)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["classify", "tag"])
def test_no_layout_moves_a_mask_bit(task, set_up_on, minilm):
    """Hidden states and attention probabilities at every token: bits by address, whatever row it stands in."""
    setup = set_up_on(task)
    layouts = [
        layout(setup, packing=False, row_tokens=64),
        reverse(layout(setup, packing=False, row_tokens=64)),
        layout(setup, packing=False, row_tokens=128),
        layout(setup, packing=True, row_tokens=64),
        layout(setup, packing=True, row_tokens=256),
    ]
    expected = masks(setup, layouts[0])
    assert sum(hidden.size for hidden, _ in expected.values()) > 16 * 384
    for batch in layouts[1:]:
        found = masks(setup, batch)
        assert found.keys() == expected.keys()
        for place, (hidden, attention) in expected.items():
            np.testing.assert_array_equal(found[place][0], hidden)
            np.testing.assert_array_equal(found[place][1], attention)


def masks(setup: Setup, batch: dict[str, jax.Array]) -> dict[Place, tuple[np.ndarray, np.ndarray]]:
    """Place of each token -> what is kept of its 384 features at site 17, and of its probabilities at site 16, [H,
    keys]."""
    address = address_of(batch, KEY, EPOCH, setup.model(training=True).rates)
    assert address is not None
    hidden, attention = (np.asarray(mask) for mask in _all_masks(address))
    host = {name: np.asarray(values) for name, values in batch.items()}
    result = {}
    for row, at in zip(*np.nonzero(host["segments"]), strict=True):
        keys = np.flatnonzero(host["segments"][row] == host["segments"][row, at])
        place = tuple(int(host[name][row, at]) for name in ("example", "occurrence", "positions"))
        result[place] = (hidden[row, at], attention[row, :, at][:, keys])
    return result


@jax.jit
def _all_masks(address):
    """Kept: bool [B, L, 384] and [B, 12, Lq, Lk]."""
    word_0, word_1 = token_words(address, 17)
    hidden = keep((word_0[..., None], word_1[..., None]), features(384)[None, None], 0.1)
    word_0, word_1 = token_words(address, 16)
    feature = jnp.arange(12, dtype=jnp.uint32)[None, :, None, None] * np.uint32(MAX_POSITIONS)
    feature = feature + address.position[:, None, None, :]
    return hidden, keep((word_0[:, None, :, None], word_1[:, None, :, None]), feature, 0.1)
