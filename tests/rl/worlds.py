"""A small environment for tests, whose best behaviour is known, and which can be told to break."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxft import draws, recipe
from jaxft.rl import rollout
from jaxft.rl.env import Discrete, Outcome
from jaxft.rl.recipe import RlRecipe
from jaxft.rl.setup import Setup

NAMES = {"walk": "for tests: say on which side the light is"}


class State(NamedTuple):
    """side: f32 [], -1 or 1. time: i32 []. bad: bool [], whether the episode breaks."""

    side: Array
    time: Array
    bad: Array


@dataclass(frozen=True)
class Walk:
    """Action 1 is right where the side is 1, action 0 where it is -1: 1 for each, and half of the others end the
    episode. It is cut off after `max_steps`, so that the best return is that.

    poison: first word of the key of a reset whose episode breaks, by a reward or an observation that is NaN, at its
    third step, which it lives to see; 0: none.
    """

    name: str = "walk"
    actions: Discrete = Discrete(2)
    threshold: float | None = 7.5
    max_steps: int = 8
    poison: int = 0
    breaks: str = "reward"

    def reset(self, key: Array) -> tuple[State, Array]:
        words = jax.random.key_data(key)
        bad = (words[0] == np.uint32(self.poison)) & (self.poison != 0)
        state = State(_side(words), jnp.int32(0), bad)
        return state, self._observe(state)

    def step(self, state: State, action: Array, key: Array) -> Outcome:
        words = jax.random.key_data(key)
        right = (action == 1) == (state.side > 0)
        after = State(_side(words), state.time + 1, state.bad)
        now = state.bad & (state.time == 2)
        reward, observation = right.astype(jnp.float32), self._observe(after)
        if self.breaks == "reward":
            reward = jnp.where(now, jnp.nan, reward)
        else:
            observation = jnp.where(now, jnp.nan, observation)
        ends = ~right & ~state.bad & (draws.uniform(words, 2)[1] < 0.5)
        return Outcome(after, observation, reward, ends, after.time >= self.max_steps)

    def _observe(self, state: State) -> Array:
        return jnp.stack([state.side, state.time.astype(jnp.float32) / self.max_steps])


def _side(words: Array) -> Array:
    return jnp.where(draws.uniform(words, 1)[0] < 0.5, -1.0, 1.0).astype(jnp.float32)


def family() -> Any:
    """As a file of jaxft/rl/envs is."""

    def make(name: str, poison: int = 0, breaks: str = "reward", max_steps: int = 8) -> Walk:
        return Walk(poison=poison, breaks=breaks, max_steps=max_steps)

    return SimpleNamespace(NAMES=NAMES, make=make)


def recipe_of(out: Any = "runs/x", **keys: Any) -> RlRecipe:
    """A recipe of `walk` whose program is small. keys: of `rl`; of other sections as section__key."""
    tree: dict[str, Any] = {
        "rl": {
            "env": "walk",
            "agent": "dqn",
            "steps": 512,
            "num_envs": 8,
            "rollout": 4,
            "eval_every": 128,
            "eval_episodes": 8,
            "stop": False,
            "network": {"width": 8, "depth": 1},
            "dqn": {"buffer": 256, "learning_starts": 64, "updates": 8, "target_every": 8},
        },
        "train": {"batch_size": 16, "micro_batches": 1},
        "optim": {"learning_rate": 0.02},
        "out": str(out),
    }
    for key, value in keys.items():
        section, _, name = key.rpartition("__")
        if key in ("seed", "numerics", "dtype"):
            tree[key] = value
        else:
            tree.setdefault(section or "rl", {})[name] = value
    return recipe.from_tree(tree, "test", RlRecipe)


def poison_of(setup: Setup, seed: int, number: int = 0, time: int = 0) -> int:
    """The `poison` that breaks the episode which environment `number` of a seed begins at that time."""
    words = rollout._addresses(setup.words(seed).environment, jnp.uint32([number]), rollout.RESET, jnp.int32([time]))
    return int(words[0, 0, 0])
