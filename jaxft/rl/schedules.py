"""How much is explored when: the level (an ε, a temperature) as a pure function of the step and of the returns so far.

constant     start
linear       from start to end over the first share `over` of the steps, then end
exponential  start · (end / start) ** progress, the same way
adaptive     from start to end as the mean return goes from where it began to the environment's threshold, and back
             where it falls again: explore as long as there is something to find
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array

from jaxft.rl.recipe import Explore

SMOOTHING = 0.05
"""Weight of a newly finished episode in the running mean return."""


def progress(explore: Explore, step: Array, steps: int) -> Array:
    """How far the schedule is after so many environment steps of `steps`, 0 .. 1."""
    return jnp.clip(step.astype(jnp.float32) / max(1.0, explore.over * steps), 0.0, 1.0)


def closeness(mean_return: Array, first_return: Array, threshold: float) -> Array:
    """How far the mean return has come from what it was at first to the threshold, 0 .. 1; 1 wherever it is there."""
    distance = jnp.maximum(threshold - first_return, 1e-6)
    way = jnp.clip((mean_return - first_return) / distance, 0.0, 1.0)
    return jnp.where(mean_return >= threshold, 1.0, way)


def level(explore: Explore, done: Array, close: Array) -> Array:
    """The level at `done` (of `progress`) of the way, `close` (of `closeness`) to the goal."""
    return LEVELS[explore.schedule](explore, done, close)


def _constant(explore: Explore, done: Array, close: Array) -> Array:
    return jnp.full_like(done, explore.start)


def _linear(explore: Explore, done: Array, close: Array) -> Array:
    return explore.start + (explore.end - explore.start) * done


def _exponential(explore: Explore, done: Array, close: Array) -> Array:
    return explore.start * (explore.end / explore.start) ** done


def _adaptive(explore: Explore, done: Array, close: Array) -> Array:
    return explore.start + (explore.end - explore.start) * close


LEVELS: dict[str, Callable[[Explore, Array, Array], Array]] = {
    "constant": _constant,
    "linear": _linear,
    "exponential": _exponential,
    "adaptive": _adaptive,
}
