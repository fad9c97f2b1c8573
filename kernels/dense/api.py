"""Dense layers: the entry point that the rest of jaxft calls."""

from __future__ import annotations

from functools import partial

from jax import Array
from jax.typing import DTypeLike

from jaxft.kernels.dense import reference
from jaxft.kernels.implementation import Implementation, choose_for

__all__ = ["choose", "dense"]

choose = partial(choose_for, "dense")
"""(implementation) -> the one that a call would use."""


def dense(x: Array, w: Array, bias: Array, dtype: DTypeLike, *, implementation: Implementation | None = None) -> Array:
    """x [..., K] times w [K, N], plus bias [N] -> f32 [..., N].

    The operands of the products are rounded to `dtype`; so is the gradient that comes back, wherever it goes.
    """
    choose(implementation)
    if w.ndim != 2 or x.shape[-1:] != w.shape[:1] or bias.shape != w.shape[1:]:
        raise ValueError(f"no dense layer of x {x.shape}, w {w.shape}, bias {bias.shape}")
    return reference.dense(x, w, bias, dtype)
