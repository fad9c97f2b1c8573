"""Segment-masked attention with addressed dropout, in plain JAX.

A packed row holds several examples; a token sees the tokens of its own segment only:

    tokens    [CLS] a b [SEP] [CLS] c [SEP] [PAD]
    segments    1   1 1   1     2   2   2     0

Padding (segment 0) sees padding, so that no row of the softmax is empty; what comes out there is finite and unused.
The address of an attention probability's dropout bit is (head, query position, key position), positions counted inside
the example, so neither the row's width nor the neighbours move it. Leaves out: causal masks, relative positions.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxft.kernels.dropout.reference import Words, apply_mask

MAX_POSITIONS = 512
"""Key positions an address can tell apart."""


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
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k, preferred_element_type=jnp.float32) * np.float32(scale)
    same = segments[:, None, :, None] == segments[:, None, None, :]
    probabilities = jax.nn.softmax(jnp.where(same, scores, jnp.float32(-1e30)), axis=-1)
    if words is not None and positions is not None and rate > 0.0:
        probabilities = drop_probabilities(probabilities, words, positions, rate)
    return jnp.einsum("bhqk,bkhd->bqhd", probabilities.astype(v.dtype), v, preferred_element_type=jnp.float32)


def drop_probabilities(probabilities: Array, words: Words, positions: Array, rate: float) -> Array:
    """probabilities [B, H, Lq, Lk] with entries dropped; feature index = head · 512 + key position."""
    heads = jnp.arange(probabilities.shape[1], dtype=jnp.uint32)[None, :, None, None]
    feature = heads * np.uint32(MAX_POSITIONS) + positions.astype(jnp.uint32)[:, None, None, :]
    wide = (words.first[:, None, :, None], words.second[:, None, :, None])
    return apply_mask(probabilities, wide, feature, rate)
