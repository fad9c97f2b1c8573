"""The explorer: Monte Carlo tree search over schedules, with a model of what segments bring that it learns on the way.

The first schedule is the recipe as it is: there is something to show early, and never less than that at the end. After
it, a simulation draws a model from the posterior (outlook.py), values the whole tree anew by it (search/reanalyse.py),
goes down the actions that promise most to one that was not tried, and trains that segment. Schedules that were finished
are solved and left alone, so what it looks for is always a better one. States are a tree of checkpoints: a segment is
paid for once, and once more for each time that its state had to be let go.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxft import draws, prng
from jaxft.explore import outlook
from jaxft.explore.account import Account, Path, Spent
from jaxft.search.asked import Asked, Asking, no_root, outcome
from jaxft.search.grown import Grown
from jaxft.search.policies import Expected
from jaxft.search.reanalyse import reanalyse
from jaxft.search.tree import NONE, Nodes


@dataclass(frozen=True)
class Settings:
    """prior, noise: see outlook.draw. price: of a segment to be trained, in units of the scale of gains, so that of
    schedules that promise alike the one that needs least is finished first. All set by replays on three oracle tables
    (benchmarks/explore_table.py)."""

    prior: float = 0.5
    noise: float = 0.15
    price: float = 0.03


class Search(NamedTuple):
    """A search under way. gained [R]: of each node, its score less the root's. turn: segments so far."""

    tree: Grown
    seen: outlook.Seen
    gained: Array
    asked: Asked
    turn: Array


class Checkpoints:
    """Which states are at hand: so many, the root's not counted; the one used longest ago goes first."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._held: OrderedDict[Path, None] = OrderedDict()

    def missing(self, path: Path) -> list[Path]:
        """What has to be trained for the state after a path, from the nearest one at hand; it is at hand then."""
        begin = next((n for n in range(len(path), 0, -1) if path[:n] in self._held), 0)
        if begin:
            self._held.move_to_end(path[:begin])
        found = [path[:n] for n in range(begin + 1, len(path) + 1)]
        for one in found:
            self._held[one] = None
            if len(self._held) > self._room:
                self._held.popitem(last=False)
        return found


class Scores:
    """Scores by number of the node. Where training diverged there is none: it counts as `made_up`."""

    def __init__(self, root: float) -> None:
        self._of = [root if np.isfinite(root) else 0.0]
        self._worst = self._best = self._of[0]

    def add(self, parent: int, score: float) -> tuple[np.float32, np.bool_]:
        """(what the segment after `parent` added, whether it ended the run, as training diverged)."""
        is_over = not np.isfinite(score)
        if is_over:
            score = float(made_up(self._worst, self._best))
        else:
            self._worst, self._best = min(self._worst, score), max(self._best, score)
        self._of.append(score)
        return np.float32(score - self._of[parent]), np.bool_(is_over)


def turns(account: Account) -> int:
    """Segments, each with its look, that a budget pays for, at most all there are."""
    world = account.world
    whole = sum(world.num_actions**depth for depth in range(1, world.depth + 1))
    price = world.segment_steps + world.score_steps
    return min(whole, int((account.budget - world.score_steps) / price + 1e-9))


def made_up(worst: Any, best: Any, xp: Any = np) -> Any:
    """What a diverged run counts as: as far below the worst score that was seen as the best is above it. While they are
    one, as far as that is from 0; while that is 0 too, 1. xp: NumPy or JAX's."""
    spread = xp.where(best > worst, best - worst, abs(best))
    return worst - xp.where(spread > 0, spread, 1.0)


class Explorer:
    """Searches one world. settles: whether it settles one segment after the other, each when its share of the budget is
    spent, as in a game that moves on: from then on it searches below it alone, with all that was seen there."""

    def __init__(
        self, account: Account, words: prng.Words, settings: Settings = Settings(), *, settles: bool = False
    ) -> None:
        world = account.world
        self._settles = settles
        self.account, self._words, self._settings = account, prng.device_words(words), settings
        self._room = 1 + max(1, turns(account))
        shape = outlook.Shape(world.num_actions, world.depth)
        self._next = compiled(shape, world.num_listed, self._room, settings)
        self._states = Checkpoints(world.room)
        self.paths: list[Path] = [()]
        """By number of the node."""
        self.settled: Path = ()
        """What is no longer searched."""

    def search(self) -> None:
        """Until the budget is spent, or every schedule was seen. Raises Spent."""
        self.found = self._next.begin(self._words)
        scores = Scores(self.account.score(()))
        while len(self.paths) < self._room and bool(self.found.asked.fresh[0]):
            asked = self.found.asked
            parent, action = int(asked.parent[0]), int(asked.action[0])
            path = (*self.paths[parent], action)
            for missing in self._states.missing(path):
                self.account.train(missing)
            gain, is_over = scores.add(parent, self.account.score(path))
            assert int(asked.node[0]) == len(self.paths)
            self.paths.append(path)
            if self._settles and not self._settle():
                return
            self.found = self._next.go_on(self._words, self.found, gain, is_over)

    def _settle(self) -> bool:
        """The segments whose share of the budget is spent become those of the best schedule seen. Whether something is
        left to be searched."""
        account, best = self.account, self.account.best()
        due = int(account.world.depth * account.spent / account.budget)
        while best is not None and len(self.settled) < min(due, account.world.depth - 1):
            node, action = self.paths.index(self.settled), best.path[len(self.settled)]
            nodes = self.found.tree.nodes
            others = nodes.valid.at[node].set(jnp.arange(nodes.valid.shape[1]) == action)
            self.found = self.found._replace(tree=self.found.tree.replace(nodes=nodes.replace(valid=others)))
            self.settled = (*self.settled, action)
            if nodes.child_solved[node, action]:
                return False
        return True

    def grown(self) -> Grown:
        """Searches, and gives the tree with what was seen alone: a node's value is the best score below it, less the
        root's."""
        with suppress(Spent):
            self.search()
        tree, gained = _without(self.found.tree, self.found.asked), self.found.gained
        nodes = tree.nodes
        tried = nodes.children != NONE
        values = jnp.where(jnp.any(tried, axis=-1, keepdims=True), -jnp.inf, jnp.zeros(tried.shape))
        nodes = reanalyse(nodes, values)
        best = jnp.where(nodes.visits > 0, gained + nodes.values, 0.0)
        return tree.replace(nodes=nodes.replace(values=best, rewards=jnp.zeros_like(best)))


def _without(tree: Grown, asked: Asked) -> Grown:
    """The tree without the leaf that was asked for last, whose outcome did not come."""
    if not bool(asked.fresh[0]):
        return tree
    children = tree.nodes.children.at[int(asked.parent[0]), int(asked.action[0])].set(NONE)
    return tree.replace(nodes=tree.nodes.replace(children=children), used=tree.used - 1)


class Steps(NamedTuple):
    begin: Any
    go_on: Any


_CACHE: dict[Any, Steps] = {}
_FAR = 2.0**117
"""More than any return, and little enough to add up."""
_WIDENING = np.uint32(2**32 - 1)
"""Folded into words; other draws fold in numbers of turns."""


class Kind(NamedTuple):
    """What kind of world it is, for which a simulation is compiled."""

    shape: outlook.Shape
    num_listed: int
    room: int
    settings: Settings

    @property
    def asking(self) -> Asking:
        return Asking(Expected(), self.room, max_depth=self.shape.depth)


def compiled(shape: outlook.Shape, num_listed: int, room: int, settings: Settings) -> Steps:
    """The device's part of a simulation, compiled once for each kind of world."""
    kind = Kind(shape, num_listed, room, settings)
    if kind not in _CACHE:
        _CACHE[kind] = Steps(jax.jit(partial(_begin, kind)), jax.jit(partial(_go_on, kind), donate_argnums=1))
    return _CACHE[kind]


def _begin(kind: Kind, words: Array) -> Search:
    tree, _ = kind.asking.plant(draws.keys(draws.fold_in(words, 0)), no_root(1, kind.shape.num_actions))
    seen, gained = outlook.nothing_seen(kind.room), jnp.zeros(kind.room)
    return _ask(kind, words, tree, seen, gained, jnp.int32(0))


def _go_on(kind: Kind, words: Array, now: Search, gain: Array, is_over: Array) -> Search:
    shape = kind.shape
    nodes, node, parent = now.tree.nodes, now.asked.node[0], now.asked.parent[0]
    depth = nodes.depths[parent]
    before = jnp.where(parent == 0, shape.num_actions, nodes.actions[parent])
    seen = outlook.add(now.seen, depth, before, now.asked.action[0], now.gained[parent], gain)
    gained = now.gained.at[node].set(now.gained[parent] + gain)
    done = (nodes.depths[node][None] == shape.depth) | is_over
    step = outcome(gain[None], jnp.zeros(1), jnp.zeros((1, shape.num_actions)), done)
    tree = kind.asking.tell(now.tree, now.asked, step)
    return _ask(kind, words, tree, seen, gained, now.turn + 1)


def _ask(kind: Kind, words: Array, tree: Grown, seen: outlook.Seen, gained: Array, turn: Array) -> Search:
    shape, settings = kind.shape, kind.settings
    drawn = outlook.draw(draws.fold_in(words, turn + 1), shape, seen, prior=settings.prior, noise=settings.noise)
    nodes = tree.nodes
    before = jnp.where(nodes.actions < 0, shape.num_actions, nodes.actions)
    expected = outlook.returns(drawn, shape, jnp.minimum(nodes.depths, shape.depth - 1), before, gained)
    to_go = shape.depth - jnp.minimum(nodes.depths, shape.depth)
    expected = expected - (settings.price * drawn.scale * to_go)[:, None]
    left = nodes.num_nodes - 1 - turn
    expected = _opened(kind, words, nodes, expected)
    expected = jnp.where(to_go[:, None] > left, -jnp.inf, expected)  # what cannot be finished is not begun
    is_first_run = (turn < shape.depth) & (jnp.arange(shape.num_actions) == 0)[None]
    expected = jnp.where(is_first_run, _FAR, expected)
    tree = tree.replace(nodes=reanalyse(nodes, expected, open_only=True))
    tree, asked = kind.asking.ask(tree, jnp.zeros(1))  # the policy draws nothing
    return Search(tree, seen, gained, asked, turn)


def _opened(kind: Kind, words: Array, nodes: Nodes, expected: Array) -> Array:
    """Progressive widening (Coulom 2007): of the actions that were drawn a node opens as many as the root of its
    visits, in an order of its own. The others come when nothing else is left. expected: f [R, A]."""
    drawn = kind.shape.num_actions - kind.num_listed
    if not drawn:
        return expected
    each = draws.fold_in(draws.fold_in(words, _WIDENING), jnp.arange(nodes.num_nodes))
    order = jnp.argsort(jnp.argsort(draws.bits(each, drawn), axis=-1), axis=-1)
    width = jnp.ceil(jnp.sqrt(nodes.visits.astype(jnp.float32)))[:, None]
    listed, others = expected[:, : kind.num_listed], expected[:, kind.num_listed :]
    others = jnp.where(order < width, others, -_FAR * (1 + order / drawn))
    return jnp.concatenate([listed, others], axis=-1)


def explore(account: Account, words: prng.Words, *, settles: bool = False) -> None:
    """The explorer as the rivals are: spends an account. Raises Spent."""
    Explorer(account, words, settles=settles).search()
