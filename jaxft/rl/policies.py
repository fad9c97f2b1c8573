"""From action values to a distribution over actions, and a draw from it: exploration against exploitation.

A policy turns values [..., A] and a level (of `schedules.py`) into log-probabilities [..., A]; what it explores by is
the level alone, so that any schedule goes with any policy. Actions that are not valid have probability 0.

    random          all valid actions alike
    greedy          the best one
    epsilon_greedy  the best one, but with probability ε = level any valid one
    boltzmann       pi(a | s) = softmax(Q / T), T = level

A Gaussian policy, for continuous actions, is at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxft import draws

Policy = Callable[[Array, Array, Array], Array]
"""(values [..., A], level [], valid bool [..., A]) -> log-probabilities [..., A]."""

COLDEST = 1e-6
"""Temperature below which Boltzmann's policy is not told from the greedy one."""


class Choice(NamedTuple):
    """What was drawn: action i32 [...]; its log-probability; the distribution's entropy in nats; whether the action is
    the one with the highest value."""

    action: Array
    log_prob: Array
    entropy: Array
    greedy: Array


def random(values: Array, level: Array, valid: Array) -> Array:
    return jnp.log(_alike(valid))


def greedy(values: Array, level: Array, valid: Array) -> Array:
    return jnp.where(_best(values, valid), 0.0, -jnp.inf)


def epsilon_greedy(values: Array, level: Array, valid: Array) -> Array:
    return jnp.log(level * _alike(valid) + (1 - level) * _best(values, valid))


def boltzmann(values: Array, level: Array, valid: Array) -> Array:
    masked = jnp.where(valid, values, -jnp.inf)
    scaled = (masked - masked.max(-1, keepdims=True)) / jnp.maximum(level, COLDEST)
    return jax.nn.log_softmax(scaled)


POLICIES: dict[str, Policy] = {
    "random": random,
    "greedy": greedy,
    "epsilon_greedy": epsilon_greedy,
    "boltzmann": boltzmann,
}


def choose(words: Array, log_probs: Array) -> Choice:
    """One action of each distribution [..., A]. words: uint32 [..., 2]."""
    action = jnp.argmax(log_probs + draws.gumbel(words, log_probs.shape[-1]), axis=-1).astype(jnp.int32)
    chosen = jnp.take_along_axis(log_probs, action[..., None], -1)[..., 0]
    return Choice(action, chosen, entropy(log_probs), chosen == log_probs.max(-1))


def entropy(log_probs: Array) -> Array:
    """-sum p log p over the last axis, in nats."""
    # before the product: its gradient is not a number where log p is -inf, and no mask afterwards makes it one
    safe = jnp.where(jnp.isfinite(log_probs), log_probs, 0.0)
    return -jnp.sum(jnp.exp(safe) * safe, axis=-1)


def _alike(valid: Array) -> Array:
    """f32 [..., A]: all valid actions with the same probability."""
    ones = valid.astype(jnp.float32)
    return ones / ones.sum(-1, keepdims=True)


def _best(values: Array, valid: Array) -> Array:
    """f32 [..., A]: 1 at the best valid action, the first of several."""
    best = jnp.argmax(jnp.where(valid, values, -jnp.inf), axis=-1)
    return jax.nn.one_hot(best, values.shape[-1], dtype=values.dtype)


# --- continuous actions ----------------------------------------------------------------------------------------------

_HALF_LOG_2PI = float(0.5 * np.log(2 * np.pi))
GAUSSIAN_ENTROPY = 0.5 + _HALF_LOG_2PI
"""Of a normal distribution with deviation 1, in nats."""


def gaussian(words: Array, mean: Array, log_std: Array) -> Choice:
    """A draw from independent normal distributions [..., D], with log_std [D] or [..., D]. The greedy action is the
    mean, which is never drawn."""
    log_std = jnp.broadcast_to(log_std, mean.shape)
    action = mean + jnp.exp(log_std) * draws.normal(words, mean.shape[-1])
    entropy = jnp.sum(log_std + GAUSSIAN_ENTROPY, axis=-1)
    return Choice(action, gaussian_log_prob(action, mean, log_std), entropy, jnp.zeros(entropy.shape, jnp.bool_))


def gaussian_log_prob(action: Array, mean: Array, log_std: Array) -> Array:
    """Log-density [...] of actions [..., D]."""
    log_std = jnp.broadcast_to(log_std, mean.shape)
    deviation = (action - mean) * jnp.exp(-log_std)
    return jnp.sum(-0.5 * jnp.square(deviation) - log_std - _HALF_LOG_2PI, axis=-1)
