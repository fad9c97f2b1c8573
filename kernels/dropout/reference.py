"""Addressed dropout in plain JAX: a mask bit is a pure function of its address.

The address of a bit is (stream key, site, epoch, example, occurrence, position inside the example, feature). It is
hashed in two stages, with 32-bit integer operations alone, so that the same code runs inside a Pallas kernel:

1. `token_words`: Threefry-2x32 with 20 rounds (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") turns
   everything up to the position into two words a token. This costs L, not L·D, and is done once for all sites.
2. `feature_bits`: a 32-bit multiply-xorshift hash with Wellons' low-bias constants, keyed by those two words, turns a
   feature index into 32 random bits.

Nothing here depends on batch slot, row width or device. Masks are never stored: the backward pass hashes again.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA  # Skein's key-schedule constant
_GOLDEN = 0x9E3779B9  # 2**32 / golden ratio, odd: multiplying by it spreads small feature indexes
_MIX_1, _MIX_2 = 0x7FEB352D, 0x846CA68B  # Wellons, "Prospecting for hash functions" (2018): bias 1.7e-5


class Address(NamedTuple):
    """Where the random bits of a batch of tokens live.

    key: uint32 [2], words of the dropout stream. epoch: uint32 [].
    example, occurrence, position: uint32 [B, L]; position < 2**16 counts inside the example, occurrence < 2**16 tells
    apart the windows of one example.
    """

    key: Array
    epoch: Array
    example: Array
    occurrence: Array
    position: Array


class Words(NamedTuple):
    """What a token's random bits at one site come from: uint32 [B, L] each."""

    first: Array
    second: Array


def threefry2x32(key: tuple, counter: tuple) -> tuple:
    """One block of Threefry-2x32-20. Words are uint32 arrays, of NumPy or JAX, that broadcast together."""
    k0, k1 = key
    keys = (k0, k1, k0 ^ k1 ^ np.uint32(_PARITY))
    x0, x1 = counter[0] + keys[0], counter[1] + keys[1]
    for block in range(5):
        for rotation in _ROTATIONS[block % 2]:
            x0 = x0 + x1
            x1 = (x1 << np.uint32(rotation)) | (x1 >> np.uint32(32 - rotation))
            x1 = x1 ^ x0
        x0 = x0 + keys[(block + 1) % 3]
        x1 = x1 + keys[(block + 2) % 3] + np.uint32(block + 1)
    return x0, x1


def threefry_loop(key: tuple[Array, Array], counter: tuple[Array, Array]) -> tuple[Array, Array]:
    """`threefry2x32` as a loop of five blocks, on arrays of one shape.

    XLA would write out straight-line rounds anew in every consumer, for every feature; nothing is fused into or out of
    a loop. (LLVM, as jaxlib 0.10.2 has it, also takes time exponential in a chain of rounds that is constant along a
    vector.)
    """
    keys = jnp.stack([*key, key[0] ^ key[1] ^ np.uint32(_PARITY)])
    rotations = jnp.asarray(_ROTATIONS, jnp.uint32)

    def block(number: Array, words: tuple[Array, Array]) -> tuple[Array, Array]:
        x0, x1 = words
        for rotation in rotations[number % 2]:
            x0 = x0 + x1
            x1 = (x1 << rotation) | (x1 >> (np.uint32(32) - rotation))
            x1 = x1 ^ x0
        return x0 + keys[(number + 1) % 3], x1 + keys[(number + 2) % 3] + (number + 1).astype(jnp.uint32)

    return jax.lax.fori_loop(0, 5, block, (counter[0] + key[0], counter[1] + key[1]))


def site_words(address: Address, site: Array | int) -> tuple[Array, Array]:
    """Keys of the shape of `site`, in one epoch: fold_in(fold_in(stream, site), epoch), as `jax.random` has it."""
    site = jnp.asarray(site, jnp.uint32)
    zero, epoch = jnp.zeros_like(site), jnp.broadcast_to(address.epoch, site.shape)
    key = (jnp.broadcast_to(address.key[0], site.shape), jnp.broadcast_to(address.key[1], site.shape))
    return threefry_loop(threefry_loop(key, (zero, site)), (zero, epoch))


def token_words(address: Address, site: Array | int) -> Words:
    """Two words a token, uint32 [B, L] each; [S, B, L] for an array of S sites."""
    shape = jnp.shape(site) + jnp.shape(address.position)

    def wide(word: Array, at: range) -> Array:  # with new axes there
        return jnp.broadcast_to(jnp.expand_dims(word, at), shape)

    sites, tokens = range(jnp.ndim(site)), range(jnp.ndim(site), len(shape))
    key = site_words(address, site)
    counter = (address.example, (address.occurrence << np.uint32(16)) | address.position)
    return Words(
        *threefry_loop(
            (wide(key[0], tokens), wide(key[1], tokens)),
            (wide(counter[0], sites), wide(counter[1], sites)),
        )
    )


def feature_bits(word_0: Array, word_1: Array, feature: Array) -> Array:
    """32 random bits for a feature of a token; all uint32, shapes broadcast."""
    bits = word_0 ^ (feature * np.uint32(_GOLDEN))
    bits = bits ^ (bits >> np.uint32(16))
    bits = bits * np.uint32(_MIX_1)
    bits = bits ^ (bits >> np.uint32(15))
    bits = (bits + word_1) * np.uint32(_MIX_2)
    return bits ^ (bits >> np.uint32(16))


def threshold(rate: float) -> int:
    """Bits below it are dropped: P(drop) = round(rate · 2**32) / 2**32."""
    return round(rate * 2**32)


def keep(words: tuple[Array, Array], feature: Array, rate: float) -> Array:
    """The mask: True where a value is kept. `words` and `feature` uint32, shapes broadcast."""
    return feature_bits(words[0], words[1], feature) >= np.uint32(threshold(rate))


def features(width: int) -> Array:
    """Feature indexes [width] of a hidden vector."""
    return jnp.arange(width, dtype=jnp.uint32)


def dropout(x: Array, words: Words, rate: float) -> Array:
    """x [..., D] with features dropped at `rate` and the rest scaled by 1 / (1 - rate); `words` of its tokens [...]."""
    feature = features(x.shape[-1]).reshape((1,) * (x.ndim - 1) + (-1,))
    return apply_mask(x, (words.first[..., None], words.second[..., None]), feature, rate)


def apply_mask(x: Array, words: tuple[Array, Array], feature: Array, rate: float) -> Array:
    """x where kept, over (1 - rate), else 0. The gradient hashes the mask again instead of storing it."""
    return _masked(x, jnp.asarray(1.0 / (1.0 - rate), x.dtype), words, feature, jnp.uint32(threshold(rate)))


@jax.custom_vjp
@jax.named_scope("dropout")
def _masked(x: Array, scale: Array, words: tuple[Array, Array], feature: Array, limit: Array) -> Array:
    bits = feature_bits(words[0], words[1], feature)
    return jnp.where(bits >= limit, x * scale, jnp.zeros((), x.dtype))


def _masked_forward(x, scale, words, feature, limit):
    return _masked(x, scale, words, feature, limit), (scale, words, feature, limit)


def _masked_backward(saved, gradient):
    return _masked(gradient, *saved), jnp.zeros_like(saved[0]), *(no_gradient(part) for part in saved[1:])


def no_gradient(tree):
    """The gradient of integers (a tree of them): zeros of type float0."""
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, jax.dtypes.float0), tree)


_masked.defvjp(_masked_forward, _masked_backward)
