"""Update strategies: what may change from one segment of a run to the next, and the sections that name them.

A run may have `segments`: so many steps with one strategy, then so many with the next; steps after the last one go by
the rest of the recipe. `jaxft explore` searches such schedules, and `jaxft train` runs them.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

from jaxft.errors import Problems


@dataclass(frozen=True)
class Strategy:
    """How some steps of a run update the parameters; null: as the rest of the recipe says."""

    learning_rate: float = 1.0
    """Times the rate that the schedule gives."""
    optimizer: Literal["adamw", "sgd"] | None = None
    """sgd: with momentum b1, as a mean of the gradients."""
    weight_decay: float | None = None
    dropout: float | None = None
    label_smoothing: float | None = None
    label_noise: float | None = None
    """Like noise.label."""
    token_noise: float | None = None
    """Like noise.token_replace."""
    freeze: str | None = None
    """none | encoder | layers:K; no less than train.freeze does."""
    batch_size: int | None = None
    """So many of a step's examples, the first of them."""

    def __str__(self) -> str:
        """What it changes, as in YAML."""
        changed = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(Strategy)
            if getattr(self, field.name) != field.default
        }
        factor = {"learning_rate": "×"}
        told = [f"{name} {factor.get(name, '')}{_short(value)}" for name, value in changed.items()]
        return ", ".join(told) or "as the recipe says"


@dataclass(frozen=True)
class Segment(Strategy):
    """A strategy, and for how long."""

    steps: int = 0
    """Steps before the next segment."""

    @property
    def strategy(self) -> Strategy:
        return Strategy(**{field.name: getattr(self, field.name) for field in dataclasses.fields(Strategy)})


def segment(strategy: Strategy, steps: int) -> Segment:
    """`steps` steps with a strategy."""
    return Segment(**dataclasses.asdict(strategy), steps=steps)


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def check_strategy(strategy: Strategy, where: str, recipe: Any, problems: Problems) -> None:
    """Adds what is out of range. where: name of the section in messages. recipe: the run's."""
    if not 0 <= strategy.learning_rate <= 1e6:
        problems.add(f"{where}.learning_rate", f"a factor from 0 to a million, is {strategy.learning_rate}")
    if strategy.weight_decay is not None and not 0 <= strategy.weight_decay < math.inf:
        problems.add(f"{where}.weight_decay", f"must not be negative, is {strategy.weight_decay}")
    for name in ("dropout", "label_smoothing", "label_noise", "token_noise"):
        value = getattr(strategy, name)
        if value is not None and not 0 <= value < 1:
            problems.add(f"{where}.{name}", f"is a rate from 0 up to but not including 1, is {value}")
    if strategy.label_noise is not None and recipe.noise.label_confusion is not None:
        what = f"changes labels by a rate of {strategy.label_noise}, and noise.label_confusion by a matrix"
        problems.add(f"{where}.label_noise", what, "set one of them: label_noise or label_confusion to null")
    most = recipe.train.batch_size
    if strategy.batch_size is not None and not 1 <= strategy.batch_size <= most:
        problems.add(f"{where}.batch_size", f"must lie between 1 and train.batch_size = {most}: {strategy.batch_size}")
    elif strategy.batch_size is not None and strategy.batch_size < recipe.train.micro_batches:
        what = f"{recipe.train.micro_batches} micro-batches cannot be cut from {strategy.batch_size} examples"
        problems.add(f"{where}.batch_size", what)
    kind, _, argument = (strategy.freeze or "none").partition(":")
    if not (strategy.freeze in (None, "none", "encoder") or (kind == "layers" and argument.isdigit())):
        problems.add(f"{where}.freeze", f"expected none, encoder or layers:K, came {strategy.freeze!r}")


def check_segments(recipe: Any, problems: Problems) -> None:
    """The section `segments` of a recipe."""
    for number, one in enumerate(recipe.segments):
        where = f"segments[{number}]"
        check_strategy(one, where, recipe, problems)
        if one.steps < 1:
            problems.add(f"{where}.steps", f"must be at least 1, is {one.steps}")
    if recipe.segments and recipe.train.freeze.startswith("re:"):
        problems.add("train.freeze", "a pattern cannot be combined with segments", "none, encoder or layers:K")
    if recipe.segments and recipe.optim.momentum:
        what = f"{recipe.optim.momentum} has no meaning with segments, whose sgd takes its momentum from optim.b1"
        problems.add("optim.momentum", what, "0")
    total = sum(one.steps for one in recipe.segments)
    if recipe.train.steps is not None and total > recipe.train.steps:
        problems.add("segments", f"have {total} steps in all, but train.steps is {recipe.train.steps}")
