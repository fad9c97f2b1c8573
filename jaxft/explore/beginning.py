"""Where a search begins that goes on from a run: at a checkpoint, after the segments that the run had by then."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from jaxft import recipe as recipes
from jaxft.checkpoint.store import Damaged, Snapshot, Store
from jaxft.errors import Problems, UserError
from jaxft.explore.recipe import ExploreRecipe
from jaxft.recipe import Recipe
from jaxft.report.run_folder import RunFolder
from jaxft.strategy import Segment, segment
from jaxft.train import resume, segments, step
from jaxft.train.setup import Setup
from jaxft.train.step import State
from jaxft.train.stepper import rule_of

WHERE = "explore.begin_with"
DECIDES_NOTHING = (*resume.MAY_CHANGE, "segments", "train.steps", "train.epochs")
DECIDES_NOTHING += ("train.patience", "train.stop_metric", "train.eval_every", "train.log_every")
"""Keys that decide no bit of a run's states, or are compared otherwise."""


class Beginning(NamedTuple):
    """segments: of the run until its checkpoint. state: after them, on the host."""

    segments: tuple[Segment, ...]
    state: State


def read(chosen: ExploreRecipe, setup: Setup) -> Beginning:
    """What a search of the setup's runs begins with. Raises UserError where the run is no such run."""
    folder = chosen.explore.begin_with
    run = RunFolder(folder)
    if not run.recipe.is_file():
        raise UserError(WHERE, f"{folder} is not the folder of a run", "that of a `jaxft train`")
    theirs = recipes.load(run.recipe, Recipe)
    if not theirs.segments:
        what = f"the run in {folder} has no segments, so another optimiser than searches have"
        raise UserError(WHERE, what, "train it with `segments: [{steps: ...}]`, which may change nothing else")
    saved = _checkpoint(run.checkpoints, chosen.explore.begin_step)
    _check(saved, theirs, setup, folder)
    trainable, _ = setup.split()
    state = resume.restored(saved, step.init(trainable, rule_of(setup)), str(run.checkpoints))
    return Beginning(until(theirs, saved.step), state)


def until(chosen: Recipe, steps: int) -> tuple[Segment, ...]:
    """The segments of a run's first steps, in full."""
    return tuple(segment(one, last - first) for one, first, last in segments.spans(chosen.segments, steps))


def _checkpoint(folder: Path, number: int | None) -> Snapshot:
    store = Store(folder)
    steps = store.steps()
    if not steps:
        raise UserError(WHERE, f"there is no checkpoint in {folder}", "train.save_every and keep_checkpoints keep some")
    if number is not None and number not in steps:
        there = ", ".join(map(str, steps))
        raise UserError("explore.begin_step", f"there is no checkpoint of step {number} in {folder}", f"one of {there}")
    try:
        return store.load(steps[-1] if number is None else number)
    except Damaged as damaged:
        raise UserError(WHERE, f"{folder}: {damaged}", "explore.begin_step: another one") from None


def _check(saved: Snapshot, theirs: Recipe, setup: Setup, folder: str) -> None:
    resume.check_format(saved, folder)
    problems, identity = Problems(), resume.identify(setup)

    def tell(what: str, here: Any, there: Any) -> None:
        problems.add(WHERE, f"{what} is {here} here, but {there} in {folder}", "as the run has it")

    for key, there, here in resume.differences(recipes.to_tree(theirs), recipes.to_tree(setup.recipe)):
        if not key.startswith(DECIDES_NOTHING):
            tell(key, here, there)
    steps = theirs.train.steps or theirs.train.epochs * setup.steps_per_epoch
    if steps != setup.num_steps:
        tell("the number of steps", setup.num_steps, steps)
    for what, told in resume.changed_inputs(saved.facts["identity"], identity, folder):
        problems.add(WHERE, f"{what}: {told}", "what the run has")
    problems.raise_if_any()
