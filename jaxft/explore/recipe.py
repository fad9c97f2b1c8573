"""The recipe of an exploration: that of a run, and what is to be searched, for how much, against whom."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from jaxft.errors import Problems
from jaxft.explore import space
from jaxft.recipe import Recipe, at_least
from jaxft.strategy import Strategy, check_strategy


@dataclass(frozen=True)
class Grid:
    """Every combination of these values is a strategy; an empty list leaves that to the recipe."""

    learning_rate: tuple[float, ...] = ()
    optimizer: tuple[Literal["adamw", "sgd"], ...] = ()
    weight_decay: tuple[float, ...] = ()
    dropout: tuple[float, ...] = ()
    label_smoothing: tuple[float, ...] = ()
    label_noise: tuple[float, ...] = ()
    token_noise: tuple[float, ...] = ()
    freeze: tuple[str, ...] = ()
    batch_size: tuple[int, ...] = ()


@dataclass(frozen=True)
class Sample:
    """Strategies drawn at random, from ranges and lists; an empty one leaves that to the recipe."""

    count: int = 0
    """Strategies drawn."""
    learning_rate: tuple[float, ...] = ()
    """Lowest and highest; all magnitudes are as likely."""
    weight_decay: tuple[float, ...] = ()
    """Lowest and highest, as the next three."""
    label_smoothing: tuple[float, ...] = ()
    label_noise: tuple[float, ...] = ()
    token_noise: tuple[float, ...] = ()
    optimizer: tuple[Literal["adamw", "sgd"], ...] = ()
    """One of these, as the next three. Each dropout rate and each freeze is a program to be compiled."""
    dropout: tuple[float, ...] = ()
    freeze: tuple[str, ...] = ()
    batch_size: tuple[int, ...] = ()


@dataclass(frozen=True)
class Explore:
    """What is searched, and for how much."""

    strategies: tuple[Strategy, ...] = ()
    """To choose from in each segment, beside the recipe as it is."""
    grid: Grid = field(default_factory=Grid)
    """More of them."""
    sample: Sample = field(default_factory=Sample)
    """Still more, which mcts opens one after the other in each place, the oftener it comes there."""
    segments: int = 4
    """Equal parts of a run, or of what is left of it."""
    begin_with: str = ""
    """Folder of a run with segments: the search begins at a checkpoint of it and chooses the rest of that run."""
    begin_step: int | None = None
    """Which checkpoint; none: the newest."""
    budget: int | None = None
    """Gradient steps for each searcher, looks at the search split included; none: those of 16 whole runs."""
    searcher: str = "mcts"
    rivals: tuple[str, ...] = ("random_schedule",)
    """Others that search beside it, each with the same budget; `jaxft explore --list` names them."""
    metric: str = "loss"
    """What is looked at on the search split: loss, which tells schedules apart by few examples, or a metric of the
    task."""
    test_metric: str | None = None
    """What the schedules found are judged by on test: another, or the same; none: the task's own."""
    confirm_seeds: int = 5
    """Fresh seeds that every schedule found is trained again from, to be scored on test."""
    place: Literal["host", "device"] = "host"
    """Where mcts steps through segments: host, one step after the other; device, the whole search in one program, for
    small models. Rivals and confirmations are on the host always."""
    leaves: int = 1
    """Segments that mcts asks for at once, each by a draw of its own; devices, if there are several, share them."""
    keep_mb: float | None = None
    """Room for training states, 2,048 where none is given; what does not fit is trained again when it is needed. On the
    device, where nothing is trained again, none is what they take."""


@dataclass(frozen=True)
class ExploreRecipe(Recipe):
    """An exploration of a run's schedules."""

    out: str = "runs/explore"
    """The run folder."""
    explore: Explore = field(default_factory=Explore)


def _check_explore(recipe: ExploreRecipe, problems: Problems) -> None:
    explore = recipe.explore
    at_least(problems, "explore", explore, 1, "segments", "budget", "confirm_seeds", "begin_step", "leaves")
    if explore.keep_mb is not None and not explore.keep_mb > 0:
        problems.add("explore.keep_mb", f"must be positive, is {explore.keep_mb}")
    if recipe.data.search is None:
        fix = "a fraction such as 0.1, or a file"
        problems.add("data.search", "nothing to look at while searching; dev and test are for the report", fix)
    if recipe.segments:
        fix = "explore.strategies, or explore.begin_with: a run that has them"
        problems.add("segments", "are what is searched, so they cannot be given", fix)
    if recipe.train.freeze.startswith("re:"):
        problems.add("train.freeze", "a pattern cannot be combined with strategies", "none, encoder or layers:K")
    for number, strategy in enumerate(explore.strategies):
        check_strategy(strategy, f"explore.strategies[{number}]", recipe, problems)
    if recipe.optim.momentum:
        what = f"{recipe.optim.momentum} has no meaning with strategies, whose sgd takes its momentum from optim.b1"
        problems.add("optim.momentum", what, "0")
    can_draw = _check_sample(explore.sample, problems)
    count = space.count(explore)
    if count > space.LISTED:
        problems.add("explore", f"{count:,} strategies are more than {space.LISTED:,}", _FEWER)
    else:
        _check_space(recipe, can_draw, problems)
    steps = recipe.train.steps
    if steps is not None and explore.segments > steps >= 1:
        problems.add("explore.segments", f"{explore.segments} segments do not fit into {steps} steps")
    if explore.begin_step is not None and not explore.begin_with:
        problems.add("explore.begin_step", "is a checkpoint of explore.begin_with, which is not given", "null")


def _check_space(recipe: ExploreRecipe, can_draw: bool, problems: Problems) -> None:
    from jaxft.explore.searchers import EXPLORERS

    explore, of_many = recipe.explore, Problems()  # a value is in many of these
    for strategy in space.of_grid(explore.grid):
        check_strategy(strategy, "explore.grid", recipe, of_many)
    if can_draw:
        for strategy in space.extremes(explore.sample):
            check_strategy(strategy, "explore.sample", recipe, of_many)
    problems.errors += dict.fromkeys(of_many.errors)
    if not can_draw:
        return
    others = len(space.strategies(recipe)) - 1
    if not others:
        problems.add("explore.strategies", "there is nothing to choose from beside the recipe as it is", _EXAMPLE)
    explorers = sorted({explore.searcher, *explore.rivals} & set(EXPLORERS))
    if explorers and others > space.EXPLORED:
        what = f"{others:,} strategies beside the recipe as it is; {' and '.join(explorers)} takes {space.EXPLORED}"
        problems.add("explore", what, _FEWER)


def _check_sample(sample: Sample, problems: Problems) -> bool:
    """Whether strategies can be drawn."""
    before = len(problems.errors)
    at_least(problems, "explore.sample", sample, 0, "count")
    for name in space.RANGES:
        values = getattr(sample, name)
        if values and not (len(values) == 2 and values[0] <= values[1]):
            problems.add(f"explore.sample.{name}", f"a lowest and a highest value, not {list(values)}")
    if sample.learning_rate and not min(sample.learning_rate) > 0:
        problems.add("explore.sample.learning_rate", f"must be positive, is {min(sample.learning_rate)}")
    if sample.count > 0 and dataclasses.replace(sample, count=0) == Sample():
        problems.add(
            "explore.sample", f"there is nothing to draw {sample.count} strategies from", "learning_rate: [0.1, 10]"
        )
    return len(problems.errors) == before


_FEWER = "shorter lists in explore.grid, or a lower explore.sample.count"
_EXAMPLE = "such as `grid: {learning_rate: [0.3, 1, 3]}`"


def _check_searchers(recipe: ExploreRecipe, problems: Problems) -> None:
    from jaxft.explore.searchers import EXPLORERS, MCTS, check

    explore = recipe.explore
    playing = (explore.searcher, *explore.rivals)
    check(explore.searcher, "explore.searcher", problems)
    for name in explore.rivals:
        check(name, "explore.rivals", problems)
    if explore.place == "device" and MCTS not in playing:
        problems.add("explore.place", f"the device is for {MCTS}, which does not search here", "host")
    if explore.leaves > 1 and not set(EXPLORERS) & set(playing):
        problems.add("explore.leaves", f"are for {' and '.join(EXPLORERS)}, which do not search here", "1")
    if explore.leaves > 1 and explore.place == "device":
        what = "a search on the device asks for one segment after the other"
        problems.add("explore.leaves", what, "1, or explore.place: host")


ExploreRecipe.RULES = (*Recipe.RULES, _check_explore, _check_searchers)  # type: ignore[misc]


def run_recipe(recipe: ExploreRecipe, **changes: Any) -> Recipe:
    """The recipe of one run, without what is searched."""
    names = [one.name for one in dataclasses.fields(Recipe)]
    return dataclasses.replace(Recipe(**{name: getattr(recipe, name) for name in names}), **changes)
