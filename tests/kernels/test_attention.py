"""Segment-masked attention: against one example at a time in NumPy, and its dropout by address."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest

from jaxft.kernels.attention import api
from jaxft.kernels.attention.cases import CASES, Case, make
from jaxft.kernels.attention.reference import MAX_POSITIONS
from jaxft.kernels.dropout.cases import make_address
from jaxft.kernels.dropout.reference import Address, Words, keep, token_words

IMPLEMENTATIONS = ("xla",)
SITE = 20


def run(q, k, v, segments, implementation=None, **how):
    """The operation, compiled."""
    arrays = tuple(jnp.asarray(part) for part in (q, k, v))
    call = jax.jit(lambda q, k, v: api.attention(q, k, v, jnp.asarray(segments), implementation=implementation, **how))
    return np.asarray(call(*arrays))


def kept(address: Address, row: int, place: np.ndarray, heads: int, rate: float) -> np.ndarray:
    """bool [H, n, n]: which probabilities of one example survive, bit by bit from the definition of their addresses."""
    word_0, word_1 = (word[row, place] for word in _token_words(address))
    position = jnp.asarray(address.position)[row, place]
    feature = jnp.arange(heads, dtype=jnp.uint32)[:, None, None] * np.uint32(MAX_POSITIONS) + position[None, None, :]
    return np.asarray(keep((word_0[None, :, None], word_1[None, :, None]), feature, rate))


_token_words = jax.jit(lambda address: token_words(address, SITE))


def dropping(address: Address, rate: float) -> dict:
    """Arguments of the operation that switch dropout on."""
    return {"words": _token_words(address), "positions": jnp.asarray(address.position), "rate": rate}


def one_by_one(case: Case, q, k, v, segments, address: Address | None) -> np.ndarray:
    """Attention of each example by itself, in f64."""
    out = np.zeros_like(q, np.float64)
    for row in range(case.rows):
        for segment in range(1, len(case.lengths) + 1):
            place = np.flatnonzero(segments[row] == segment)
            a, b, c = (part[row, place].astype(np.float64) for part in (q, k, v))
            scores = np.einsum("qhd,khd->hqk", a, b) / np.sqrt(case.head_width)
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            weights /= weights.sum(-1, keepdims=True)
            if address is not None and case.rate:
                weights = weights * kept(address, row, place, case.heads, case.rate) / (1 - case.rate)
            out[row, place] = np.einsum("hqk,khd->qhd", weights, c)
    return out


@pytest.mark.slow
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("with_dropout", [False, True], ids=["plain", "dropout"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_packed_attention_is_that_of_each_example_by_itself(case, with_dropout, implementation):
    q, k, v, segments, address = make(case)
    how = dropping(address, case.rate) if with_dropout else {}
    result = run(q, k, v, segments, implementation, **how)
    assert result.dtype == np.float32 and np.isfinite(result).all()
    expected = one_by_one(case, q, k, v, segments, address if with_dropout else None)
    np.testing.assert_allclose(result[segments > 0], expected[segments > 0], atol=2e-6)


def test_a_token_sees_nothing_of_another_segment():
    case = CASES[2]
    q, k, v, segments, address = make(case)
    others = segments != 2
    k2, v2 = k.copy(), v.copy()
    k2[others], v2[others] = 1e4, -1e4
    how = dropping(address, 0.1)
    np.testing.assert_array_equal(
        run(q, k, v, segments, **how)[segments == 2], run(q, k2, v2, segments, **how)[segments == 2]
    )


def test_the_gradient_has_the_mask_of_the_value():
    """With scores all equal, each result is a sum of the values kept, so the gradient by v shows the mask."""
    case = CASES[2]
    _, _, v, segments, address = make(case)
    zeros = jnp.zeros_like(jnp.asarray(v))

    def total(v, query):
        out = api.attention(zeros, zeros, v, jnp.asarray(segments), **dropping(address, case.rate))
        return out[0, query].sum(-1)  # [H]

    query = 25  # in segment 2 of row 0
    by_value = np.asarray(jax.jit(jax.jacrev(total), static_argnums=1)(jnp.asarray(v), query))  # [H, B, L, H, Dh]
    place = np.flatnonzero(segments[0] == 2)
    expected = kept(address, 0, place, case.heads, case.rate)[:, place.tolist().index(query)]
    found = np.stack([by_value[head, 0, place, head, 0] for head in range(case.heads)])
    np.testing.assert_allclose(found, expected / (1 - case.rate) / len(place), rtol=1e-6)


def test_gradients_agree_with_numerical_ones():
    case = Case("small", 1, 8, 2, 4, (5, 3), 0.25)
    q, k, v, segments, address = make(case)

    def value(q, k, v):
        out = api.attention(q, k, v, jnp.asarray(segments), **dropping(address, case.rate))
        return (out * jnp.cos(jnp.arange(out.size, dtype=jnp.float32)).reshape(out.shape)).sum()

    jax.test_util.check_grads(jax.jit(value), (q, k, v), order=1, modes=["rev"], atol=1e-2, rtol=1e-2, eps=1e-2)


def test_no_address_or_rate_0_drop_nothing():
    q, k, v, segments, address = make(CASES[2])
    plain = run(q, k, v, segments)
    np.testing.assert_array_equal(run(q, k, v, segments, rate=0.5), plain)
    np.testing.assert_array_equal(run(q, k, v, segments, **dropping(address, 0.0)), plain)


def test_dropout_of_probabilities_keeps_their_expectation():
    """Values all 1: a result is the sum of a row of probabilities, on average 1 (16 rows x 12 heads x 128 queries)."""
    rows, length, heads = 16, 128, 12
    zeros, ones = np.zeros((rows, length, heads, 2), np.float32), np.ones((rows, length, heads, 2), np.float32)
    how = dropping(make_address(rows, length, seed=4), 0.1)
    sums = run(zeros, zeros, ones, np.ones((rows, length), np.int32), **how)[..., 0].astype(np.float64)
    assert abs(sums.mean() - 1) < 5 * (0.1 / 0.9 / (sums.size * length)) ** 0.5


def test_bfloat16_operands_give_float32():
    case = CASES[2]
    q, k, v, segments, address = make(case)
    low_q, low_k, low_v = (jnp.asarray(part, jnp.bfloat16) for part in (q, k, v))
    result = run(low_q, low_k, low_v, segments, **dropping(address, case.rate))
    assert result.dtype == np.float32
    expected = one_by_one(case, q, k, v, segments, address)
    np.testing.assert_allclose(result[segments > 0], expected[segments > 0], atol=0.05)


def test_bad_calls_are_refused():
    made: Any = make(CASES[0])
    q, k, v, segments, _ = made
    with pytest.raises(ValueError, match="shapes differ"):
        api.attention(q, k[:, :4], v, segments)
    with pytest.raises(ValueError, match="rate"):
        api.attention(q, k, v, segments, rate=1.0)
    with pytest.raises(ValueError, match="positions="):
        api.attention(q, k, v, segments, words=Words(segments, segments), rate=0.1)
    assert api.choose() in IMPLEMENTATIONS
    with pytest.raises(NotImplementedError, match="there is xla"):
        api.choose("pallas")
