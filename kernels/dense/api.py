"""Dense layers: the entry point that the rest of jaxft calls."""

from __future__ import annotations

from typing import Literal

from jax import Array
from jax.typing import DTypeLike

from jaxft.kernels.dense import reference

Implementation = Literal["xla", "pallas"]

__all__ = ["choose", "dense"]


def choose(implementation: Implementation | None = None) -> Implementation:
    """The implementation that a call would use. Raises NotImplementedError for one that does not exist."""
    if implementation not in (None, "xla"):
        raise NotImplementedError(f"dense has no {implementation!r} implementation; there is 'xla'")
    return "xla"


def dense(x: Array, w: Array, bias: Array, dtype: DTypeLike, *, implementation: Implementation | None = None) -> Array:
    """x [..., K] times w [K, N], plus bias [N] -> f32 [..., N].

    The operands of the products are rounded to `dtype`; so is the gradient that comes back, wherever it goes.
    """
    choose(implementation)
    if w.ndim != 2 or x.shape[-1:] != w.shape[:1] or bias.shape != w.shape[1:]:
        raise ValueError(f"no dense layer of x {x.shape}, w {w.shape}, bias {bias.shape}")
    return reference.dense(x, w, bias, dtype)
