"""What an agent is: how it acts, what it keeps of what happened, and what it minimises.

One iteration of a run is the same for all of them (rl/program.py): collect a rollout, then so many updates, each from a
batch of every group of environments. An agent is a bundle of pure functions of one group; groups, devices and seeds are
not its business.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from jax import Array

from jaxft.rl.policies import Choice
from jaxft.rl.rollout import Actors, Seen, Steps, Told
from jaxft.train.partition import Flat


class Learner(NamedTuple):
    """What updates change, the same on all devices. trainable, frozen: path -> leaf. optimiser: optax state. extra: of
    the agent, such as a target network. iteration, updates: i32 []. mean_return, first_return: f32 [], of finished
    episodes, smoothed; NaN before there is one."""

    trainable: Flat
    frozen: Flat
    optimiser: Any
    extra: Any
    iteration: Array
    updates: Array
    mean_return: Array
    first_return: Array


class Group(NamedTuple):
    """What belongs to a group of environments. memory: of the agent, such as a replay buffer."""

    actors: Actors
    memory: Any


class Loss(NamedTuple):
    """total: f32 [], the sum over the batch divided by the whole batch's size. told: name -> f32 [], the same way."""

    total: Array
    told: dict[str, Array]


class Agent(Protocol):
    """An agent. num_updates: of an iteration."""

    num_updates: int

    def initial_extra(self, trainable: Flat, frozen: Flat) -> Any:
        """What it holds beside its parameters."""
        ...

    def initial_memory(self, like: Steps, num_envs: int) -> Any:
        """What a group remembers before the first step. like: one step of one environment, shapes only."""
        ...

    def act(self, learner: Learner, seen: Seen, words: Array, level: Array) -> tuple[Choice, Array]:
        """(what to do in each of n environments, what their states are worth). words: uint32 [n, 2], of exploration."""
        ...

    def best(self, trainable: Flat, frozen: Flat, seen: Seen) -> Choice:
        """The same without exploration."""
        ...

    def remember(self, learner: Learner, group: Group, steps: Steps) -> Group:
        """With what was collected [T, n] in its memory."""
        ...

    def is_ready(self, group: Group) -> Array:
        """bool []: whether there is enough to learn from."""
        ...

    def batch(self, memory: Any, update: Array, words: Array) -> Any:
        """What update number `update` of the iteration learns from, of one group. words: uint32 [2], of the iteration's
        order in this group."""
        ...

    def loss(self, trainable: Flat, frozen: Flat, extra: Any, batch: Any) -> Loss:
        """Of one group's batch; the groups' are added up."""
        ...

    def after_update(self, learner: Learner) -> Learner:
        """After an optimiser step."""
        ...


__all__ = ["Actors", "Agent", "Choice", "Group", "Learner", "Loss", "Seen", "Steps", "Told"]
