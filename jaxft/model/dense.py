"""Matrix products in the compute dtype, summed in f32."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def dot(x: Array, w: Array, dtype: DTypeLike) -> Array:
    """x [..., K] times w [K, N] -> f32 [..., N]; operands (of the gradient's products too) are rounded to `dtype`."""
    return jnp.einsum("...k,kn->...n", x.astype(dtype), w.astype(dtype), preferred_element_type=jnp.float32)


def _forward(x: Array, w: Array, dtype: DTypeLike):
    x, w = x.astype(dtype), w.astype(dtype)
    return jnp.einsum("...k,kn->...n", x, w, preferred_element_type=jnp.float32), (x, w)


def _backward(dtype: DTypeLike, saved, gradient: Array):
    x, w = saved
    gradient = gradient.astype(dtype)
    flat_x, flat_gradient = x.reshape(-1, x.shape[-1]), gradient.reshape(-1, gradient.shape[-1])
    x_gradient = jnp.einsum("...n,kn->...k", gradient, w, preferred_element_type=jnp.float32)
    w_gradient = jnp.einsum("tk,tn->kn", flat_x, flat_gradient, preferred_element_type=jnp.float32)
    return x_gradient, w_gradient


dot.defvjp(_forward, _backward)
