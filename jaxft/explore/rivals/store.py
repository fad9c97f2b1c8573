"""Checkpoints of a rival: which segments and which looks at the dev score it has paid for.

Independent trials keep a checkpoint each: two schedules that begin alike train what they share twice. A tree of
checkpoints shares every state. A rival that can see beforehand that the budget doesn't pay for something doesn't begin
it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from jaxft.explore.account import Account, Path, Spent


class Price(NamedTuple):
    """What something costs: segments to train and looks at the dev score."""

    segments: int
    scores: int

    def plus(self, other: Price) -> Price:
        return Price(self.segments + other.segments, self.scores + other.scores)


class Store:
    """Trains and scores schedules, and remembers what is there.

    shared: the states after this many segments of schedules that begin alike are one; 0: each schedule has its own,
    None: all states are shared.
    """

    def __init__(self, account: Account, shared: int | None):
        self.account = account
        self.world = account.world
        self._shared = account.world.depth if shared is None else shared
        self._trained: set[Any] = set()
        self._scores: dict[Any, float] = {}

    def price(self, path: Path, length: int | None = None) -> Price:
        """Of the score of a path after `length` segments (all of them), from what is there."""
        length = len(path) if length is None else length
        missing = sum(self._key(path, at) not in self._trained for at in range(1, length + 1))
        return Price(missing, self._key(path, length) not in self._scores)

    def affords(self, price: Price) -> bool:
        """Whether the budget that is left pays for it."""
        return self.account.affords(*price)

    def train(self, path: Path, length: int | None = None) -> None:
        """Trains what is missing of the first `length` segments (all) of a path. Raises Spent."""
        for at in range(1, (len(path) if length is None else length) + 1):
            if self._key(path, at) not in self._trained:
                self.account.train(path[:at])
                self._trained.add(self._key(path, at))

    def score(self, path: Path, length: int | None = None) -> float:
        """The dev score of a path after `length` segments (all), what is missing trained. Raises Spent, with nothing
        charged."""
        length = len(path) if length is None else length
        if not self.affords(self.price(path, length)):
            raise Spent
        key = self._key(path, length)
        if key not in self._scores:
            self.train(path, length)
            self._scores[key] = self.account.score(path[:length])
        return self._scores[key]

    def finish(self, schedules: Iterable[Path]) -> None:
        """Scores whole schedules in this order, leaving out what the budget doesn't pay for."""
        for schedule in schedules:
            if self.affords(self.price(schedule)):
                self.score(schedule)

    def _key(self, path: Path, length: int) -> Any:
        return path[:length] if length <= self._shared else (path, length)


def most(fits: Callable[[int], bool], limit: int) -> int:
    """The largest number in 0 .. limit that fits, if all smaller ones do (0 always does)."""
    low, high = 0, 1
    while high <= limit and fits(high):
        low, high = high, 2 * high
    high = min(high, limit + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
