"""Random numbers with addresses, on the device: of words uint32 [..., 2], one pair for each thing that draws.

Words come from a stream (`prng.device_words`) with integers folded in: the environment's number, its step, what is
drawn. So a number depends on neither how many environments there are nor on where they are computed.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxft.kernels.dropout.reference import threefry_loop

_ONE = np.uint32(0x3F800000)
"""Bits of 1.0f."""


def fold_in(words: Array, number: ArrayLike) -> Array:
    """`jax.random.fold_in` of words [..., 2] with numbers [...], which broadcast together."""
    number = jnp.asarray(number).astype(jnp.uint32)
    shape = jnp.broadcast_shapes(words.shape[:-1], number.shape)
    high, low = (jnp.broadcast_to(words[..., at], shape) for at in (0, 1))
    number = jnp.broadcast_to(number, shape)
    return jnp.stack(threefry_loop((high, low), (jnp.zeros_like(number), number)), axis=-1)


def keys(words: Array) -> Array:
    """Typed keys [...] with these words, for functions that take those."""
    return jax.random.wrap_key_data(words, impl="threefry2x32")


def bits(words: Array, count: int) -> Array:
    """uint32 [..., count]."""
    counter = jnp.arange(count, dtype=jnp.uint32)
    shape = (*words.shape[:-1], count)
    high, low = (jnp.broadcast_to(words[..., at, None], shape) for at in (0, 1))
    counter = jnp.broadcast_to(counter, shape)
    first, second = threefry_loop((high, low), (jnp.zeros_like(counter), counter))
    return first ^ second


def uniform(words: Array, count: int) -> Array:
    """f32 [..., count] in [0, 1)."""
    return jax.lax.bitcast_convert_type((bits(words, count) >> np.uint32(9)) | _ONE, jnp.float32) - 1.0


def normal(words: Array, count: int) -> Array:
    """Standard normal numbers, f32 [..., count]."""
    # uniform in (-1, 1): the smallest step above -1 keeps erf_inv finite
    low = np.nextafter(np.float32(-1.0), np.float32(0.0), dtype=np.float32)
    spread = jnp.maximum(low, uniform(words, count) * 2.0 + low)
    return np.float32(np.sqrt(2.0)) * jax.lax.erf_inv(spread)


def gumbel(words: Array, count: int) -> Array:
    """Standard Gumbel numbers, f32 [..., count]: argmax(logits + gumbel) is a draw from softmax(logits)."""
    tiny = np.finfo(np.float32).tiny
    return -jnp.log(-jnp.log(jnp.maximum(uniform(words, count), tiny)))


def integers(words: Array, count: int, below: Array | int) -> Array:
    """int32 [..., count] in 0 .. below - 1, each as likely but for a share of below / 2**32."""
    wide = bits(words, count)
    return (wide % jnp.asarray(below).astype(jnp.uint32)).astype(jnp.int32)


def permutation(words: Array, count: int) -> Array:
    """int32 [count]: 0 .. count - 1 in a random order. words: uint32 [2].

    Random numbers with their place in the low bits are sorted: one operand, which XLA on CPU sorts several times as
    fast as an argsort's two. 32 - ceil(log2 count) bits are random; where two agree in them, the lower place is first.
    """
    low = np.uint32((1 << max(count - 1, 1).bit_length()) - 1)
    placed = (bits(words, count) & ~low) | jnp.arange(count, dtype=jnp.uint32)
    return (jnp.sort(placed) & low).astype(jnp.int32)
