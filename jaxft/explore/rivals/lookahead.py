"""Rivals that look one segment ahead from the states they have kept: greedy with limited discrepancies, beam search."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

from jaxft import prng
from jaxft.explore import draws
from jaxft.explore.account import Account, Path
from jaxft.explore.rivals.store import Price, Store, most


def greedy(account: Account, words: prng.Words) -> None:
    """Tries all actions for the next segment and takes the best, to the end; then again with one choice of a runner-up,
    at the top first, then with two, and so on (limited discrepancy search, Harvey and Ginsberg 1995).

    Where the budget that is left doesn't pay for all actions on all the way, each segment tries equally many.
    """
    descents = _Descents(account, words)
    for discrepancies in count():
        before = account.spent
        for ranks in spread(discrepancies, account.world.depth, account.world.num_actions):
            if not descents.store.affords(Price(1, 1)):
                return
            descents.descend(ranks)
        if account.spent == before:
            return


def spread(total: int, depth: int, num_actions: int) -> Iterator[Path]:
    """Ranks, 0 the best, to take at each segment, that add up to `total`; the largest at the top first."""
    if depth == 0:
        yield ()
        return
    beyond = (depth - 1) * (num_actions - 1)
    for rank in range(min(total, num_actions - 1), max(0, total - beyond) - 1, -1):
        for rest in spread(total - rank, depth - 1, num_actions):
            yield (rank, *rest)


class _Descents:
    """A tree of checkpoints in which the children of a state are ranked by their scores."""

    def __init__(self, account: Account, words: prng.Words):
        self.world = account.world
        self.store = Store(account, shared=None)
        self._words = words
        self._ranked: dict[Path, list[Path]] = {}

    def descend(self, ranks: Path) -> None:
        """Takes the child with each of the ranks in turn, as far as there is one and the budget pays for."""
        path: Path = ()
        for rank in ranks:
            if path not in self._ranked:
                self._ranked[path] = self._children(path)
            if rank >= len(self._ranked[path]):
                return
            path = self._ranked[path][rank]

    def _children(self, path: Path) -> list[Path]:
        """As many as leave enough for equally many in all later segments, the best first."""
        left = self.world.depth - len(path)
        width = most(
            lambda number: self.store.affords(Price(number * left, number * left if number > 1 else 1)),
            self.world.num_actions,
        )
        children = [(*path, action) for action in range(self.world.num_actions)]
        if width < len(children):
            order = draws.permutation(draws.fold(self._words, *path, self.world.num_actions), len(children))
            children = [children[at] for at in order[:width]]
        if width == 1 and left > 1:
            self.store.train(children[0])
            return children
        scores = {child: self.store.score(child) for child in children}
        return sorted(children, key=lambda child: -scores[child])


def beam_price(width: int, num_actions: int, depth: int) -> Price:
    """Of all children of `width` states in each segment, or of as many as there are."""
    states = sum(num_actions * min(width, num_actions**length) for length in range(depth))
    return Price(states, states)


def beam(account: Account, words: prng.Words) -> None:
    """The widest beam that the budget pays for; what is left widens its last segment.

    A budget that doesn't pay for a beam of one state goes down once, as `greedy` does.
    """
    world, store = account.world, Store(account, shared=None)
    width = most(
        lambda number: store.affords(beam_price(number, world.num_actions, world.depth)),
        world.num_actions ** (world.depth - 1),
    )
    if not width:
        return _Descents(account, words).descend((0,) * world.depth)
    ranked: list[Path] = [()]
    for _ in range(world.depth - 1):
        scores = {child: store.score(child) for path in ranked[:width] for child in _extended(path, world.num_actions)}
        ranked = sorted(scores, key=lambda child: -scores[child])
    for path in ranked:
        for child in _extended(path, world.num_actions):
            store.score(child)


def _extended(path: Path, num_actions: int) -> list[Path]:
    return [(*path, action) for action in range(num_actions)]
