"""Setting up an exploration: everything that can be wrong is found before anything is compiled or written."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterator

import numpy as np

from jaxft import recipe as recipes
from jaxft.errors import Problem, Problems, UserError
from jaxft.explore import beginning, on_device, space
from jaxft.explore.plan import Plan, num_begun, plan
from jaxft.explore.recipe import ExploreRecipe, run_recipe
from jaxft.explore.world import SPLIT
from jaxft.recipe import Recipe
from jaxft.strategy import Strategy, segment
from jaxft.train import segments
from jaxft.train.setup import Setup, metrics
from jaxft.train.setup import set_up as set_up_run


def set_up(chosen: ExploreRecipe) -> Setup:
    """The setup of a run of it, whose steps are whole segments. Raises UserError; nothing is compiled."""
    recipes.check(chosen)
    explore = chosen.explore
    setup = set_up_of(chosen, run_recipe(chosen))
    problems = Problems()
    _check_splits(setup, problems)
    _check_metric(chosen, setup, problems)
    if explore.begin_with:
        setup = _begun(chosen, setup, problems)
    left, sizes = setup.num_steps - num_begun(setup), plan(chosen, setup)
    if sizes.segment_steps < 1 or (explore.begin_with and left % explore.segments):
        problems.add("explore.segments", f"{explore.segments} segments do not fit into {left} steps")
    else:
        _check_budget(chosen, sizes, problems)
    if explore.place == "device":
        _check_device(chosen, setup, sizes, problems)
    problems.raise_if_any()
    train = dataclasses.replace(setup.recipe.train, steps=num_begun(setup) + sizes.segment_steps * explore.segments)
    made = dataclasses.replace(setup, recipe=dataclasses.replace(setup.recipe, train=train))
    return dataclasses.replace(made, warnings=(*setup.warnings, *_warnings(chosen, setup, sizes.segment_steps)))


def _begun(chosen: ExploreRecipe, setup: Setup, problems: Problems) -> Setup:
    """The setup with the segments that its runs begin with."""
    try:
        begun = beginning.read(chosen, setup).segments
    except UserError as error:
        problems.take(error)
        return setup
    return dataclasses.replace(setup, recipe=dataclasses.replace(setup.recipe, segments=begun))


def set_up_of(chosen: ExploreRecipe, run: Recipe) -> Setup:
    """The setup of a run whose segments an exploration chooses."""
    known = space.places(chosen)
    places = list(known.values())[1:]

    def named(problem: Problem) -> Problem:
        where = re.sub(r"^explore\.strategies\[(\d+)\]", lambda found: places[int(found[1])], problem.where)
        return dataclasses.replace(problem, where=where)

    try:
        return set_up_run(run, list(known)[1:])
    except UserError as error:
        raise UserError.of(dict.fromkeys(map(named, error.problems))) from None


def test_metric(chosen: ExploreRecipe, setup: Setup) -> str:
    """What the schedules found are judged by."""
    return chosen.explore.test_metric or setup.task.default_metric


def _check_splits(setup: Setup, problems: Problems) -> None:
    """What is looked at while searching must not be what is reported, nor what is trained on."""
    splits = setup.corpus.splits
    looked = set(splits[SPLIT].contents())
    for name in ("test", "dev", "train"):
        if name in splits:
            shared = len(looked & set(splits[name].contents()))
            if shared:
                what = f"{shared} of its texts are in {name} too"
                problems.add("data.search", what, "a file of other texts, or a fraction of train")
    if "test" not in splits:
        problems.add("data.test", "there is nothing to judge the schedules by", "a file, or a fraction such as 0.2")


def _check_metric(chosen: ExploreRecipe, setup: Setup, problems: Problems) -> None:
    known = metrics(setup.task, setup.corpus)
    for name in ("metric", "test_metric"):
        metric = getattr(chosen.explore, name)
        if metric is not None and metric not in known:
            near = difflib.get_close_matches(metric, known, n=1)
            fix = f"did you mean `{near[0]}`?" if near else ""
            problems.add(f"explore.{name}", f"there is no {metric!r}; known: {', '.join(known)}", fix)


def _check_budget(chosen: ExploreRecipe, sizes: Plan, problems: Problems) -> None:
    budget, steps, count, look = chosen.explore.budget, sizes.segment_steps, sizes.depth, sizes.score_steps
    least = int(np.ceil(count * steps + (count + 1) * look))
    if budget is not None and budget < steps:
        what = f"{budget} gradient steps do not pay for one segment of {steps}"
        problems.add("explore.budget", what, f"at least {least}, for a whole run, or null")
    elif budget is not None and budget < least:
        what = f"{budget} gradient steps do not pay for {count} segments of {steps} and a look after each"
        problems.add("explore.budget", f"{what}, worth {look:.1f}", f"at least {least}, or null")


def _check_device(chosen: ExploreRecipe, setup: Setup, sizes: Plan, problems: Problems) -> None:
    try:
        on_device.check(setup, chosen.explore.metric)
        on_device.check_room(setup, sizes, chosen.explore.keep_mb)
    except UserError as error:
        problems.take(error)


def _warnings(chosen: ExploreRecipe, setup: Setup, steps: int) -> Iterator[Problem]:
    count = chosen.explore.segments
    whole = num_begun(setup) + steps * count
    if whole < setup.num_steps:
        what = f"of {setup.num_steps} steps, runs have {whole}: {count} segments of {steps}"
        yield Problem("explore.segments", what, "a number that divides the steps")
    as_run = dataclasses.replace(setup.recipe, segments=(segment(Strategy(), steps),))
    yield from segments.warnings_of(dataclasses.replace(setup, recipe=as_run))
