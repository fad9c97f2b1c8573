"""Bandits with K arms of fixed means, one episode of many pulls: where bounds of regret are known.

`bernoulli_arms`: rewards 0 or 1. `normal_arms`: rewards N(mean, 1). There is nothing to observe but a 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxft import draws
from jaxft.errors import UserError
from jaxft.rl.bandits import Feedback, Offer
from jaxft.rl.env import Discrete, Outcome

NAMES = {
    "bernoulli_arms": "a bandit with 10 arms, rewards 0 or 1",
    "normal_arms": "a bandit with 10 arms, rewards with normal noise",
}

MEANS = (0.9, 0.8, 0.8, 0.7, 0.7, 0.6, 0.6, 0.5, 0.4, 0.3)


@dataclass(frozen=True)
class Arms:
    """The environment; its state is nothing."""

    name: str
    means: tuple[float, ...]
    max_steps: int
    threshold: float | None = None

    @property
    def actions(self) -> Discrete:
        return Discrete(len(self.means))

    def reset(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(steps taken, observation f32 [1]) of a new episode. key: consumed."""
        return jnp.int32(0), jnp.ones(1, jnp.float32)

    def step(self, state: jax.Array, action: jax.Array, key: jax.Array) -> Outcome:
        """The outcome of an action; the last one truncates the episode. key: consumed."""
        mean, words = self.expected_reward(state)[action], jax.random.key_data(key)
        if self.name == "bernoulli_arms":
            reward = (draws.uniform(words, 1)[0] < mean).astype(jnp.float32)
        else:
            reward = mean + draws.normal(words, 1)[0]
        after = state + 1
        truncated = after >= self.max_steps
        return Outcome(after, jnp.ones(1, jnp.float32), reward, jnp.zeros_like(truncated), truncated)

    def offer(self, state: jax.Array) -> Offer:
        """All arms; the context of one is its unit vector."""
        count = len(self.means)
        return Offer(jnp.arange(count, dtype=jnp.int32), jnp.eye(count, dtype=jnp.float32))

    def choose(self, scores: jax.Array) -> jax.Array:
        """The arm of highest score."""
        return jnp.argmax(scores).astype(jnp.int32)

    def feedback(self, state: jax.Array, action: jax.Array, outcome: Outcome) -> Feedback:
        """The reward of the arm that was chosen."""
        return Feedback.of_one(self.offer(state), action, outcome.reward)

    def expected_reward(self, state: jax.Array) -> jax.Array:
        """Of each arm, f32 [K]."""
        return jnp.asarray(self.means, jnp.float32)


def make(name: str, *, means: Sequence[float] = MEANS, max_steps: int = 10_000) -> Arms:
    """means: of the arms; chances for `bernoulli_arms`."""
    if len(means) < 2 or (name == "bernoulli_arms" and not all(0 <= mean <= 1 for mean in means)):
        raise UserError("rl.env.means", f"are {list(means)}", "two or more, for bernoulli_arms from 0 to 1")
    if max_steps < 1:
        raise UserError("rl.env.max_steps", f"must be at least 1, is {max_steps}")
    return Arms(name, tuple(means), max_steps)
