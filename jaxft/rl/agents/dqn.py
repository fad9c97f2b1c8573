"""Deep Q-learning (Mnih et al. 2015), double by default (van Hasselt et al. 2016).

    Q(s, a) ← r + γ (1 - terminated) Q'(s', argmax_a Q(s', a))        Q': the target network

Steps come from the environments with exploration by action values, go into a replay buffer, and are drawn from it at
random. An episode that is cut off still has a future: only termination stops the bootstrap. Left out: prioritised
replay, duelling heads, distributions of values.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxft import draws
from jaxft.rl import policies, replay
from jaxft.rl.agents.base import Group, Learner, Loss
from jaxft.rl.env import Box, Discrete
from jaxft.rl.networks import Network
from jaxft.rl.policies import Choice
from jaxft.rl.recipe import RlRecipe
from jaxft.rl.rollout import Seen, Steps
from jaxft.train.partition import Flat


class Transition(NamedTuple):
    """What is remembered of a step."""

    observation: Any
    action: Array
    reward: Array
    terminated: Array
    following: Seen


class Dqn:
    """Of a recipe."""

    head = "values"

    def __init__(self, recipe: RlRecipe, network: Network, actions: Discrete | Box) -> None:
        self._rl, self._network = recipe.rl, network
        self._groups = recipe.train.micro_batches
        self._batch_size = recipe.train.batch_size
        self._policy = policies.POLICIES[recipe.rl.explore.policy]
        self.num_updates = recipe.rl.dqn.updates

    def initial_extra(self, trainable: Flat, frozen: Flat) -> Flat:
        """The target network."""
        return jax.tree.map(jnp.array, trainable)

    def initial_memory(self, like: Steps, num_envs: int) -> replay.Buffer:
        return replay.empty(transition_of(like), self._rl.dqn.buffer // self._groups)

    def act(self, learner: Learner, seen: Seen, words: Array, level: Array) -> tuple[Choice, Array]:
        values = self._network.apply(learner.trainable, learner.frozen, seen.observation).values
        log_probs = self._policy(values, level, valid_of(seen, values))
        return policies.choose(words, log_probs), values.max(-1)

    def best(self, trainable: Flat, frozen: Flat, seen: Seen) -> Choice:
        return greedy_choice(self._network.apply(trainable, frozen, seen.observation).values, seen)

    def remember(self, learner: Learner, group: Group, steps: Steps) -> Group:
        return group._replace(memory=replay.add(group.memory, transition_of(steps)))

    def is_ready(self, group: Group) -> Array:
        return group.memory.added * self._groups >= self._rl.dqn.learning_starts

    def batch(self, memory: replay.Buffer, update: Array, words: Array) -> Transition:
        return replay.sample(memory, self._batch_size // self._groups, draws.fold_in(words, update))

    def loss(self, trainable: Flat, frozen: Flat, extra: Flat, batch: Transition) -> Loss:
        """Mean squared difference to the target."""
        future = self._network.apply(extra, frozen, batch.following.observation).values
        valid = valid_of(batch.following, future)
        chosen_by = future
        if self._rl.dqn.double:
            chosen_by = self._network.apply(trainable, frozen, batch.following.observation).values
        choice = jnp.argmax(jnp.where(valid, chosen_by, -jnp.inf), axis=-1)
        value = jnp.take_along_axis(future, choice[:, None], 1)[:, 0]
        # where, not a product: a final state may have no finite value
        value = jnp.where(batch.terminated, 0.0, value)
        target = jax.lax.stop_gradient(self._rl.reward_scale * batch.reward + self._rl.discount * value)
        values = self._network.apply(trainable, frozen, batch.observation).values
        value = jnp.take_along_axis(values, batch.action[:, None], 1)[:, 0]
        scale = 1.0 / self._batch_size
        error = jnp.sum(jnp.square(value - target)) * scale
        return Loss(error, {"loss": error, "q": jnp.sum(value) * scale})

    def after_update(self, learner: Learner) -> Learner:
        due = learner.updates % self._rl.dqn.target_every == 0
        target = jax.tree.map(lambda new, old: jnp.where(due, new, old), learner.trainable, learner.extra)
        return learner._replace(extra=target)


def transition_of(steps: Steps) -> Transition:
    """What of steps is remembered."""
    return Transition(steps.seen.observation, steps.action, steps.reward, steps.terminated, steps.following)


def valid_of(seen: Seen, values: Array) -> Array:
    """bool [B, A]: all of them, where an environment says nothing."""
    return jnp.ones(values.shape, jnp.bool_) if seen.valid is None else seen.valid


def greedy_choice(values: Array, seen: Seen) -> Choice:
    """The best action of each state."""
    action = jnp.argmax(jnp.where(valid_of(seen, values), values, -jnp.inf), axis=-1).astype(jnp.int32)
    none = jnp.zeros(action.shape, jnp.float32)
    return Choice(action, none, none, jnp.ones(action.shape, jnp.bool_))
