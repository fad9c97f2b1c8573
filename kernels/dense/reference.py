"""A dense layer in plain JAX: operands of its products in the compute dtype, sums in f32."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxft.kernels.layout import permuted


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
    by_w = jnp.einsum("kt,tn->kn", permuted(flat_x, (1, 0)), flat_gradient, preferred_element_type=jnp.float32)
    return by_x, by_w, flat_gradient.astype(jnp.float32).sum(0)


dense.defvjp(_forward, _backward)
