"""Small worlds to search, whose every number is a hash of the path: no structure that would hide a mistake."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxft.search.env import Root, Step
from tests.conftest import benchmark

MASK = 0xFFFFFFFF


with benchmark("search_models") as models:
    mixed, number = models.mixed, models.number


class Hashed:
    """actions: A. ends: one state in so many is an end, 0 for none. allowed: share of actions that are valid, in
    quarters. turns: players alternate at random. noise: rewards have a part drawn from the key."""

    def __init__(self, actions: int, *, ends: int = 0, allowed: int = 4, turns: bool = False, noise: bool = False):
        self.actions, self.ends, self.allowed, self.noise = actions, ends, allowed, noise
        if turns:
            self.player = lambda state: (state >> np.uint32(5)).astype(np.int32) & 1

    def facts(self, state: Any, xp: Any) -> tuple[Any, ...]:
        """(reward, discount, logits, value, done, valid), on NumPy or JAX."""
        logits = xp.stack([number(state, 20 + action) * np.float32(4) for action in range(self.actions)], -1)
        done = (state % np.uint32(self.ends) == 0) if self.ends else xp.zeros(state.shape, bool)
        valid = xp.stack([(state >> np.uint32(a)) % np.uint32(4) < self.allowed for a in range(self.actions)], -1)
        valid = valid | ~valid.any(-1, keepdims=True)
        discount = xp.where(done, np.float32(0), np.float32(0.97))
        return number(state, 1), discount, logits, number(state, 2), done, valid

    def expand(self, state: Any, action: Any, key: Any) -> Step:
        state = mixed(state, action)
        reward, *others = self.facts(state, jnp)
        if self.noise:
            reward = reward + 0.5 * jax.vmap(jax.random.uniform)(key)
        return Step(state, reward, *others)

    def root(self, batch: int, seed: int = 0) -> Root:
        state = np.random.default_rng(seed).integers(0, MASK, batch, np.uint32)
        _, _, logits, value, _, valid = self.facts(state, np)
        return Root(jnp.asarray(state), jnp.asarray(logits), jnp.asarray(value), jnp.asarray(valid))
