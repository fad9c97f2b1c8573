"""Supervised learning in the same loop: the network is trained to do what an expert does (behavioural cloning,
Pomerleau 1989), so that it can be compared with agents that learn from rewards, step for step.

The expert acts, and an update minimises the cross-entropy of its actions. With `rl.clone.noise` that share of them is
another action, any valid one alike: noisy labels where an episode is one step, mixed traces where it is many. Where the
environment is a data set (`label_bandit`), the expert is the label and this is plain classification.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxft.rl import policies
from jaxft.rl.agents.actor_critic import in_passes, log_probs_of
from jaxft.rl.agents.base import Group, Learner, Loss
from jaxft.rl.agents.dqn import valid_of
from jaxft.rl.env import Box, Discrete
from jaxft.rl.networks import Network
from jaxft.rl.policies import Choice
from jaxft.rl.recipe import RlRecipe
from jaxft.rl.rollout import Seen, Steps
from jaxft.train.partition import Flat


class Trace(NamedTuple):
    """What was seen and done, [T · n]."""

    seen: Seen
    action: Array


class Clone:
    """Of a recipe whose environment has an expert."""

    head = "policy"

    def __init__(self, recipe: RlRecipe, network: Network, actions: Discrete | Box) -> None:
        assert isinstance(actions, Discrete)
        self._num_actions = actions.count
        self._rl, self._network, self._groups = recipe.rl, network, recipe.train.micro_batches
        self._batch_size = recipe.train.batch_size
        self._batches = recipe.rl.num_envs * recipe.rl.rollout // self._batch_size
        self.num_updates = recipe.rl.ppo.epochs * self._batches

    def initial_extra(self, trainable: Flat, frozen: Flat) -> tuple[()]:
        return ()

    def initial_memory(self, like: Steps, num_envs: int) -> Trace:
        count = num_envs * self._rl.rollout
        return jax.tree.map(lambda x: jnp.zeros((count, *x.shape), x.dtype), Trace(like.seen, like.action))

    def act(self, learner: Learner, seen: Seen, words: Array, level: Array) -> tuple[Choice, Array]:
        expert = jax.nn.one_hot(seen.advice, self._num_actions)
        others = (1.0 - expert) * valid_of(seen, expert).astype(jnp.float32)
        count = others.sum(-1, keepdims=True)
        noise = jnp.where(count > 0, self._rl.clone.noise, 0.0)
        share = noise * others / jnp.maximum(count, 1.0)
        choice = policies.choose(words, jnp.log(share + (1.0 - noise) * expert))
        return choice, jnp.zeros(choice.action.shape, jnp.float32)

    def best(self, trainable: Flat, frozen: Flat, seen: Seen) -> Choice:
        out = self._network.apply(trainable, frozen, seen.observation)
        action = jnp.argmax(log_probs_of(out, seen), axis=-1).astype(jnp.int32)
        none = jnp.zeros(action.shape, jnp.float32)
        return Choice(action, none, none, jnp.ones(action.shape, jnp.bool_))

    def remember(self, learner: Learner, group: Group, steps: Steps) -> Group:
        trace = Trace(steps.seen, steps.action)
        return group._replace(memory=jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), trace))

    def is_ready(self, group: Group) -> Array:
        return jnp.bool_(True)

    def batch(self, memory: Trace, update: Array, words: Array) -> Trace:
        return in_passes(memory, update, self._batches, self._batch_size // self._groups, words)

    def loss(self, trainable: Flat, frozen: Flat, extra: Any, batch: Trace) -> Loss:
        log_probs = log_probs_of(self._network.apply(trainable, frozen, batch.seen.observation), batch.seen)
        chosen = jnp.take_along_axis(log_probs, batch.action[:, None], -1)[:, 0]
        loss = -jnp.sum(chosen) / self._batch_size
        return Loss(loss, {"loss": loss})

    def after_update(self, learner: Learner) -> Learner:
        return learner
