"""Axes in another order, in a way that suits matrix products."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array


def permuted(x: Array, axes: Sequence[int]) -> Array:
    """x with axis `axes[i]` as its i-th; in bf16 on CPU written out, so that XLA cannot fold it into a product.

    XLA:CPU multiplies bf16 matrices with the AMX unit only where their last two axes are the multiplied ones, rows by
    columns. A transpose folded into a product makes it widen both to f32, at a third of the speed. A transpose that
    moves the two halves of an axis together is not folded. Values move as integers: bf16 would be widened and back.
    """
    split = next((axis for axis, size in enumerate(x.shape) if size % 2 == 0), None)
    if split is None or x.dtype != jnp.bfloat16 or jax.default_backend() != "cpu":
        return jnp.transpose(x, axes)
    bits = jax.lax.bitcast_convert_type(x, jnp.uint16)
    halved = bits.reshape(*x.shape[:split], 2, x.shape[split] // 2, *x.shape[split + 1 :])
    order = [place for axis in axes for place in _places(axis, split)]
    moved = halved.transpose(order).reshape([x.shape[axis] for axis in axes])
    return jax.lax.bitcast_convert_type(moved, x.dtype)


def _places(axis: int, split: int) -> tuple[int, ...]:
    """Where an axis lies once `split` has become two."""
    return (split, split + 1) if axis == split else (axis + (axis > split),)
