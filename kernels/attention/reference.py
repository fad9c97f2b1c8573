"""Segment-masked attention with addressed dropout, in plain JAX.

A packed row holds several examples; a token sees the tokens of its own segment only:

    tokens    [CLS] a b [SEP] [CLS] c [SEP] [PAD]
    segments    1   1 1   1     2   2   2     0

Padding (segment 0) sees padding, so that no row of the softmax is empty; what comes out there is finite and unused.
The address of an attention probability's dropout bit is (head, query position, key position), positions counted inside
the example, so neither the row's width nor the neighbours move it. Leaves out: causal masks, relative positions.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxft.kernels.dense.reference import transposed
from jaxft.kernels.dropout.reference import Words, apply_mask, no_gradient

MAX_POSITIONS = 512
"""Key positions an address can tell apart."""


@jax.named_scope("attention")
def attention(
    q: Array,
    k: Array,
    v: Array,
    segments: Array,
    *,
    words: Words | None,
    positions: Array | None,
    rate: float,
    scale: float,
) -> Array:
    """q, k, v [B, L, H, Dh] (f32 or bf16), segments int32 [B, L] -> f32 [B, L, H, Dh]."""
    q, k, v = (jnp.swapaxes(part, 1, 2) for part in (q, k, v))
    if words is None or positions is None or rate == 0.0:
        words, positions, rate = None, None, 0.0
    return jnp.swapaxes(_attend(q, k, v, segments, words, positions, rate, scale), 1, 2)


@partial(jax.custom_vjp, nondiff_argnums=(6, 7))
def _attend(q, k, v, segments, words, positions, rate, scale):
    """q, k, v [B, H, L, Dh] -> f32 [B, H, L, Dh]."""
    return _forward(q, k, v, segments, words, positions, rate, scale)[0]


def _forward(q, k, v, segments, words, positions, rate, scale):
    scores = _dot("bhqd,bhkd->bhqk", q, k) * np.float32(scale)
    same = segments[:, None, :, None] == segments[:, None, None, :]
    probabilities = jax.nn.softmax(jnp.where(same, scores, jnp.float32(-1e30)), axis=-1)
    kept = drop_probabilities(probabilities, words, positions, rate).astype(v.dtype)
    out = _dot("bhqk,bhkd->bhqd", kept, v)
    return out, (q, k, v, probabilities.astype(v.dtype), kept, out, words, positions, segments)


@jax.named_scope("attention")
def _backward(rate, scale, saved, gradient):
    """Products in the dtype of q, k, v; those over queries take the transpose of the narrow operand, [L, Dh]."""
    q, k, v, probabilities, kept, out, words, positions, segments = saved
    low = gradient.astype(v.dtype)
    by_kept = drop_probabilities(_dot("bhqd,bhkd->bhqk", low, v), words, positions, rate)
    # Through the softmax: a row of scores loses its mean, weighted by the probabilities, which is out . gradient.
    mean = (gradient * out).sum(-1, keepdims=True)
    by_scores = probabilities.astype(jnp.float32) * (by_kept - mean) * np.float32(scale)
    by_scores = by_scores.astype(v.dtype)
    by_q = _dot("bhqk,bhkd->bhqd", by_scores, k).astype(q.dtype)
    by_k = transposed(_dot("bhdq,bhqk->bhdk", transposed(q), by_scores).astype(k.dtype))
    by_v = transposed(_dot("bhdq,bhqk->bhdk", transposed(low), kept).astype(v.dtype))
    return by_q, by_k, by_v, *(no_gradient(part) for part in (segments, words, positions))


_attend.defvjp(_forward, _backward)


def _dot(axes: str, a: Array, b: Array) -> Array:
    return jnp.einsum(axes, a, b, preferred_element_type=jnp.float32)


def drop_probabilities(probabilities: Array, words: Words | None, positions: Array | None, rate: float) -> Array:
    """probabilities [B, H, Lq, Lk] with entries dropped; feature index = head · 512 + key position."""
    if words is None or positions is None:
        return probabilities
    heads = jnp.arange(probabilities.shape[1], dtype=jnp.uint32)[None, :, None, None]
    feature = heads * np.uint32(MAX_POSITIONS) + positions.astype(jnp.uint32)[:, None, None, :]
    wide = (words.first[:, None, :, None], words.second[:, None, :, None])
    return apply_mask(probabilities, wide, feature, rate)
