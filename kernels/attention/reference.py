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

from jaxft.kernels.dropout.reference import Words, apply_mask, no_gradient
from jaxft.kernels.layout import permuted

MAX_POSITIONS = 512
"""Key positions an address can tell apart."""

_BY_HEAD, _BY_HEAD_TRANSPOSED = (2, 0, 1, 3), (2, 0, 3, 1)
"""[B, L, H, Dh] as [H, B, L, Dh], and as [H, B, Dh, L]: XLA on CPU shares out the first axis among threads, and heads
come in even numbers more often than rows."""


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
    if words is None or positions is None or rate == 0.0:
        words, positions, rate = None, None, 0.0
    return _attend(q, k, v, segments, words, positions, rate, scale)


@partial(jax.custom_vjp, nondiff_argnums=(6, 7))
def _attend(q, k, v, segments, words, positions, rate, scale):
    return _forward(q, k, v, segments, words, positions, rate, scale)[0]


def _forward(q, k, v, segments, words, positions, rate, scale):
    scores = _dot("hbqd,hbkd->hbqk", permuted(q, _BY_HEAD), permuted(k, _BY_HEAD)) * np.float32(scale)
    same = (segments[:, :, None] == segments[:, None, :])[None]
    probabilities = jax.nn.softmax(jnp.where(same, scores, jnp.float32(-1e30)), axis=-1)
    kept = drop_probabilities(probabilities, words, positions, rate).astype(v.dtype)
    out = _dot("hbqk,hbkd->hbqd", kept, permuted(v, _BY_HEAD))
    saved = q, k, v, probabilities.astype(v.dtype), kept, out, words, positions, segments
    return out.transpose(1, 2, 0, 3), saved


@jax.named_scope("attention")
def _backward(rate, scale, saved, gradient):
    """Products in the dtype of q, k, v; those over queries take the transpose of the narrow operand, [Dh, L]."""
    q, k, v, probabilities, kept, out, words, positions, segments = saved
    low = gradient.astype(v.dtype)
    by_out = permuted(low, _BY_HEAD)
    by_kept = _dot("hbqd,hbkd->hbqk", by_out, permuted(v, _BY_HEAD))
    by_probabilities = drop_probabilities(by_kept, words, positions, rate)
    # Through the softmax: a row of scores loses its mean, weighted by the probabilities, which is out . gradient.
    mean = (by_out.astype(jnp.float32) * out).sum(-1, keepdims=True)
    by_scores = (probabilities.astype(jnp.float32) * (by_probabilities - mean)).astype(v.dtype)
    # Scaled here, and not there: [L, Dh] is smaller than [L, L].
    by_q = _dot("hbqk,hbkd->hbqd", by_scores, permuted(k, _BY_HEAD)) * np.float32(scale)
    by_k = _dot("hbdq,hbqk->hbdk", permuted(q, _BY_HEAD_TRANSPOSED), by_scores) * np.float32(scale)
    by_v = _dot("hbdq,hbqk->hbdk", permuted(low, _BY_HEAD_TRANSPOSED), kept)
    back = by_q.transpose(1, 2, 0, 3), by_k.transpose(1, 3, 0, 2), by_v.transpose(1, 3, 0, 2)
    gradients = (part.astype(v.dtype) for part in back)
    return *gradients, *(no_gradient(part) for part in (segments, words, positions))


_attend.defvjp(_forward, _backward)


def _dot(axes: str, a: Array, b: Array) -> Array:
    return jnp.einsum(axes, a, b, preferred_element_type=jnp.float32)


def drop_probabilities(probabilities: Array, words: Words | None, positions: Array | None, rate: float) -> Array:
    """probabilities [H, B, Lq, Lk] with entries dropped; feature index = head · 512 + key position."""
    if words is None or positions is None:
        return probabilities
    heads = jnp.arange(probabilities.shape[0], dtype=jnp.uint32)[:, None, None, None]
    feature = heads * np.uint32(MAX_POSITIONS) + positions.astype(jnp.uint32)[None, :, None, :]
    wide = (words.first[None, ..., None], words.second[None, ..., None])
    return apply_mask(probabilities, wide, feature, rate)
