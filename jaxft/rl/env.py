"""What an agent acts in: a Markov decision process as pure functions of one state, to be mapped over many.

    state, observation = env.reset(key)
    state, observation, reward, terminated, truncated = env.step(state, action, key)

An episode ends where it is terminated (the state is final: nothing is to be had after it) or truncated (it is cut off,
as by a time limit: its state still has a value). No environment starts again by itself: who steps it does that. All
randomness comes from the keys given, each good for one call.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

from jax import Array


@dataclass(frozen=True)
class Discrete:
    """Actions 0 .. count - 1, int32 []."""

    count: int


@dataclass(frozen=True)
class Box:
    """Actions f32 [size], each number between its low and its high."""

    low: tuple[float, ...]
    high: tuple[float, ...]

    @property
    def size(self) -> int:
        return len(self.low)


class Outcome(NamedTuple):
    """What a step leads to. reward: f32 []. terminated, truncated: bool []; both may be true."""

    state: Any
    observation: Any
    reward: Array
    terminated: Array
    truncated: Array


@runtime_checkable
class Env(Protocol):
    """One environment. An observation is an f32 array, or, where a text encoder reads it, a dict of arrays.

    name: as recipes name it. actions: what may be done. threshold: mean return of 100 episodes from which on the
    environment counts as solved, none where nobody has named one. max_steps: most steps of an episode.

    Where not every action may be taken in every state, the environment has `valid(state) -> bool [A]`; there is one at
    least unless the episode is over.
    """

    @property
    def name(self) -> str: ...

    @property
    def actions(self) -> Discrete | Box: ...

    @property
    def threshold(self) -> float | None: ...

    @property
    def max_steps(self) -> int: ...

    def reset(self, key: Array) -> tuple[Any, Any]:
        """(state, observation) of a new episode. key: a typed key, consumed."""
        ...

    def step(self, state: Any, action: Array, key: Array) -> Outcome:
        """The outcome of an action. key: a typed key, consumed."""
        ...
