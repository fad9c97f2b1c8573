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
from jaxft.explore.account import Account, Path, Sizes, Spent
from jaxft.search.asked import Asked, Asking, no_root
from jaxft.search.asked import outcome as outcome_of
from jaxft.search.grown import Grown
from jaxft.search.policies import Expected
from jaxft.search.reanalyse import reanalyse
from jaxft.search.tree import NONE, Nodes
from jaxft.search.tree_search import Picked


@dataclass(frozen=True)
class Settings:
    """prior, noise: see outlook.draw. price: of a segment to be trained, in units of the scale of last gains, so that
    of schedules that promise alike the one that needs least is finished first. All set by replays on eight oracle
    tables (benchmarks/explore_table.py)."""

    prior: float = 0.5
    noise: float = 0.15
    price: float = 0.03


class Leaves(NamedTuple):
    """Leaves that are asked for at once, [K] each. fresh: new; of others there was nothing left to ask for."""

    node: Array
    fresh: Array
    parent: Array
    action: Array


class Search(NamedTuple):
    """A search under way. gained [R]: of each node, its score less the root's. turn: segments so far; left: that the
    budget still pays for; rounds: of asking for leaves."""

    tree: Grown
    seen: outlook.Seen
    gained: Array
    asked: Leaves
    turn: Array
    left: Array
    rounds: Array


class Outcome(NamedTuple):
    """What became of leaves, [K] each. gain: what the last segment added. is_over: whether training diverged. count: so
    many of the leaves were trained. left: segments that the budget still pays for."""

    gain: Any
    is_over: Any
    count: Any
    left: Any


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

    def add(self, parent: int, score: float) -> tuple[float, bool]:
        """(what the segment after `parent` added, whether it ended the run, as training diverged)."""
        is_over = not np.isfinite(score)
        if is_over:
            score = float(made_up(self._worst, self._best))
        else:
            self._worst, self._best = min(self._worst, score), max(self._best, score)
        self._of.append(score)
        return score - self._of[parent], is_over


def turns(world: Sizes, budget: float) -> int:
    """Segments, each with its look, that a budget pays for after a look at the root, at most all there are."""
    whole = sum(world.num_actions**depth for depth in range(1, world.depth + 1))
    return min(whole, paid(world, budget - world.score_steps))


def paid(world: Sizes, steps: float) -> int:
    """Segments, each with its look, that so many gradient steps pay for."""
    return int(steps / (world.segment_steps + world.score_steps) + 1e-9)


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
        self._room = 1 + max(1, turns(world, account.budget))
        shape = outlook.Shape(world.num_actions, world.depth)
        self._next = compiled(Kind(shape, world.num_listed, world.leaves, self._room, settings))
        self._states = Checkpoints(world.room)
        self.paths: list[Path] = [()]
        """By number of the node."""
        self._outcome = self._nothing()
        self.settled: Path = ()
        """What is no longer searched."""

    def search(self) -> None:
        """Until the budget is spent, or every schedule was seen. Raises Spent."""
        self.found = self._next.begin(self._words)
        self._scores = Scores(self.account.score(()))
        while bool(self.found.asked.fresh[0]):
            self._outcome = self._nothing()
            asked = jax.device_get(self.found.asked)
            leaves = [(int(asked.parent[at]), int(asked.action[at])) for at in np.flatnonzero(asked.fresh)]
            self.account.world.ready([(*self.paths[parent], action) for parent, action in leaves])
            for parent, action in leaves:
                self._look(parent, action)
            if self._settles and not self._settle():
                return
            self.found = self._next.go_on(self._words, self.found, self._outcome)

    def _nothing(self) -> Outcome:
        leaves = self.account.world.leaves
        return Outcome(np.zeros(leaves, np.float32), np.zeros(leaves, bool), 0, self._left())

    def _left(self) -> int:
        """Segments, each with its look, that the account still pays for; fewer than are left to be tried where states
        had to be trained again."""
        return min(paid(self.account.world, self.account.left), self._room - len(self.paths))

    def _look(self, parent: int, action: int) -> None:
        """Trains and scores a leaf."""
        path = (*self.paths[parent], action)
        for missing in self._states.missing(path):
            self.account.train(missing)
        gains, are_over, count, _ = self._outcome
        gains[count], are_over[count] = self._scores.add(parent, self.account.score(path))
        self.paths.append(path)
        self._outcome = Outcome(gains, are_over, count + 1, self._left())

    def _settle(self) -> bool:
        """The segments whose share of the budget is spent become those of the best schedule seen. Whether something is
        left to be searched."""
        account, best = self.account, self.account.best()
        due = int(account.world.depth * account.spent / account.budget)
        while best is not None and best.score > -np.inf and len(self.settled) < min(due, account.world.depth - 1):
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
        now = self._next.tell(self.found, self._outcome)
        tree, gained = _without(now.tree, now.asked, self._outcome.count), now.gained
        nodes = tree.nodes
        tried = nodes.children != NONE
        values = jnp.where(jnp.any(tried, axis=-1, keepdims=True), -jnp.inf, jnp.zeros(tried.shape))
        nodes = reanalyse(nodes, values)
        best = jnp.where(nodes.visits > 0, gained + nodes.values, 0.0)
        return tree.replace(nodes=nodes.replace(values=best, rewards=jnp.zeros_like(best)))


def _without(tree: Grown, asked: Leaves, told: int) -> Grown:
    """The tree without the leaves that were asked for and not trained: all but the first `told`."""
    lost = np.flatnonzero(np.asarray(asked.fresh))[told:]
    children = tree.nodes.children.at[asked.parent[lost], asked.action[lost]].set(NONE)
    return tree.replace(nodes=tree.nodes.replace(children=children), used=tree.used - len(lost))


class Steps(NamedTuple):
    """begin(words), tell(search, outcome), and go_on(words, search, outcome), which tells and asks."""

    begin: Any
    tell: Any
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
    leaves: int
    room: int
    settings: Settings

    @property
    def asking(self) -> Asking:
        return Asking(Expected(), self.room, max_depth=self.shape.depth)


def compiled(kind: Kind) -> Steps:
    """The device's part of a simulation, compiled once for each kind of world."""
    if kind not in _CACHE:
        parts = (partial(part, kind) for part in (_begin, _tell, _go_on))
        begin, tell, go_on = parts
        _CACHE[kind] = Steps(jax.jit(begin), jax.jit(tell), jax.jit(go_on, donate_argnums=1))
    return _CACHE[kind]


def _begin(kind: Kind, words: Array) -> Search:
    tree, _ = kind.asking.plant(draws.keys(draws.fold_in(words, 0)), no_root(1, kind.shape.num_actions))
    nothing, zero = jnp.zeros(kind.leaves, jnp.int32), jnp.int32(0)
    asked, seen = Leaves(nothing, nothing > 0, nothing, nothing), outlook.nothing_seen(kind.room)
    return _ask(kind, words, Search(tree, seen, jnp.zeros(kind.room), asked, zero, jnp.int32(kind.room - 1), zero))


def _go_on(kind: Kind, words: Array, now: Search, outcome: Outcome) -> Search:
    return _ask(kind, words, _tell(kind, now, outcome))


def _tell(kind: Kind, now: Search, outcome: Outcome) -> Search:
    """What became of the leaves, in their order."""
    shape = kind.shape

    def one(now: Search, leaf: tuple[Array, Leaves, Array, Array]) -> tuple[Search, None]:
        number, asked, gain, is_over = leaf
        is_told, nodes = asked.fresh & (number < outcome.count), now.tree.nodes
        node, parent, depth = asked.node, asked.parent, nodes.depths[asked.parent]
        before = jnp.where(parent == 0, shape.num_actions, nodes.actions[parent])
        seen = outlook.add(now.seen, depth, before, asked.action, now.gained[parent], gain)
        seen = jax.tree.map(partial(jnp.where, is_told), seen, now.seen)
        gained = now.gained.at[jnp.where(is_told, node, kind.room)].set(now.gained[parent] + gain, mode="drop")
        done = (nodes.depths[node][None] == shape.depth) | is_over
        step = outcome_of(gain[None], jnp.zeros(1), jnp.zeros((1, shape.num_actions)), done)
        picked = Picked(node[None], is_told[None], is_told[None])
        tree = kind.asking.tell(now.tree, Asked(picked, parent[None], asked.action[None]), step)
        return now._replace(tree=tree, seen=seen, gained=gained, turn=now.turn + is_told), None

    told, _ = jax.lax.scan(one, now, (jnp.arange(kind.leaves), now.asked, outcome.gain, outcome.is_over))
    return told._replace(left=jnp.int32(outcome.left))


def _ask(kind: Kind, words: Array, now: Search) -> Search:
    """The next leaves, each by a draw of its own; those before it count as solved for as long."""
    solved = now.tree.nodes.child_solved

    def one(tree: Grown, number: Array) -> tuple[Grown, Leaves]:
        expected = _expected(kind, words, now._replace(tree=tree), number)
        tree = tree.replace(nodes=reanalyse(tree.nodes, expected, open_only=True))
        tree, asked = kind.asking.ask(tree, jnp.zeros(1), now.tree.used)  # the policy draws nothing
        leaf = Leaves(asked.node[0], asked.fresh[0], asked.parent[0], asked.action[0])
        return (_set_aside(tree, leaf) if kind.leaves > 1 else tree), leaf

    tree, asked = jax.lax.scan(one, now.tree, jnp.arange(kind.leaves))
    tree = tree.replace(nodes=tree.nodes.replace(child_solved=solved))
    return now._replace(tree=tree, asked=asked, rounds=now.rounds + 1)


def _expected(kind: Kind, words: Array, now: Search, number: Array) -> Array:
    """f [R, A]: what each action of each node brings, by the draw of the next leaf but `number`."""
    shape, settings, nodes, turn = kind.shape, kind.settings, now.tree.nodes, now.turn + number
    drawn = outlook.draw(draws.fold_in(words, turn + 1), shape, now.seen, prior=settings.prior, noise=settings.noise)
    before = jnp.where(nodes.actions < 0, shape.num_actions, nodes.actions)
    expected = outlook.returns(drawn, shape, jnp.minimum(nodes.depths, shape.depth - 1), before, now.gained)
    to_go = shape.depth - jnp.minimum(nodes.depths, shape.depth)
    expected = expected - (settings.price * drawn.scale[-1] * to_go)[:, None]
    expected = _opened(kind, words, nodes, expected)
    expected = jnp.where(to_go[:, None] > now.left - number, -jnp.inf, expected)  # what cannot be finished is not begun
    is_first_run = (now.rounds < shape.depth) & (number == 0) & (jnp.arange(shape.num_actions) == 0)[None]
    return jnp.where(is_first_run, _FAR, expected)


def _set_aside(tree: Grown, leaf: Leaves) -> Grown:
    """Counts a leaf as solved, and all above it that have nothing else to ask for."""

    def up(now: tuple[Nodes, Array, Array, Array]) -> tuple[Nodes, Array, Array, Array]:
        nodes, parent, action, _ = now
        solved = nodes.child_solved.at[parent, action].set(True)
        goes_on = jnp.all(solved[parent] | ~nodes.valid[parent]) & (parent != 0)
        return nodes.replace(child_solved=solved), nodes.parents[parent], nodes.actions[parent], goes_on

    start = (tree.nodes, leaf.parent, leaf.action, leaf.fresh)
    return tree.replace(nodes=jax.lax.while_loop(lambda now: now[-1], up, start)[0])


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
