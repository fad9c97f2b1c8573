"""The explorer: Monte Carlo tree search over schedules, with a model of what segments bring that it learns on the way.

A simulation draws a model from the posterior (outlook.py), values the whole tree anew by it (search/reanalyse.py), goes
down the actions that promise most to one that was not tried, and trains that segment. Schedules that were finished are
solved and left alone, so what it looks for is always a better one. States are those of a tree of checkpoints: a segment
is paid for once, and once more for each time that its state had to be let go.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxft import prng
from jaxft.explore import outlook
from jaxft.explore.account import Account, Path, Spent
from jaxft.rl import draws
from jaxft.search.asked import Asked, Asking, no_root, outcome
from jaxft.search.grown import Grown
from jaxft.search.policies import Expected
from jaxft.search.reanalyse import reanalyse


@dataclass(frozen=True)
class Settings:
    """prior, noise: see outlook.draw."""

    prior: float = 1.0
    noise: float = 0.15


class Search(NamedTuple):
    """A search under way. gained [R]: of each node, its score less the root's. turn: simulations so far."""

    tree: Grown
    seen: outlook.Seen
    gained: Array
    asked: Asked
    turn: Array


class Explorer:
    """Searches one world, segment by segment."""

    def __init__(self, account: Account, words: prng.Words, settings: Settings = Settings()) -> None:
        world = account.world
        self.account, self._words, self._settings = account, prng.device_words(words), settings
        self._shape = outlook.Shape(world.num_actions, world.depth)
        whole = sum(world.num_actions**depth for depth in range(world.depth + 1))
        self._room = min(whole, 1 + int(account.budget // world.segment_steps))
        self._next = _compiled(self._shape, self._room, settings)
        self.paths: list[Path] = [()]
        """By number of the node."""

    def search(self) -> None:
        """Until the budget is spent, or every schedule was seen. Raises Spent."""
        account = self.account
        scores = [account.score(())]
        found = self._next.begin(self._words)
        while len(self.paths) < self._room:
            node = int(found.asked.node[0])
            if not bool(found.asked.fresh[0]):
                return
            parent, action = int(found.asked.parent[0]), int(found.asked.action[0])
            path = (*self.paths[parent], action)
            account.train(path)
            scores.append(account.score(path))
            assert node == len(self.paths)
            self.paths.append(path)
            gain, is_over = self._gain(scores, parent)
            found = self._next.go_on(self._words, found, gain, is_over)
            self.found = found

    @staticmethod
    def _gain(scores: list[float], parent: int) -> tuple[np.float32, np.bool_]:
        """(what the last segment added, whether it ended the run: where training diverged, as far below the worst score
        as the best is above it)."""
        if np.isfinite(scores[-1]):
            return np.float32(scores[-1] - scores[parent]), np.bool_(False)
        finite = [score for score in scores if np.isfinite(score)]
        scores[-1] = 2 * min(finite) - max(finite)
        return np.float32(scores[-1] - scores[parent]), np.bool_(True)


class _Steps(NamedTuple):
    begin: Any
    go_on: Any


_CACHE: dict[Any, _Steps] = {}


def _compiled(shape: outlook.Shape, room: int, settings: Settings) -> _Steps:
    """The device's part of a simulation, compiled once for each kind of world."""
    key = (shape, room, settings)
    if key not in _CACHE:
        asking = Asking(Expected(), 1, room, max_depth=shape.depth)
        _CACHE[key] = _Steps(
            jax.jit(partial(_begin, asking, shape, room, settings)),
            jax.jit(partial(_go_on, asking, shape, settings), donate_argnums=1),
        )
    return _CACHE[key]


def _begin(asking: Asking, shape: outlook.Shape, room: int, settings: Settings, words: Array) -> Search:
    tree = asking.plant(draws.keys(draws.fold_in(words, 0)), no_root(1, shape.num_actions))
    seen, gained = outlook.nothing_seen(room), jnp.zeros(room)
    return _ask(asking, shape, settings, words, tree, seen, gained, jnp.int32(1))


def _go_on(
    asking: Asking,
    shape: outlook.Shape,
    settings: Settings,
    words: Array,
    now: Search,
    gain: Array,
    is_over: Array,
) -> Search:
    nodes, node, parent = now.tree.nodes, now.asked.node[0], now.asked.parent[0]
    depth = nodes.depths[parent]
    before = jnp.where(parent == 0, shape.num_actions, nodes.actions[parent])
    seen = outlook.add(now.seen, depth, before, now.asked.action[0], now.gained[parent], gain)
    gained = now.gained.at[node].set(now.gained[parent] + gain)
    done = (nodes.depths[node][None] == shape.depth) | is_over
    step = outcome(gain[None], jnp.zeros(1), jnp.zeros((1, shape.num_actions)), done)
    tree = asking.tell(now.tree, now.asked, step)
    return _ask(asking, shape, settings, words, tree, seen, gained, now.turn + 1)


def _ask(
    asking: Asking,
    shape: outlook.Shape,
    settings: Settings,
    words: Array,
    tree: Grown,
    seen: outlook.Seen,
    gained: Array,
    turn: Array,
) -> Search:
    drawn = outlook.draw(draws.fold_in(words, turn), shape, seen, prior=settings.prior, noise=settings.noise)
    nodes = tree.nodes
    before = jnp.where(nodes.actions < 0, shape.num_actions, nodes.actions)
    expected = outlook.returns(drawn, shape, jnp.minimum(nodes.depths, shape.depth - 1), before, gained)
    tree = tree.replace(nodes=reanalyse(nodes, expected, open_only=True))
    tree, asked = asking.ask(tree)
    return Search(tree, seen, gained, asked, turn)


def explore(account: Account, words: prng.Words) -> None:
    """The explorer as the rivals are: spends an account."""
    try:
        Explorer(account, words).search()
    except Spent:
        return
