"""Tabular Q-learning (Watkins 1989): Q(s, a) ← Q(s, a) + η (r + γ (1 - terminated) max_a' Q(s', a') - Q(s, a)).

The table is a parameter like any other, and η the learning rate of the optimiser (`sgd`): the gradient of half the
squared error, with the errors of one state and action averaged over an iteration's steps, is just that difference. With
a rate that goes to 0 and every action tried again and again, Q goes to its best value (Watkins and Dayan 1992).
There is one group of environments only (`train.micro_batches: 1`): sums over groups, each divided by its own counts,
would be another average.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxft import prng
from jaxft.rl import policies
from jaxft.rl.agents.base import Group, Learner, Loss
from jaxft.rl.agents.dqn import Transition, greedy_choice, transition_of, valid_of
from jaxft.rl.env import Box, Discrete
from jaxft.rl.networks import Network, Output
from jaxft.rl.policies import Choice
from jaxft.rl.recipe import RlRecipe
from jaxft.rl.rollout import Seen, Steps
from jaxft.train.partition import Flat

TABLE = ("table",)


class TableNetwork:
    """Observations are f32 [S], 1 at the state and 0 elsewhere."""

    def __init__(self, num_states: int, num_actions: int) -> None:
        self._shape = (num_states, num_actions)

    def init(self, words: prng.Words) -> tuple[Flat, Flat]:
        """All values 0."""
        return {TABLE: np.zeros(self._shape, np.float32)}, {}

    def apply(self, trainable: Flat, frozen: Flat, observation: Any) -> Output:
        return Output(_at(observation, trainable[TABLE]), jnp.zeros(observation.shape[:1]))


def _at(observation: Array, table: Array) -> Array:
    """Rows of a table [S, A], [B, A]: 1 · x + 0 · y + ... is x to the bit, and needs no search for the 1."""
    return jnp.dot(observation, table, precision=jax.lax.Precision.HIGHEST)


class Table:
    """Of a recipe; its network is a `TableNetwork`."""

    head = "values"
    num_updates = 1

    def __init__(self, recipe: RlRecipe, network: Network, actions: Discrete | Box) -> None:
        self._rl, self._network = recipe.rl, network
        self._policy = policies.POLICIES[recipe.rl.explore.policy]

    def initial_extra(self, trainable: Flat, frozen: Flat) -> tuple[()]:
        return ()

    def initial_memory(self, like: Steps, num_envs: int) -> Transition:
        count = num_envs * self._rl.rollout
        return jax.tree.map(lambda x: jnp.zeros((count, *x.shape), x.dtype), transition_of(like))

    def act(self, learner: Learner, seen: Seen, words: Array, level: Array) -> tuple[Choice, Array]:
        values = self._network.apply(learner.trainable, learner.frozen, seen.observation).values
        return policies.choose(words, self._policy(values, level, valid_of(seen, values))), values.max(-1)

    def best(self, trainable: Flat, frozen: Flat, seen: Seen) -> Choice:
        return greedy_choice(self._network.apply(trainable, frozen, seen.observation).values, seen)

    def remember(self, learner: Learner, group: Group, steps: Steps) -> Group:
        return group._replace(memory=jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), transition_of(steps)))

    def is_ready(self, group: Group) -> Array:
        return jnp.bool_(True)

    def batch(self, memory: Transition, update: Array, words: Array) -> Transition:
        return memory

    def loss(self, trainable: Flat, frozen: Flat, extra: Any, batch: Transition) -> Loss:
        following = self._network.apply(trainable, frozen, batch.following.observation).values
        best = jnp.max(jnp.where(valid_of(batch.following, following), following, -jnp.inf), axis=-1)
        future = jnp.where(batch.terminated, 0.0, best)
        target = jax.lax.stop_gradient(self._rl.reward_scale * batch.reward + self._rl.discount * future)
        values = self._network.apply(trainable, frozen, batch.observation).values
        done = jax.nn.one_hot(batch.action, values.shape[-1])
        met = _at(batch.observation.T, done)  # [S, A]: how often
        share = done * _at(batch.observation, 1.0 / jnp.maximum(met, 1.0))
        error = 0.5 * jnp.sum(share * jnp.square(values - target[:, None]))
        return Loss(error, {"loss": error})

    def after_update(self, learner: Learner) -> Learner:
        return learner
