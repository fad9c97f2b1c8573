"""A dense layer in plain JAX: operands of its products in the compute dtype, sums in f32."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def dense(x: Array, w: Array, bias: Array, dtype: DTypeLike) -> Array:
    """x [..., K] times w [K, N], plus bias [N] -> f32 [..., N]."""
    return _forward(x, w, bias, dtype)[0]


@jax.named_scope("dense")
def _forward(x: Array, w: Array, bias: Array, dtype: DTypeLike):
    x, w = x.astype(dtype), w.astype(dtype)
    y = jnp.einsum("...k,kn->...n", x, w, preferred_element_type=jnp.float32)
    return y + jnp.broadcast_to(bias, y.shape), (x, w)


@jax.named_scope("dense")
def _backward(dtype: DTypeLike, saved, gradient: Array):
    """The bias, too, has the gradient as it was rounded: then nothing but that needs to be stored."""
    x, w = saved
    gradient = gradient.astype(dtype)
    flat_x, flat_gradient = x.reshape(-1, x.shape[-1]), gradient.reshape(-1, gradient.shape[-1])
    by_x = jnp.einsum("...n,kn->...k", gradient, w, preferred_element_type=jnp.float32)
    by_w = jnp.einsum("kt,tn->kn", transposed(flat_x), flat_gradient, preferred_element_type=jnp.float32)
    return by_x, by_w, flat_gradient.astype(jnp.float32).sum(0)


dense.defvjp(_forward, _backward)


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
