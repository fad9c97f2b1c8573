from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from jaxft.errors import Problems, UserError
from jaxft.model.convert import from_flax, from_params, leaves, to_params
from jaxft.model.heads import HEADS
from jaxft.model.initial import nest, shapes


def read(tensors, config, head="none", num_labels=0):
    """to_params; the problems are raised."""
    problems = Problems()
    found = to_params(tensors, config, head, shapes(config, head, num_labels), "here", problems)
    problems.raise_if_any()
    return found


@pytest.fixture(scope="module")
def tensors(small, draw):
    return from_params(draw(small, "none"), "none")


@pytest.mark.parametrize("head", sorted(HEADS))
def test_the_leaves_are_the_modules_parameters(small, head):
    paths = [leaf.path for leaf in leaves(head)]
    assert sorted(paths) == sorted(shapes(small, head, 3)) and len(set(paths)) == len(paths)


@pytest.mark.slow
@pytest.mark.parametrize("head", sorted(HEADS))
def test_there_and_back_is_bit_identical(small, draw, head):
    params = draw(small, head, 3)
    tensors = from_params(params, head)
    found = read(tensors, small, head, 3)
    assert not found.missing and not found.extra
    again = from_params(nest(found.params), head)
    assert again.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert again[name].tobytes() == tensor.tobytes() and again[name].flags.c_contiguous, name


def test_query_key_and_value_land_where_the_model_reads_them(small, draw):
    """Checked by the definition: q = x @ Wq.T + bq, heads side by side."""
    params = draw(small, "none")
    tensors = from_params(params, "none")
    x = np.random.default_rng(0).normal(size=16).astype(np.float32)
    qkv = params["encoder"]["layers"]["qkv"]
    for part, name in enumerate(("query", "key", "value")):
        stem = f"encoder.layer.2.attention.self.{name}"
        expected = tensors[f"{stem}.weight"] @ x + tensors[f"{stem}.bias"]
        came = np.einsum("d,dhk->hk", x, qkv["kernel"][2, :, part]) + qkv["bias"][2, part]
        np.testing.assert_allclose(came.ravel(), expected, atol=1e-5)


@pytest.mark.torch
@pytest.mark.parametrize("head", sorted(HEADS))
def test_names_and_shapes_are_those_of_the_transformers_class(small, draw, head):
    import transformers

    config = transformers.BertConfig.from_dict(dataclasses.asdict(small) | {"num_labels": 3})
    theirs = getattr(transformers, HEADS[head].architecture)(config)
    # As saved: without the decoder, which is tied.
    expected = {name: tuple(t.shape) for name, t in theirs.state_dict().items() if "predictions.decoder" not in name}
    assert {name: t.shape for name, t in from_params(draw(small, head, 3), head).items()} == expected


def test_spellings(small, tensors):
    """With bert. before, LayerNorm.gamma and beta, and the position buffer: the same parameters."""
    old = {
        "bert."
        + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in tensors.items()
    }
    old["bert.embeddings.position_ids"] = np.arange(20)[None]
    assert "bert.encoder.layer.0.output.LayerNorm.gamma" in old
    one, other = read(tensors, small), read(old, small)
    assert not other.extra and not other.missing
    for path, value in one.params.items():
        np.testing.assert_array_equal(value, other.params[path])


def test_extra_and_missing_by_name(small, tensors):
    some = {name: tensor for name, tensor in tensors.items() if not name.startswith("pooler")}
    found = read(some | {"bert.qa_outputs.weight": np.zeros(3)}, small)
    assert found.extra == ("bert.qa_outputs.weight",)
    assert found.missing == {("pooler", "kernel"): ("pooler.dense.weight",), ("pooler", "bias"): ("pooler.dense.bias",)}
    assert read(tensors, small, "tag", 2).extra == ("pooler.dense.bias", "pooler.dense.weight")


def change(tensors, **changes):
    return {name: tensor for name, tensor in (tensors | changes).items() if tensor is not None}


QUERY = "encoder.layer.1.attention.self.query.weight"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({QUERY: None}, f"1 tensors of the encoder are missing: '{QUERY}'"),
        ({"embeddings.word_embeddings.weight": None}, "embeddings.word_embeddings.weight"),
        (
            {QUERY: np.zeros((16, 8), np.float32)},
            rf"tensor {QUERY} has shape \[16, 8\], config.json asks for \[16, 16\]",
        ),
        ({"pooler.dense.bias": np.zeros(4, np.float32)}, r"pooler.dense.bias has shape \[4\].*asks for \[16\]"),
        ({"encoder.layer.0.intermediate.dense.weight": np.zeros((16, 24), np.float32)}, r"\[16, 24\].*\[24, 16\]"),
        ({"bert." + QUERY: np.zeros((16, 16), np.float32)}, "are the same parameter"),
        ({"embeddings.position_ids": np.arange(20)[::-1]}, "position_ids is not 0, 1, 2"),
    ],
)
def test_bad_tensors(small, tensors, changes, message):
    with pytest.raises(UserError, match=message):
        read(change(tensors, **changes), small)


def test_all_bad_tensors_at_once(small, tensors):
    bad = {name: np.zeros(1, np.float32) for name in tensors if name.endswith("query.bias")}
    with pytest.raises(UserError) as error:
        read(tensors | bad | {"encoder.layer.0.output.dense.weight": np.zeros(1, np.float32)}, small)
    assert len(error.value.problems) == 4


def test_the_tied_decoder(small, draw):
    tensors = from_params(draw(small, "mlm"), "mlm")
    words = tensors["bert.embeddings.word_embeddings.weight"]
    bias = tensors["cls.predictions.bias"]
    tied = tensors | {"cls.predictions.decoder.weight": words, "cls.predictions.decoder.bias": bias}
    assert read(tied, small, "mlm").extra == ()
    only_decoder_bias = {name: tensor for name, tensor in tied.items() if name != "cls.predictions.bias"}
    assert not read(only_decoder_bias, small, "mlm").missing
    for name, message in (("weight", "an untied decoder is not supported"), ("bias", "expected the same parameter")):
        full = f"cls.predictions.decoder.{name}"
        with pytest.raises(UserError, match=message):
            read(tied | {full: tied[full] + 1}, small, "mlm")


def test_a_frozen_split_is_saved_whole(small, draw):
    from jaxft.model.bert import split_layers

    params = draw(small, "tag", 3)
    whole, split = from_params(params, "tag"), from_params(split_layers(params, 2), "tag")
    assert whole.keys() == split.keys() and all(whole[name].tobytes() == split[name].tobytes() for name in whole)


def test_flax_names(small, draw):
    tensors = from_params(draw(small, "pretrain"), "pretrain")
    problems = Problems()
    flax = {}
    for name, tensor in tensors.items():
        stem, last = name.rsplit(".", 1)
        if "LayerNorm" in stem:
            flax[f"{stem}.{ {'weight': 'scale', 'bias': 'bias'}[last] }"] = tensor
        elif "_embeddings" in stem:
            flax[f"{stem}.embedding"] = tensor
        else:
            flax[f"{stem}.kernel" if last == "weight" else name] = tensor.T
    back = from_flax(flax, "here", problems)
    assert not problems.errors and back.keys() == tensors.keys()
    assert all(np.array_equal(back[name], tensors[name]) for name in tensors)
    from_flax({"classifier.kernel": np.zeros((2, 3, 4), np.float32)}, "here", problems)
    assert "classifier.kernel has shape [2, 3, 4], expected [in, out]" in str(problems.errors[0])
