from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft.model.bert import Rates
from jaxft.model.heads import HEADS, Bert

QUICK = {"xla_backend_optimization_level": 0}
"""Compiles these small models in a third of the time."""
SHAPES = {
    "none": ((2, 20, 16), (2, 3, 16)),
    "classify": (2, 3, 5),
    "tag": (2, 20, 5),
    "mlm": (2, 20, 50),
    "nsp": (2, 3, 2),
    "pretrain": ((2, 20, 50), (2, 3, 2)),
}


@pytest.fixture(scope="module")
def batch(pack, ragged):
    return pack(ragged, [[3, 2], [4, 0, 1]], 20)


def test_every_head_is_tested():
    assert set(SHAPES) == set(HEADS)


@pytest.mark.parametrize("head", sorted(SHAPES))
def test_shapes_and_dtypes(small, draw, batch, head):
    result = jax.eval_shape(Bert(small, head, 5).apply, {"params": draw(small, head, 5)}, batch)
    parts = result if isinstance(result, tuple) else (result,)
    expected = SHAPES[head] if isinstance(result, tuple) else (SHAPES[head],)
    assert tuple(part.shape for part in parts) == expected
    assert all(part.dtype == jnp.float32 for part in parts)


@pytest.mark.slow
def test_classify_reads_the_first_token_of_each_example(small, draw, batch):
    params = draw(small, "classify", 5)
    model = Bert(small, "classify", 5)
    logits = jax.jit(model.apply)({"params": params}, batch)
    hidden = np.asarray(jax.jit(lambda p: model.apply({"params": p}, batch, method="hidden"))(params))
    first = hidden[1, 6]  # row [4, 0, 1]: example 0 starts after the 6 tokens of example 4
    pooled = np.tanh(first @ params["pooler"]["kernel"] + params["pooler"]["bias"])
    expected = pooled @ params["classifier"]["kernel"] + params["classifier"]["bias"]
    np.testing.assert_allclose(logits[1, 1], expected, atol=1e-5)


@pytest.mark.slow
def test_head_dropout_goes_by_the_example_not_the_slot(small, draw, pack, ragged):
    params = {"params": draw(small, "classify", 5)}
    apply = jax.jit(Bert(small, "classify", 5, rates=Rates(head=0.5)).apply, compiler_options=QUICK)
    key, epoch = jnp.asarray([1, 2], jnp.uint32), jnp.uint32(3)
    one = apply(params, pack(ragged, [[0], [1], [4]], 12), key, epoch)
    other = apply(params, pack(ragged, [[4, 0], [1]], 20), key, epoch)
    for a, b in ((one[0, 0], other[0, 1]), (one[1, 0], other[1, 0]), (one[2, 0], other[0, 0])):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert np.abs(np.asarray(one - apply(params, pack(ragged, [[0], [1], [4]], 12)))).max() > 0.01


def test_the_decoder_is_tied_to_the_word_embeddings(small, draw, batch):
    params = draw(small, "mlm")
    assert "decoder" not in str(jax.tree.structure(params))
    apply: Any = Bert(small, "mlm").apply
    loss = jax.grad(lambda p: apply({"params": p}, batch)[..., 49].sum())
    gradient = jax.jit(loss, compiler_options=QUICK)(params)
    unused = [word for word in range(50) if word not in batch["tokens"]]
    assert np.abs(np.asarray(gradient["encoder"]["embeddings"]["word"])[49]).max() > 0
    assert not np.asarray(gradient["encoder"]["embeddings"]["word"])[[w for w in unused if w != 49]].any()


def test_a_classifier_needs_classes(small, batch):
    with pytest.raises(ValueError, match="num_labels"):
        jax.eval_shape(Bert(small, "classify").init, jax.random.key(0), batch)
