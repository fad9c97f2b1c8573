"""Reading rows of large arrays inside a loop, by way of small buffers that the loop carries.

XLA:CPU judges a gather by the size of the array it reads from: from half a megabyte on it shares 64 rows out among
threads, which takes ten times as long as to read them. What is written into a part of a buffer it leaves to one thread,
so rows are gathered into one that has room for a row more, at an offset that it cannot know to be 0. Smaller arrays,
and batches that are worth sharing out, are read as they are.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax.numpy as jnp
from jax import Array

from jaxft.search.tree import put_block, take

Buffers = dict[str, Array]
"""What was read last, by name: [B + 1, ...], of which the first B rows count."""


LARGE_BYTES, LARGE_BATCH = 480 * 2**10, 512
"""Of an array of rows; of single numbers half as much, since two of them are read by one piece of code."""


def empty(arrays: Mapping[str, Array], batch: int) -> Buffers:
    """For rows of those of the arrays [R, ...] that need it."""

    def needed(x: Array) -> bool:
        return batch < LARGE_BATCH and x.nbytes >= (LARGE_BYTES if x.ndim > 1 else LARGE_BYTES // 2)

    return {name: jnp.zeros((batch + 1, *x.shape[1:]), x.dtype) for name, x in arrays.items() if needed(x)}


def last(buffers: Buffers) -> dict[str, Array]:
    """What was read last."""
    return {name: x[:-1] for name, x in buffers.items()}


class Reader:
    """Reads in one turn of a loop. buffers: that the turn got, and then those for the next one. number: any that is not
    negative and that the compiler cannot know."""

    def __init__(self, buffers: Buffers, number: Array) -> None:
        self.buffers = dict(buffers)
        self._zero = jnp.minimum(number, 0)

    def read(self, name: str, x: Array, rows: Array) -> Array:
        """Rows [B, ...] of x, through the buffer of that name if there is one."""
        if name not in self.buffers:
            return take(x, rows)
        self.buffers[name] = put_block(self.buffers[name], self._zero, take(x, rows))
        return self.buffers[name][:-1]
