"""What a searcher may spend and what it has seen: one ledger for the explorer and all of its rivals.

A schedule is a path: the number of an action for each of the first segments of a run. Budgets are counted in gradient
steps. Whoever trains a segment pays for its steps, however often somebody else has trained it; whoever looks at the dev
score pays what the forward passes are worth. A world is a pure function of paths, so searchers that share one see the
same scores, and what it remembers to save time saves nobody a charge.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

Path = tuple[int, ...]
"""Actions of the first segments; () is the root."""


_ROUNDING = 1e-9
"""Gradient steps, which may be fractions, that sums may be off by."""


class Sizes(Protocol):
    """What a search is as large as."""

    @property
    def num_actions(self) -> int:
        """A."""
        ...

    @property
    def depth(self) -> int:
        """Segments of a whole run."""
        ...

    @property
    def segment_steps(self) -> int:
        """Gradient steps of a segment."""
        ...

    @property
    def score_steps(self) -> float:
        """What a look at the dev score is worth, in gradient steps."""
        ...


class World(Sizes, Protocol):
    """What is searched."""

    @property
    def num_listed(self) -> int:
        """How many actions may be tried anywhere from the start; the rest were drawn at random, and a place that is
        come to more often is worth more of them."""
        ...

    @property
    def room(self) -> int:
        """States that can be kept, the root's not counted."""
        ...

    @property
    def leaves(self) -> int:
        """Paths that it likes to be asked for at once."""
        ...

    def ready(self, paths: Sequence[Path]) -> None:
        """Is told what will be asked for next, so that it may be trained side by side; nothing is charged."""
        ...

    def score(self, path: Path) -> float:
        """Dev score after the segments of a path; the higher, the better; -inf where training diverged."""
        ...


class Spent(Exception):
    """The budget does not pay for what was asked for; nothing was charged."""


@dataclass(frozen=True)
class Sighting:
    """A whole schedule that was scored, or one whose first segments diverged, which scores -inf however it goes on; it
    stands with action 0 for the rest. spent: gradient steps charged by then."""

    spent: float
    path: Path
    score: float


@dataclass
class Account:
    """One searcher's budget in a world, in gradient steps."""

    world: World
    budget: float
    segments: int = 0
    """Trained, those trained again included."""
    scores: int = 0
    """Looks at the dev score."""
    sightings: list[Sighting] = field(default_factory=list)
    states: set[Path] = field(default_factory=set)
    """Paths that were trained, each once."""
    on_look: Callable[[Account], None] | None = None
    """Is called after each look."""

    @property
    def spent(self) -> float:
        """Gradient steps charged so far."""
        return self.segments * self.world.segment_steps + self.scores * self.world.score_steps

    @property
    def left(self) -> float:
        return self.budget - self.spent

    def affords(self, segments: int, scores: int = 0) -> bool:
        """Whether the budget pays for so many segments and looks."""
        price = segments * self.world.segment_steps + scores * self.world.score_steps
        return price <= self.left + _ROUNDING

    def train(self, path: Path) -> None:
        """Pays for the last segment of a path. Raises Spent.

        Whether the searcher has kept the state before it is for the searcher to know: one that has not trains the
        segments before it again, and pays again.
        """
        assert path, "the root is not trained"
        self._pay(self.world.segment_steps)
        self.segments += 1
        self.states.add(path)

    def train_whole(self, path: Path, since: int = 0) -> None:
        """Pays for the segments of a path after the first `since`. Raises Spent at the first that the budget does not
        pay for; those before it are charged."""
        for length in range(since + 1, len(path) + 1):
            self.train(path[:length])

    def score(self, path: Path) -> float:
        """Pays for a look at the dev score after a path. Raises Spent."""
        assert len(path) <= self.world.depth, f"{path} is longer than a run"
        self._pay(self.world.score_steps)
        self.scores += 1
        score = self.world.score(path)
        if len(path) == self.world.depth or score == -math.inf:
            whole = path + (0,) * (self.world.depth - len(path))
            self.sightings.append(Sighting(self.spent, whole, score))
        if self.on_look is not None:
            self.on_look(self)
        return score

    def best(self, within: float | None = None) -> Sighting | None:
        """The best schedule sighted by the time that `within` gradient steps were spent, the earliest of equals."""
        seen = [one for one in self.sightings if within is None or one.spent <= within + _ROUNDING]
        return max(seen, key=lambda one: one.score, default=None)

    def _pay(self, steps: float) -> None:
        if steps > self.left + _ROUNDING:
            raise Spent
