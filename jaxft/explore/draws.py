"""Random numbers of a searcher, on the host: each a function of words and of its place, so nothing draws in sequence.

Words come from a stream, mostly "explore", with integers folded in: what is drawn, and for which of them. They may be
arrays of words [...]; what is drawn is then [..., count].
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from jaxft import prng
from jaxft.kernels.dropout.reference import threefry2x32

_BLOCK = 64
"""Schedules that are drawn at once."""


def fold(words: prng.Words, *numbers: int | np.ndarray) -> prng.Words:
    """Words of an address: its numbers folded in, one after another; the last may be an array."""
    for number in numbers:
        words = prng.fold_in(words, number)
    return words


def bits(words: prng.Words, count: int) -> np.ndarray:
    """uint64 [..., count]."""
    high, low = (np.asarray(word, np.uint32)[..., None] for word in words)
    counter = np.arange(count, dtype=np.uint32)
    first, second = threefry2x32((high, low), (np.zeros_like(counter), counter))
    return (first.astype(np.uint64) << np.uint64(32)) | second.astype(np.uint64)


def integers(words: prng.Words, count: int, below: int) -> np.ndarray:
    """int64 [..., count] in 0 .. below - 1, each as likely but for a share of below / 2**64."""
    if not 0 < below <= 2**32:
        raise ValueError(f"below must lie between 1 and 2**32, is {below}")
    wide, size, half = bits(words, count), np.uint64(below), np.uint64(32)
    # the upper word of the 96-bit product (Lemire 2019), in two halves that fit 64 bits
    low = ((wide & np.uint64(0xFFFFFFFF)) * size) >> half
    return (((wide >> half) * size + low) >> half).astype(np.int64)


def uniform(words: prng.Words, count: int) -> np.ndarray:
    """f64 [..., count] in [0, 1), multiples of 2**-53."""
    return (bits(words, count) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def permutation(words: prng.Words, count: int) -> np.ndarray:
    """int64 [..., count]: 0 .. count - 1 in a random order.

    Sorts 64-bit numbers, which for the few items of an action space is closer to uniform than the Feistel network of
    `prng.permutation`, and costs one block.
    """
    return np.argsort(bits(words, count), axis=-1, kind="stable")


def schedules(words: prng.Words, num_actions: int, depth: int) -> Iterator[tuple[int, ...]]:
    """Schedules of `depth` independent uniform actions, none twice, until there are no more."""
    drawn: set[tuple[int, ...]] = set()
    start = 0
    while len(drawn) < num_actions**depth:
        numbers = np.arange(start, start + _BLOCK)
        for row in integers(fold(words, numbers), depth, num_actions).tolist():
            schedule = tuple(row)
            if schedule not in drawn:
                drawn.add(schedule)
                yield schedule
        start += _BLOCK
