"""Activation functions of BERT's feed-forward block, by the names that config.json uses.

`gelu` (the exact one, https://arxiv.org/abs/1606.08415) keeps only its input for the backward pass: without that, XLA
on CPU stores several arrays of [B, L, F]. It is built on erf, which compiles to faster CPU code than erfc.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def _normal_cdf(x: jax.Array) -> jax.Array:
    return 0.5 * (1.0 + jax.lax.erf(x * (1 / math.sqrt(2))))


@jax.custom_vjp
def gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """x · Φ(x), with Φ the standard normal distribution function."""
    return x * _normal_cdf(x)


def _gelu_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return gelu(x), x


def _gelu_backward(x: jax.Array, dy: jax.Array) -> tuple[jax.Array]:
    density = jnp.exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi))
    return (dy * (_normal_cdf(x) + x * density),)


gelu.defvjp(_gelu_forward, _gelu_backward)


def gelu_tanh(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The tanh approximation of gelu."""
    return jax.nn.gelu(x, approximate=True)


ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": gelu,
    "gelu_new": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "relu": jax.nn.relu,
}
