"""Random numbers inside a search: the bits that `jax.random` gives, in straight-line code.

On CPU `jax.random` runs Threefry as a loop of small kernels, which for the few numbers of one step of a search costs
many times what they are worth. Keys of another kind than Threefry's, or `jax_threefry_partitionable` off, go to
`jax.random` itself. Keys are typed ones or pairs of words, as everywhere in JAX.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from jaxft.kernels.dropout.reference import threefry2x32

_ONE = 0x3F800000
"""Bits of 1.0f."""


def split_each(keys: Array, after: Array) -> tuple[Array, Array]:
    """Keys [B, ...] -> two of each, as `jax.random.split` makes them. after: a number, not negative, that the compiler
    cannot know; nothing is computed before it is."""
    if not _is_plain(keys):
        both = jax.vmap(jax.random.split)(keys)
        return both[:, 0], both[:, 1]
    counter = jnp.arange(2, dtype=jnp.uint32)[:, None] + jnp.minimum(after, 0).astype(jnp.uint32)
    high, low = (jnp.broadcast_to(word, (2, word.size)) for word in _words(keys))
    counter = jnp.broadcast_to(counter, high.shape)
    made = threefry2x32((high, low), (jnp.zeros_like(counter), counter))
    return _like(keys, (made[0][0], made[1][0])), _like(keys, (made[0][1], made[1][1]))


def split(key: Array, count: int) -> Array:
    """As `jax.random.split` of one key."""
    if not _is_plain(key):
        return jax.random.split(key, count)
    counter = jnp.arange(count, dtype=jnp.uint32)
    return _like(key, threefry2x32(_words(key), (jnp.zeros_like(counter), counter)))


def fold_in_each(keys: Array, numbers: Array) -> Array:
    """`jax.random.fold_in` of keys [B, ...] with numbers [B]."""
    if not _is_plain(keys):
        return jax.vmap(jax.random.fold_in)(keys, numbers)
    numbers = numbers.astype(jnp.uint32)
    return _like(keys, threefry2x32(_words(keys), (jnp.zeros_like(numbers), numbers)))


def uniform(key: Array, count: int) -> Array:
    """f32 [count] in [0, 1), as `jax.random.uniform` draws them from one key."""
    if not _is_plain(key):
        return jax.random.uniform(key, (count,))
    counter = jnp.arange(count, dtype=jnp.uint32)
    high, low = threefry2x32(_words(key), (jnp.zeros_like(counter), counter))
    return jax.lax.bitcast_convert_type(((high ^ low) >> 9) | jnp.uint32(_ONE), jnp.float32) - 1.0


def _is_plain(keys: Array) -> bool:
    typed = jnp.issubdtype(keys.dtype, jax.dtypes.prng_key)
    impl = str(jax.random.key_impl(keys)) if typed else str(jax.config.jax_default_prng_impl)  # type: ignore[attr-defined]
    return "threefry2x32" in impl and bool(jax.config.jax_threefry_partitionable)  # type: ignore[attr-defined]


def _words(keys: Array) -> tuple[Array, Array]:
    data = jax.random.key_data(keys) if jnp.issubdtype(keys.dtype, jax.dtypes.prng_key) else keys
    return data[..., 0], data[..., 1]


def _like(keys: Array, words: tuple[Array, Array]) -> Array:
    data = jnp.stack(words, axis=-1)
    return jax.random.wrap_key_data(data) if jnp.issubdtype(keys.dtype, jax.dtypes.prng_key) else data
