"""A whole exploration: set up, search, let the rivals search, confirm on fresh seeds, report."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from rich.console import Console

from jaxft import prng
from jaxft import recipe as recipes
from jaxft.errors import UserError
from jaxft.explore import beginning, on_device, report, space
from jaxft.explore.account import Account, Path
from jaxft.explore.confirm import confirm
from jaxft.explore.explorer import Explorer
from jaxft.explore.journal import Journal, Scores
from jaxft.explore.plan import plan
from jaxft.explore.progress import Progress
from jaxft.explore.recipe import ExploreRecipe, run_recipe
from jaxft.explore.report import Found, Result
from jaxft.explore.searchers import EXPLORERS, MCTS, play
from jaxft.explore.setup import set_up, set_up_of, test_metric
from jaxft.explore.world import ROOM_MB, Training
from jaxft.recipe import Recipe
from jaxft.report.run_folder import RunFolder
from jaxft.search.grown import Grown
from jaxft.strategy import segment
from jaxft.train.clock import Clock
from jaxft.train.resume import identify
from jaxft.train.run import device_name, opened, peak_memory_mb
from jaxft.train.setup import Setup
from jaxft.train.step import State

DEFAULT = "default"
"""What every schedule is compared with: the recipe as it is."""


def run(
    chosen: ExploreRecipe, *, overwrite: bool = False, quiet: bool = False, console: Console | None = None
) -> Result:
    """Explores and writes the run folder; goes on with the unfinished exploration that is there, unless `overwrite`.

    Raises UserError on bad inputs, before anything is compiled or written.
    """
    console = console or Console(quiet=quiet)
    folder, clock = RunFolder(chosen.out), Clock()
    with opened(folder, chosen, set_up, overwrite) as (setup, resumes):
        for warning in setup.warnings:
            console.print(f"warning: {warning}", style="yellow", markup=False, highlight=False, soft_wrap=True)
        journal = Journal(folder)
        journal.begin(identify(setup))
        world_of = partial(world, chosen, journal=None)
        begun = beginning.read(chosen, setup).state if chosen.explore.begin_with else None
        searched = world(chosen, setup, journal=journal, begun=begun)
        with Progress(_signed(chosen.explore.metric), quiet=quiet, console=console) as progress:
            if resumes:
                progress.message(f"going on with the unfinished exploration in {folder.path}")
            accounts = search(chosen, setup, searched, progress)
            progress.confirms()
            fresh = _confirm(chosen, setup, world_of, accounts, journal, progress)
        result = _result(chosen, setup, searched, accounts, fresh, clock)
        tree = explorer_tree(chosen, setup, searched) if chosen.explore.searcher in EXPLORERS else None
        report.write(folder, result, tree, recipes.dump(schedule_recipe(chosen, setup, result.best.path)))
    if not quiet:
        report.show(result, folder, console)
    return result


def world(chosen: ExploreRecipe, setup: Setup, journal: Journal | None, begun: State | None = None) -> Training:
    """The world of a setup's runs."""
    explore = chosen.explore
    room = ROOM_MB
    if explore.place == "device":  # where nothing is trained again, so nothing may be charged for it
        room = max(room, on_device.states_mb(setup, plan(chosen, setup)))
    more: Any = {"keep_mb": explore.keep_mb or room, "leaves": explore.leaves, "journal": journal, "begun": begun}
    return Training(setup, space.strategies(chosen), **_shape(chosen, setup), **more)


def _shape(chosen: ExploreRecipe, setup: Setup) -> dict[str, Any]:
    """What worlds are made with."""
    sizes = plan(chosen, setup)
    names = ("depth", "segment_steps", "num_listed")
    return {name: getattr(sizes, name) for name in names} | {"metric": chosen.explore.metric}


def search(chosen: ExploreRecipe, setup: Setup, searched: Training, progress: Progress) -> dict[str, Account]:
    """Searcher -> its account, spent."""
    words = prng.stream("explore", recipes.stream_seeds(chosen)["explore"])
    accounts, budget = {}, plan(chosen, setup).budget
    for name in dict.fromkeys((chosen.explore.searcher, *chosen.explore.rivals)):
        progress.begins(name)
        account = Account(searched, budget, on_look=progress.looked)
        if name == MCTS and chosen.explore.place == "device":
            searched.recall(_on_device(chosen, setup, account, words))
        accounts[name] = play(name, account, words)
        if accounts[name].best() is None:
            what = f"{accounts[name].budget:,.0f} gradient steps did not pay for one whole run by {name}"
            raise UserError("explore.budget", what, "more, or null for that of 16 runs")
    return accounts


def _on_device(
    chosen: ExploreRecipe, setup: Setup, account: Account, words: prng.Words
) -> dict[Path, dict[str, float]]:
    """What the explorer sees in the world on the device."""
    world_there = on_device.OnDevice(setup, space.strategies(chosen), **_shape(chosen, setup))
    metric = chosen.explore.metric
    sign = -1.0 if metric == "loss" else 1.0
    scores = on_device.seen(world_there, account, prng.path_words(words, MCTS))
    return {path: {metric: sign * score} for path, score in scores.items()}


def explorer_tree(chosen: ExploreRecipe, setup: Setup, searched: Training) -> Grown:
    """The explorer's tree, grown once more from the scores that are known."""
    words = prng.stream("explore", recipes.stream_seeds(chosen)["explore"])
    name, account = chosen.explore.searcher, Account(searched, plan(chosen, setup).budget)
    return Explorer(account, prng.path_words(words, name), settles=EXPLORERS[name]).grown()


def _confirm(
    chosen: ExploreRecipe,
    setup: Setup,
    world_of: Callable[[Setup], Training],
    accounts: dict[str, Account],
    journal: Journal,
    progress: Progress,
) -> dict[Path, list[Scores]]:
    default = (0,) * chosen.explore.segments
    schedules = list(dict.fromkeys([default, *(account.best().path for account in accounts.values())]))  # type: ignore[union-attr]
    total, done = len(schedules) * chosen.explore.confirm_seeds, [0]

    def ran(seed: int, path: Path, scores: Scores) -> None:
        done[0] += 1
        progress.confirmed(done[0], total)

    return confirm(setup, partial(set_up_of, chosen), world_of, schedules, chosen.explore.confirm_seeds, journal, ran)


def schedule_recipe(chosen: ExploreRecipe, setup: Setup, path: Path) -> Recipe:
    """The recipe of the run that a schedule is, which ends with the parameters that the search looked at."""
    strategies = space.strategies(chosen)
    steps = plan(chosen, setup).segment_steps
    found = (*setup.recipe.segments, *(segment(strategies[action], steps) for action in path))
    at_the_end = {"patience": None, "eval_every": setup.num_steps}  # its last parameters are what was judged
    at_the_end["save_every"] = chosen.train.save_every or steps
    train = dataclasses.replace(chosen.train, steps=setup.num_steps, **at_the_end)
    return run_recipe(chosen, segments=found, train=train, out=f"{chosen.out}/schedule")


def _result(
    chosen: ExploreRecipe,
    setup: Setup,
    searched: Training,
    accounts: dict[str, Account],
    fresh: dict[Path, list[Scores]],
    clock: Clock,
) -> Result:
    metric, looked_at = test_metric(chosen, setup), chosen.explore.metric

    def on_test(path: Path) -> tuple[list[float], list[float]]:
        return _values(fresh[path], metric), _values(fresh[path], looked_at)

    default = (0,) * searched.depth
    found = [Found(DEFAULT, default, None, None, *on_test(default))]
    for name, account in accounts.items():
        best = account.best()
        assert best is not None
        found.append(Found(name, best.path, best.score, account, *on_test(best.path)))
    seeds = recipes.stream_seeds(chosen)
    return Result(
        metric=_signed(metric),
        search_metric=_signed(looked_at),
        strategies=[str(one) for one in searched.strategies],
        found=found,
        segment_steps=searched.segment_steps,
        score_steps=searched.score_steps,
        budget=plan(chosen, setup).budget,
        trained=searched.trained,
        sizes={name: len(examples) for name, examples in setup.corpus.splits.items()},
        wall_s=clock.wall_s,
        peak_memory_mb=peak_memory_mb(),
        device=device_name(1),
        seeds=seeds,
        words=prng.stream("bootstrap", seeds["bootstrap"]),
    )


def _values(scores: list[Scores], metric: str) -> list[float]:
    """The higher, the better; -inf of runs that diverged, as the search has it."""
    sign = -1.0 if metric == "loss" else 1.0
    return [sign * one[metric] if np.isfinite(one[metric]) else -np.inf for one in scores]


def _signed(metric: str) -> str:
    """The name of what is the higher, the better."""
    return "negative loss" if metric == "loss" else metric
