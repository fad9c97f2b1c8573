"""Segment-masked attention with addressed dropout: the entry point that the rest of jaxft calls."""

from __future__ import annotations

import math
from functools import partial

from jax import Array

from jaxft.kernels.attention import reference
from jaxft.kernels.dropout.reference import Words
from jaxft.kernels.implementation import Implementation, choose_for

__all__ = ["attention", "choose"]

choose = partial(choose_for, "attention")
"""(implementation) -> the one that a call would use."""


def attention(
    q: Array,
    k: Array,
    v: Array,
    segments: Array,
    *,
    words: Words | None = None,
    positions: Array | None = None,
    rate: float = 0.0,
    scale: float | None = None,
    implementation: Implementation | None = None,
) -> Array:
    """Multi-head attention in which a token sees its own segment only.

    q, k, v: [B, L, H, Dh]. segments: int32 [B, L], 0 is padding. words: of the queries at this site, from
    `token_words`; None switches dropout off. positions: int [B, L], inside the example, needed with words.
    rate: 0 <= rate < 1. scale: none is Dh ** -0.5. Returns f32 [B, L, H, Dh].
    """
    choose(implementation)
    if q.shape != k.shape or k.shape != v.shape or segments.shape != q.shape[:2]:
        raise ValueError(f"shapes differ: q {q.shape}, k {k.shape}, v {v.shape}, segments {segments.shape}")
    if not 0.0 <= rate < 1.0:
        raise ValueError(f"a dropout rate lies from 0 up to but not including 1, is {rate}")
    if words is not None and positions is None:
        raise ValueError("dropout of attention needs positions= beside words=")
    scale = 1.0 / math.sqrt(q.shape[-1]) if scale is None else scale
    return reference.attention(q, k, v, segments, words=words, positions=positions, rate=rate, scale=scale)
