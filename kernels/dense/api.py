"""Products with matrices of weights: the entry point that the rest of jaxft calls."""

from __future__ import annotations

from typing import Literal

from jax import Array
from jax.typing import DTypeLike

from jaxft.kernels.dense import reference

Implementation = Literal["xla", "pallas"]

__all__ = ["choose", "dot"]


def choose(implementation: Implementation | None = None) -> Implementation:
    """The implementation that a call would use. Raises NotImplementedError for one that does not exist."""
    if implementation not in (None, "xla"):
        raise NotImplementedError(f"dense has no {implementation!r} implementation; there is 'xla'")
    return "xla"


def dot(x: Array, w: Array, dtype: DTypeLike, *, implementation: Implementation | None = None) -> Array:
    """x [..., K] times w [K, N] -> f32 [..., N]; operands, of the gradient's products too, are rounded to `dtype`."""
    choose(implementation)
    if w.ndim != 2 or x.shape[-1:] != w.shape[:1]:
        raise ValueError(f"no product of x {x.shape} with w {w.shape}")
    return reference.dot(x, w, dtype)
