"""A replay buffer on the device: the last so many steps, drawn from at random (Lin 1992, Mnih et al. 2015).

A ring of `capacity` steps, written an iteration's [T, n] at a time; `capacity` is a whole number of those, so that a
write is one block.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxft import draws


class Buffer(NamedTuple):
    """data: leaves [capacity, ...]. added: i32 [], steps written so far."""

    data: Any
    added: Array

    @property
    def capacity(self) -> int:
        return jax.tree.leaves(self.data)[0].shape[0]

    @property
    def size(self) -> Array:
        return jnp.minimum(self.added, self.capacity)


def empty(like: Any, capacity: int) -> Buffer:
    """A buffer of steps of those shapes and types (of one step)."""
    return Buffer(jax.tree.map(lambda x: jnp.zeros((capacity, *x.shape), x.dtype), like), jnp.int32(0))


def add(buffer: Buffer, steps: Any) -> Buffer:
    """With steps [T, n, ...] written over the oldest ones."""
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), steps)
    count = jax.tree.leaves(flat)[0].shape[0]
    at = buffer.added % buffer.capacity
    data = jax.tree.map(lambda old, new: jax.lax.dynamic_update_slice_in_dim(old, new, at, 0), buffer.data, flat)
    return Buffer(data, buffer.added + count)


def sample(buffer: Buffer, count: int, words: Array) -> Any:
    """`count` steps, each any of those there with the same probability, with replacement. words: uint32 [2]."""
    chosen = draws.integers(words, count, buffer.size)
    return jax.tree.map(lambda x: x[chosen], buffer.data)
