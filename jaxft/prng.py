"""Randomness with addresses: named streams, derived keys, random access permutations.

A random number is a pure function of (stream seed, what it is for, which example or state it belongs to). Keys are
Threefry-2x32 (Salmon et al. 2011) words; only `fold_in` derives one from another, and no key is ever advanced. Words
are pairs of uint32, on the host (NumPy) or the device (JAX); `words` and `fold_in` give what `jax.random.key` and
`jax.random.fold_in` give.
"""

from __future__ import annotations

import hashlib

import jax
import numpy as np

from jaxft.errors import UserError
from jaxft.kernels.dropout.reference import threefry2x32
from jaxft.recipe import MAX_SEED

STREAMS = ("init", "order", "dropout", "noise", "explore", "subsample", "bootstrap", "environment")
_ROUNDS = 6

Words = tuple[np.ndarray, np.ndarray]


def seed_words(seed: int) -> Words:
    """The words of `jax.random.key(seed, impl="threefry2x32")`; UserError outside 0 .. 2**32 - 1."""
    if not 0 <= seed <= MAX_SEED:
        raise UserError("seed", f"must lie between 0 and {MAX_SEED}, is {seed}")
    return _word(0), _word(seed)


def fold_in(words: Words, number: int | np.ndarray) -> Words:
    """`jax.random.fold_in` on the host; a number array gives arrays of words."""
    number = np.asarray(number, np.uint32)
    with np.errstate(over="ignore"):  # wrapping is the arithmetic; NumPy warns about it for scalars only
        return threefry2x32(words, (np.zeros_like(number), number))


def stream(name: str, seed: int) -> Words:
    """The key words of a named stream: the seed's key with the 64-bit tag of the name folded in as two words."""
    high, low = stream_tag(name)
    return fold_in(fold_in(seed_words(seed), high), low)


def stream_tag(name: str) -> tuple[int, int]:
    """First 64 bits of SHA-256 of "jaxft/v1/<name>", as two words."""
    if name not in STREAMS:
        raise ValueError(f"unknown stream {name!r}; known: {', '.join(STREAMS)}")
    digest = hashlib.sha256(f"jaxft/v1/{name}".encode()).digest()
    return int.from_bytes(digest[:4], "big"), int.from_bytes(digest[4:8], "big")


def path_words(words: Words, path: str) -> Words:
    """The key of a named thing (a parameter's path), by 64 bits of the SHA-256 of its name."""
    digest = hashlib.sha256(path.encode()).digest()
    return fold_in(fold_in(words, int.from_bytes(digest[:4], "big")), int.from_bytes(digest[4:8], "big"))


def device_words(words: Words) -> jax.Array:
    """uint32 [2], for a compiled function."""
    return jax.numpy.asarray(np.stack(words), jax.numpy.uint32)


def key(words: Words) -> jax.Array:
    """A typed `jax.random` key with these words."""
    return jax.random.wrap_key_data(device_words(words), impl="threefry2x32")


def permutation(words: Words, size: int, positions: np.ndarray) -> np.ndarray:
    """Where a random permutation of `size` items puts `positions`, without building it.

    A balanced Feistel network (Luby and Rackoff 1988) of 6 Threefry rounds over the next even power of two, walked
    until it lands below `size` (Black and Rogaway 2002). positions: int [P], each in 0 .. size - 1. Returns int64
    [P].
    """
    positions = np.asarray(positions, np.int64)
    if positions.size and not (positions.min() >= 0 and positions.max() < size):
        raise ValueError(f"positions must lie in 0 .. {size - 1}")
    half_bits = max(1, (max(size - 1, 1).bit_length() + 1) // 2)
    result = _feistel(words, positions, half_bits)
    outside = result >= size
    while outside.any():
        result[outside] = _feistel(words, result[outside], half_bits)
        outside = result >= size
    return result


def _feistel(words: Words, values: np.ndarray, half_bits: int) -> np.ndarray:
    mask = np.uint32((1 << half_bits) - 1)
    left = (values >> half_bits).astype(np.uint32)
    right = values.astype(np.uint32) & mask
    for number in range(_ROUNDS):
        keys = tuple(np.broadcast_to(word, right.shape) for word in words)
        bits, _ = threefry2x32(keys, (np.full_like(right, number), right))
        left, right = right, left ^ (bits & mask)
    return (left.astype(np.int64) << half_bits) | right.astype(np.int64)


def _word(value: int) -> np.ndarray:
    return np.asarray(value, np.uint32)
