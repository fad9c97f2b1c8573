"""Random numbers inside a search: the bits that `jax.random` gives, in straight-line code.

On CPU `jax.random` runs Threefry as a loop of small kernels, which for the few numbers of one step of a search costs
many times what they are worth, and takes ten times as long to compile. Keys of another kind than Threefry's,
`jax_threefry_partitionable` off, or 64-bit numbers go to `jax.random` itself. Keys are typed ones or pairs of
words, as everywhere in JAX.

Whatever both words of a block are wanted for lies in one array, and each entry selects its word: two arrays, or a
concatenation, would be two copies of the rounds.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend.random import define_prng_impl

from jaxft.kernels.dropout.reference import threefry2x32

Words = tuple[Array, Array]
"""Keys as two arrays of words, uint32 [...] each."""

_ONE = 0x3F800000
"""Bits of 1.0f."""
_rounds = jax.jit(threefry2x32)
"""Traced once for each shape; the compiler has it as if it were written out."""


def is_plain(keys: Array) -> bool:
    """Whether the numbers are drawn here."""
    typed = jnp.issubdtype(keys.dtype, jax.dtypes.prng_key)
    impl = str(jax.random.key_impl(keys)) if typed else str(jax.config.jax_default_prng_impl)  # type: ignore[attr-defined]
    wide = bool(jax.config.jax_enable_x64)  # type: ignore[attr-defined]
    return "threefry2x32" in impl and bool(jax.config.jax_threefry_partitionable) and not wide  # type: ignore[attr-defined]


def straight(keys: Array) -> Array:
    """The same keys, of which `jax.random` makes the same numbers by straight-line code."""
    return jax.random.wrap_key_data(_data(keys), impl=_STRAIGHT) if is_plain(keys) else keys


# --- keys from keys --------------------------------------------------------------------------------------------------


def split_each(keys: Array, after: Array) -> tuple[Array, Array]:
    """Keys [B, ...] -> two of each, as `jax.random.split` makes them. after: a number, not negative, that the compiler
    cannot know; nothing is computed before it is."""
    if not is_plain(keys):
        both = jax.vmap(jax.random.split)(keys)
        return both[:, 0], both[:, 1]
    first, second = (hashed(words(keys), unknown(number, after)) for number in (0, 1))
    return _like(keys, first), _like(keys, second)


def split(key: Array, count: int) -> Array:
    """As `jax.random.split` of one key."""
    if not is_plain(key):
        return jax.random.split(key, count)
    return _like(key, hashed(words(key), jnp.arange(count, dtype=jnp.uint32)))


def split_twice(key: Array, count: int) -> tuple[Array, Array]:
    """`split` of a key, and of the first that this gives."""
    if not is_plain(key):
        first = jax.random.split(key, count)
        return first, jax.random.split(first[0], count)

    def turn(data: Array, _: None) -> tuple[Array, Array]:
        made = hashed((data[0], data[1]), jnp.arange(count, dtype=jnp.uint32))
        return made[0], made

    _, both = jax.lax.scan(turn, _data(key), None, length=2)  # in a loop: rounds of rounds take very long to compile
    return _like(key, both[0]), _like(key, both[1])


def fold_in_each(keys: Array, numbers: Array) -> Array:
    """`jax.random.fold_in` of keys [B, ...] with numbers [B]."""
    if not is_plain(keys):
        return jax.vmap(jax.random.fold_in)(keys, numbers)
    # Two arrays: written into the array that the keys were read from, one would have XLA copy that for a single tree.
    return _like(keys, jnp.stack(block(words(keys), numbers.astype(jnp.uint32)), axis=-1))


def uniform(key: Array, count: int) -> Array:
    """f32 [count] in [0, 1), as `jax.random.uniform` draws them from one key."""
    if not is_plain(key):
        return jax.random.uniform(key, (count,))
    high, low = block(words(key), jnp.arange(count, dtype=jnp.uint32))
    return unit(high ^ low)


# --- words -----------------------------------------------------------------------------------------------------------


def words(keys: Array) -> Words:
    """Of typed keys [...], or of pairs of words [..., 2]."""
    data = _data(keys)
    return data[..., 0], data[..., 1]


def block(key: Words, counter: Array | int) -> Words:
    """Threefry of a counter, uint32, below 2 ** 32: what `jax.random` makes of one entry of whatever it draws."""
    shape = jnp.broadcast_shapes(key[0].shape, jnp.shape(counter))
    counter = jnp.broadcast_to(jnp.asarray(counter, jnp.uint32), shape)
    high, low = (jnp.broadcast_to(word, shape) for word in key)
    return _rounds((high, low), (jnp.zeros_like(counter), counter))


def hashed(key: Words, counter: Array | int, axis: int = -1) -> Array:
    """Both words of `block` along a new axis, the first or the last: uint32 [..., 2] or [2, ...]."""
    shape = jnp.broadcast_shapes(key[0].shape, jnp.shape(counter))
    high, low, counter = (
        jnp.expand_dims(jnp.broadcast_to(jnp.asarray(x, jnp.uint32), shape), axis) for x in (*key, counter)
    )
    wide = (2, *shape) if axis == 0 else (*shape, 2)
    which = jax.lax.broadcasted_iota(jnp.int32, wide, axis % len(wide))
    high, low = block((jnp.broadcast_to(high, wide), jnp.broadcast_to(low, wide)), jnp.broadcast_to(counter, wide))
    return jnp.where(which == 0, high, low)


def unknown(number: int, after: Array) -> Array:
    """uint32 [], the number, but the compiler cannot know it before it has `after`, an integer that is not negative."""
    return jnp.uint32(number) + jnp.minimum(after, 0).astype(jnp.uint32)


def unit(bits: Array) -> Array:
    """f32 in [0, 1) of 32 bits each, as `jax.random.uniform` makes them."""
    return jax.lax.bitcast_convert_type((bits >> 9) | jnp.uint32(_ONE), jnp.float32) - 1.0


def _data(keys: Array) -> Array:
    return jax.random.key_data(keys) if jnp.issubdtype(keys.dtype, jax.dtypes.prng_key) else keys


def _like(keys: Array, data: Array) -> Array:
    if not jnp.issubdtype(keys.dtype, jax.dtypes.prng_key):
        return data
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(keys))


# --- for jax.random --------------------------------------------------------------------------------------------------


def _numbered(shape: tuple[int, ...]) -> Array:
    return jnp.arange(math.prod(shape), dtype=jnp.uint32).reshape(shape)


def _split(key: Array, shape: tuple[int, ...]) -> Array:
    return hashed((key[0], key[1]), _numbered(shape))


def _bits(key: Array, width: int, shape: tuple[int, ...]) -> Array:
    if width != 32:
        return jax.random.bits(jax.random.wrap_key_data(key, impl="threefry2x32"), shape, f"uint{width}")
    high, low = block((key[0], key[1]), _numbered(shape))
    return high ^ low


def _unused(*arguments: Any) -> Array:
    raise NotImplementedError("these keys are for drawing from")


_STRAIGHT = define_prng_impl(
    key_shape=(2,), seed=_unused, split=_split, random_bits=_bits, fold_in=_unused, name="straight", tag="jaxft"
)
