"""Confirming what was found: schedules trained again from fresh seeds, and scored on data that no search has seen.

A search picks the best of many noisy scores, so its own are too good. Fresh are first parameters of the head, order,
dropout and noise; the split of the data stays as it was.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from jaxft import recipe as recipes
from jaxft.explore.account import Path
from jaxft.explore.journal import Journal, Scores
from jaxft.explore.world import Training
from jaxft.recipe import MAX_SEED, Recipe
from jaxft.train.setup import Setup


def fresh(chosen: Recipe, number: int) -> Recipe:
    """The recipe with the seeds of its `number`-th confirmation, counted from 1."""
    seeds = recipes.stream_seeds(chosen)
    new = {name: (seeds[name] + number) % (MAX_SEED + 1) for name in ("init", "order", "dropout", "noise")}
    changed = dataclasses.replace(chosen.seeds, subsample=seeds["subsample"], **new)
    return dataclasses.replace(chosen, seeds=changed)


def confirm(
    setup: Setup,
    set_up: Callable[[Recipe], Setup],
    world_of: Callable[[Setup], Training],
    schedules: Sequence[Path],
    num_seeds: int,
    journal: Journal,
    on_run: Callable[[int, Path, Scores], None] = lambda seed, path, scores: None,
) -> dict[Path, list[Scores]]:
    """Schedule -> its test scores from `num_seeds` fresh seeds. set_up, world_of: make the world of a recipe."""
    found: dict[Path, list[Scores]] = {path: [] for path in schedules}
    for seed in range(1, num_seeds + 1):
        missing = [path for path in found if journal.confirmed(seed, path) is None]
        if missing:
            world = world_of(set_up(fresh(setup.recipe, seed)))
            world.train(missing)
            for path in missing:
                journal.confirm(seed, path, world.scores_on("test", path))
        for path, scores in found.items():
            confirmed = journal.confirmed(seed, path)
            assert confirmed is not None
            scores.append(confirmed)
            on_run(seed, path, confirmed)
    return found
