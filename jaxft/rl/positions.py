"""Replay buffer of positions of finished games, on the device: a ring that forgets the oldest first."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array


class Positions(NamedTuple):
    """Rows of the ring, and how many were ever written (modulo 2**31, which none will reach)."""

    observations: Array  # f32 [R, ...]
    weights: Array  # f32 [R, A], of the search there
    results: Array  # f32 [R], to who was to move: 1 won, 0 drawn, -1 lost
    written: Array  # i32 []

    @property
    def capacity(self) -> int:
        return self.results.shape[0]

    @property
    def filled(self) -> Array:
        """Rows in use, i32 []."""
        return jnp.minimum(self.written, self.capacity)


def empty(capacity: int, shape: tuple[int, ...], num_actions: int) -> Positions:
    """No positions, and room for `capacity`."""
    return Positions(
        jnp.zeros((capacity, *shape)), jnp.zeros((capacity, num_actions)), jnp.zeros(capacity), jnp.int32(0)
    )


def write(now: Positions, observations: Array, weights: Array, results: Array, chosen: Array) -> Positions:
    """Takes the chosen [P] of positions [P, ...], in order; P must not exceed the capacity."""
    number = jnp.cumsum(chosen, dtype=jnp.int32) - 1
    rows = jnp.where(chosen, (now.written + number) % now.capacity, now.capacity)  # outside: dropped
    return Positions(
        now.observations.at[rows].set(observations, mode="drop"),
        now.weights.at[rows].set(weights, mode="drop"),
        now.results.at[rows].set(results, mode="drop"),
        now.written + jnp.sum(chosen, dtype=jnp.int32),
    )
