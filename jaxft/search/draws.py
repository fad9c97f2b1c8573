"""What descents draw, a level after the other: as mctx does, each element splits its key in two at every level, goes on
with the first and draws from the second.

What a level draws is computed before it is reached, in code of its own that a loop's edge keeps from being fused into
whatever reads it: in a reduction, which is not vectorised, LLVM takes seconds for two rounds of Threefry. `after` is a
number, not negative, that the compiler cannot know and before which nothing is computed, so that what was drawn before
need not be copied out of the way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax import Array

from jaxft.search import keys
from jaxft.search.keys import Words


class Draws(Protocol):
    """A state is what was drawn for a level of B descents, and what the next one's is drawn from."""

    def first(self, key: Array, batch: int, after: Array) -> Any:
        """The root's, of descents whose keys are `jax.random.split(key, batch)`."""
        ...

    def following(self, state: Any, after: Array) -> Any:
        """The next level's."""
        ...

    def drawn(self, state: Any) -> Any:
        """What a selection gets of it; its leaves [B, ...]."""
        ...


@dataclass(frozen=True)
class OfKeys:
    """Draws anything: `draw` makes it of a level's keys [B]. A state is the keys to go on with, and those."""

    draw: Callable[[Array], Any] = lambda each: each

    def first(self, key: Array, batch: int, after: Array) -> tuple[Array, Array]:
        return keys.split_each(keys.split(key, batch), after)

    def following(self, state: tuple[Array, Array], after: Array) -> tuple[Array, Array]:
        return keys.split_each(state[0], after)

    def drawn(self, state: tuple[Array, Array]) -> Any:
        return self.draw(state[1])


@dataclass(frozen=True)
class Noise:
    """f32 [B, A] in [0, 1), as `jax.random.uniform` draws them from plain keys; one piece of code a level.

    A state is uint32 [A + 4, B]: A numbers, then the words of the key to go on with and of the one that the next level
    draws from. All of it are blocks of the two keys in the state before.
    """

    num_actions: int

    def first(self, key: Array, batch: int, after: Array) -> Array:
        each = keys.block(keys.words(key), jnp.arange(batch, dtype=jnp.uint32))
        # Of [B], not of all lanes: by that XLA judges whether to share the work out among threads.
        return self._level(keys.block(each, 0), keys.block(each, 1), after)

    def following(self, state: Array, after: Array) -> Array:
        on_high, on_low, high, low = state[self.num_actions :]
        return self._level((on_high, on_low), (high, low), after)

    def drawn(self, state: Array) -> Array:
        return keys.unit(state[: self.num_actions]).T

    def _level(self, onwards: Words, own: Words, after: Array) -> Array:
        """Keys [B] to go on with and to draw from -> the level's state."""
        shape = self.num_actions + 4, own[0].size
        lanes = jax.lax.broadcasted_iota(jnp.uint32, shape, 0)
        draws, word = lanes < self.num_actions, lanes - jnp.uint32(self.num_actions)
        key = jnp.where(draws, own[0], onwards[0]), jnp.where(draws, own[1], onwards[1])
        high, low = keys.block(key, jnp.where(draws, lanes, word >> 1) + keys.unknown(0, after))
        return jnp.where(draws, high ^ low, jnp.where((word & 1) == 0, high, low))


def noise(key: Array, num_actions: int) -> Draws:
    """f32 [B, A] in [0, 1) a level, as `jax.random.uniform` draws them, whatever the kind of the key."""
    if keys.is_plain(key):
        return Noise(num_actions)
    return OfKeys(jax.vmap(lambda own: jax.random.uniform(own, (num_actions,))))
