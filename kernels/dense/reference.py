"""A product with a matrix of weights, operands in the compute dtype, summed in f32: plain JAX."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def dot(x: Array, w: Array, dtype: DTypeLike) -> Array:
    """x [..., K] times w [K, N] -> f32 [..., N]; operands (of the gradient's products too) are rounded to `dtype`."""
    return _forward(x, w, dtype)[0]


def _forward(x: Array, w: Array, dtype: DTypeLike):
    x, w = x.astype(dtype), w.astype(dtype)
    return jnp.einsum("...k,kn->...n", x, w, preferred_element_type=jnp.float32), (x, w)


def _backward(dtype: DTypeLike, saved, gradient: Array):
    x, w = saved
    gradient = gradient.astype(dtype)
    flat_x, flat_gradient = x.reshape(-1, x.shape[-1]), gradient.reshape(-1, gradient.shape[-1])
    x_gradient = jnp.einsum("...n,kn->...k", gradient, w, preferred_element_type=jnp.float32)
    w_gradient = jnp.einsum("kt,tn->kn", transposed(flat_x), flat_gradient, preferred_element_type=jnp.float32)
    return x_gradient, w_gradient


dot.defvjp(_forward, _backward)


def transposed(x: Array) -> Array:
    """x [..., T, K] -> [..., K, T]; in bf16 on CPU written out, so that XLA cannot fold it into a product.

    XLA:CPU multiplies bf16 matrices with the AMX unit only where the left one's last axis is contracted; a folded
    transpose sends it to f32 code, at a third of the speed. A concatenation of two halves is not folded; as integers
    they are moved as they are, where bf16 would be widened to f32 and back.
    """
    if x.dtype != jnp.bfloat16 or jax.default_backend() != "cpu":
        return jnp.swapaxes(x, -1, -2)
    bits, half = jax.lax.bitcast_convert_type(x, jnp.uint16), x.shape[-2] // 2
    parts = (jnp.swapaxes(part, -1, -2) for part in (bits[..., :half, :], bits[..., half:, :]))
    return jax.lax.bitcast_convert_type(jnp.concatenate([*parts], axis=-1), x.dtype)
