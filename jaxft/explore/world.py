"""Training as an environment: a state is what a step changes, an action is the strategy of the next segment of steps.

The state after a path of actions is a pure function of the path. Batches, dropout and noise have the addresses that
they have in a run of `jaxft train` with these segments, so the state after a whole path is the one which that run ends
with, to the bit; and two paths that part later have met the same numbers until then. States that were let go are
trained again from the nearest ancestor that is kept, to the same bits.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from jaxft.evaluate.predict import Predictions
from jaxft.explore.account import Path
from jaxft.explore.journal import Journal
from jaxft.mesh import devices
from jaxft.report.progress import Progress
from jaxft.strategy import Strategy, segment
from jaxft.train import segments, step
from jaxft.train.loop import Evaluator
from jaxft.train.partition import Flat
from jaxft.train.setup import Setup, metrics
from jaxft.train.step import State
from jaxft.train.stepper import Stepper

SPLIT = "search"
"""The part of the data that a search looks at."""
ROOM_MB = 2048.0
"""For training states, where nothing else is said."""


def looks_worth(setup: Setup) -> float:
    """What a look at the search split is worth in gradient steps: a forward pass is a third of a step, by tokens."""
    looked = int(setup.datasets[SPLIT].encoded.piece_lengths.sum())
    train = setup.datasets["train"].encoded
    tokens_a_step = float(train.piece_lengths.sum()) / train.num_examples * setup.recipe.train.batch_size
    return looked / tokens_a_step / 3


def _are_numbers(predictions: Predictions) -> bool:
    """Whether the network still says something. Of words that were cut off it says nothing."""
    if predictions.per_token:
        return any(np.isfinite(one).any() for one in predictions.probabilities)
    return bool(np.isfinite(predictions.probabilities).all())


class Training:
    """The world of a setup's runs; a `World`.

    setup: of runs with segments, `depth * segment_steps` steps long. metric: of the task, or `loss`, which counts
    negative. num_listed: strategies before those that are drawn; none: all. leaves: paths to be asked for at once.
    keep_mb: for states, beside the root's. journal: records what is computed, and has what was. begun: the state after
    the setup's own segments, on the host, if it is at hand; else they are trained.
    """

    def __init__(
        self,
        setup: Setup,
        strategies: Sequence[Strategy],
        *,
        depth: int,
        segment_steps: int,
        metric: str,
        num_listed: int | None = None,
        leaves: int = 1,
        keep_mb: float = ROOM_MB,
        journal: Journal | None = None,
        begun: State | None = None,
    ) -> None:
        self.num_actions, self.depth, self.segment_steps = len(strategies), depth, segment_steps
        self.strategies = tuple(strategies)
        self.num_listed = self.num_actions if num_listed is None else num_listed
        self.leaves = leaves
        self._setup, self._metric, self._journal = setup, metric, journal
        self._stepper = Stepper(setup, Progress(0, quiet=True), is_parametric=True)
        self._beside: list[Stepper] = []
        self._evaluator = Evaluator(setup)
        trainable, self._frozen = setup.split()
        self.diverged: set[Path] = set()
        """Paths in whose last segment a loss was no number."""
        self._begun = setup.recipe.segments
        self._root = self._begin(trainable) if begun is None else self._stepper.place(begun)
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(self._root))
        self.room = max(1, int(keep_mb * 2**20 / size))
        self._kept: OrderedDict[Path, State] = OrderedDict()
        self._scores: dict[Path, dict[str, float]] = {}
        self.trained = 0
        """Segments that were computed, which is what time went into; what a searcher pays is its account's."""

    @property
    def score_steps(self) -> float:
        return looks_worth(self._setup)

    def score(self, path: Path) -> float:
        """The metric on the search split after a path; -inf where training diverged."""
        value = self.scores(path)[self._metric]
        if not np.isfinite(value):
            return -np.inf
        return -value if self._metric == "loss" else value

    def scores(self, path: Path) -> dict[str, float]:
        """All metrics on the search split; NaN where training diverged."""
        if path not in self._scores:
            recorded = None if self._journal is None else self._journal.scores(path)
            self._scores[path] = self._look(path) if recorded is None else recorded
        return self._scores[path]

    def recall(self, scores: Mapping[Path, dict[str, float]]) -> None:
        """Takes scores on the search split that were computed elsewhere; those that were seen here stay."""
        self._scores = {**scores, **self._scores}

    def scores_on(self, split: str, path: Path) -> dict[str, float]:
        """All metrics on a split; NaN where training diverged."""
        self.state(path)  # which tells
        if not any(path[: len(one)] == one for one in self.diverged):
            predictions = self._evaluator.predict(split, self.params(path))
            if _are_numbers(predictions):
                return self._evaluator.judge(split, predictions).scores
        return dict.fromkeys(metrics(self._setup.task, self._setup.corpus), np.nan)

    def _look(self, path: Path) -> dict[str, float]:
        found = self.scores_on(SPLIT, path)
        if self._journal is not None:
            self._journal.looked(path, found, self.digest(path))
        return found

    def params(self, path: Path) -> dict[str, Any]:
        """The network after a path, joined as the partition has it."""
        trainable = {name: np.asarray(leaf) for name, leaf in self.state(path).trainable.items()}
        run = self.setup_of(path)
        return run.partition.join(run.widen(trainable, self._step(len(path))), self._frozen)

    def setup_of(self, path: Path) -> Setup:
        """The run whose first segments a path is."""
        chosen = (segment(self.strategies[action], self.segment_steps) for action in path)
        recipe = dataclasses.replace(self._setup.recipe, segments=(*self._begun, *chosen))
        return dataclasses.replace(self._setup, recipe=recipe)

    def state(self, path: Path) -> State:
        """The state after a path; not to be donated."""
        if not path:
            return self._root
        if path in self._kept:
            self._kept.move_to_end(path)
            return self._kept[path]
        return self._keep(path, *self._segment(self._stepper, self.state(path[:-1]), path))

    def ready(self, paths: Sequence[Path]) -> None:
        """Trains the states after paths that were not looked at yet."""
        recorded = {path for path in paths if self._journal is not None and self._journal.scores(path) is not None}
        self.train([path for path in paths if path not in self._scores and path not in recorded])

    def train(self, paths: Sequence[Path]) -> None:
        """Trains the states after paths side by side, a device each, if there are several. The bits are the same."""
        steppers = self._steppers(len(paths))
        if len(steppers) == 1:
            return  # they are trained when they are needed
        for length in range(1, self.depth + 1):
            begun = dict.fromkeys(path[:length] for path in paths if len(path) >= length)
            missing = [path for path in begun if path not in self._kept]
            for first in range(0, len(missing), len(steppers)):
                self._side_by_side(missing[first : first + len(steppers)], steppers)

    def _steppers(self, wanted: int) -> list[Stepper]:
        """Up to so many, each with a device of its own."""
        room = len(jax.devices()) if self._stepper.mesh.size == 1 else 1
        for number in range(1 + len(self._beside), min(wanted, room)):
            quiet = Progress(0, quiet=True)
            self._beside.append(Stepper(self._setup, quiet, is_parametric=True, mesh=devices.single(number)))
        return [self._stepper, *self._beside][: max(1, min(wanted, room))]

    def _side_by_side(self, paths: Sequence[Path], steppers: Sequence[Stepper]) -> None:
        parents = [self.state(path[:-1]) for path in paths]
        with ThreadPoolExecutor(len(paths)) as pool:
            done = list(pool.map(self._segment, steppers, parents, paths))
        for path, (state, is_finite) in zip(paths, done, strict=True):
            self._keep(path, self._stepper.place(state), is_finite)

    def digest(self, path: Path) -> str:
        """8 hexadecimal digits of all bits of the parameters after a path, as metrics.jsonl of a run has them."""
        return self._stepper.digest(self.state(path).trainable)

    def _step(self, length: int) -> int:
        """Steps that a run has taken after so many segments of a path."""
        return sum(one.steps for one in self._begun) + length * self.segment_steps

    def _begin(self, trainable: Flat) -> State:
        state, is_finite = self._stepper.place(step.init(trainable, self._stepper.optimiser)), True
        for strategy, first, last in segments.spans(self._begun, self._step(0)):
            state, still = self._steps(self._stepper, state, strategy, first, last)
            is_finite &= still
        if not is_finite:
            self.diverged.add(())
        return state

    def _steps(self, stepper: Stepper, state: State, strategy: Strategy, first: int, last: int) -> tuple[State, bool]:
        """(the state, which is donated, after steps `first` to `last - 1`, whether all losses were numbers)."""
        batches, losses = self._setup.batches_of(strategy), []
        for number in range(first, last):
            state, info = stepper(state, batches.make(number), strategy)
            losses.append(info.loss)
        return state, all(np.isfinite(np.asarray(loss)).all() for loss in losses)

    def _segment(self, stepper: Stepper, state: State, path: Path) -> tuple[State, bool]:
        """The last segment of a path, from the state before it."""
        strategy, first = self.strategies[path[-1]], self._step(len(path) - 1)
        return self._steps(stepper, stepper.place(state), strategy, first, first + self.segment_steps)

    def _keep(self, path: Path, state: State, is_finite: bool) -> State:
        self.trained += 1
        if not is_finite:
            self.diverged.add(path)
        if self._journal is not None and self._setup.recipe.numerics == "canonical":  # fast promises no bits
            self._journal.check(path, self._stepper.digest(state.trainable))
        self._kept[path] = state
        while len(self._kept) > self.room:
            self._kept.popitem(last=False)
        return state
