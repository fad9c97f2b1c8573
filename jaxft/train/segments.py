"""Segments: what a strategy means for a run's batches, model and parameters that move."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from jaxft.data.batches import StepBatch, TrainBatches
from jaxft.errors import Problem, Problems, UserError
from jaxft.model.bert import Rates
from jaxft.model.heads import Bert
from jaxft.recipe import Noise, Recipe
from jaxft.strategy import Segment, Strategy
from jaxft.train.partition import Partition, partition
from jaxft.train.vocabulary import WORD

if TYPE_CHECKING:
    from jaxft.train.setup import Setup

DEFAULT = Strategy()
"""What the rest of the recipe says."""


def strategy_at(segments: Sequence[Segment], step: int) -> Strategy:
    """The strategy of a step, counted from 0."""
    for segment in segments:
        if step < segment.steps:
            return segment.strategy
        step -= segment.steps
    return DEFAULT


def spans(segments: Sequence[Segment], num_steps: int) -> Iterator[tuple[Strategy, int, int]]:
    """(strategy, first step, step after the last) of a run's stretches, up to so many steps."""
    first = 0
    for segment in segments:
        last = min(first + segment.steps, num_steps)
        if first < last:
            yield segment.strategy, first, last
        first = last
    if first < num_steps:
        yield DEFAULT, first, num_steps


def noise_of(noise: Noise, strategy: Strategy) -> Noise:
    """The recipe's noise as a strategy has it."""
    changed = {"label": strategy.label_noise, "token_replace": strategy.token_noise}
    return dataclasses.replace(noise, **{name: value for name, value in changed.items() if value is not None})


def brings_tokens(recipe: Recipe, strategies: Sequence[Strategy] = ()) -> bool:
    """Whether training may meet tokens that its texts do not hold. strategies: that may come."""
    return any(noise_of(recipe.noise, one).brings_tokens for one in (DEFAULT, *recipe.segments, *strategies))


def partition_of(setup: Setup, strategy: Strategy) -> Partition:
    """What moves under a strategy."""
    if strategy.freeze is None:
        return setup.partition
    return partition(strategy.freeze, setup.params, setup.config.num_hidden_layers)


def model_of(setup: Setup, strategy: Strategy) -> Bert:
    """The network that trains under a strategy."""
    model = setup.model(training=True)
    rate = strategy.dropout
    rates = model.rates if rate is None else Rates(hidden=rate, attention=rate, head=rate)
    return model.clone(rates=rates, frozen_layers=partition_of(setup, strategy).frozen_layers)


def check_freezing(setup: Setup, strategies: Sequence[Strategy], where: Callable[[int], str]) -> None:
    """Raises UserError where strategies freeze what is not there, or less than the run does."""
    problems, least = Problems(), setup.partition.frozen_layers
    for number, strategy in enumerate(strategies):
        try:
            within = partition_of(setup, strategy)
        except UserError as error:
            problems.errors += [
                dataclasses.replace(problem, where=f"{where(number)}.freeze") for problem in error.problems
            ]
            continue
        if within.frozen_layers < least or (WORD in setup.partition.frozen and WORD not in within.frozen):
            what = f"{strategy.freeze} trains what train.freeze: {setup.recipe.train.freeze} freezes"
            problems.add(f"{where(number)}.freeze", what, "freeze less in train.freeze")
    problems.raise_if_any()


def warnings_of(setup: Setup) -> Iterator[Problem]:
    """What of a recipe's segments comes to nothing, or means something else than it does without them."""
    optim, total = setup.recipe.optim, sum(one.steps for one in setup.recipe.segments)
    if total > setup.num_steps:
        yield Problem("segments", f"have {total} steps in all, but the run ends after {setup.num_steps}")
    if setup.recipe.segments and optim.name == "sgd":
        what = f"in a run with segments, sgd is a mean of the gradients: it has the momentum optim.b1 = {optim.b1:g}"
        yield Problem("optim.name", what, "" if optim.b1 == 0 else "b1: 0 for plain sgd")


class SegmentBatches:
    """The batches of a run with segments, by step: each step's as its strategy has them."""

    def __init__(self, of: Callable[[Strategy], TrainBatches], segments: Sequence[Segment]) -> None:
        self._of, self._segments = of, segments
        self.shapes = tuple(sorted({shape for one in (DEFAULT, *segments) for shape in self._batches(one).shapes}))

    def _batches(self, strategy: Strategy) -> TrainBatches:
        return self._of(strategy.strategy if isinstance(strategy, Segment) else strategy)

    def make(self, step: int) -> StepBatch:
        """The batch of one step: a pure function of its number."""
        return self._of(strategy_at(self._segments, step)).make(step)
