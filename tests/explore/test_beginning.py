"""Searches that go on from a checkpoint of a run: they begin with its bits, and find recipes of the whole run."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest

from jaxft import recipe
from jaxft.errors import UserError
from jaxft.explore import beginning
from jaxft.explore.recipe import ExploreRecipe, run_recipe
from jaxft.explore.run import run, schedule_recipe, world
from jaxft.explore.setup import num_begun, set_up
from jaxft.report.run_folder import RunFolder
from jaxft.strategy import Segment
from jaxft.train import run as training

pytestmark = pytest.mark.usefixtures("as_users_do")

FIRST = (Segment(learning_rate=3.0, steps=4), Segment(learning_rate=0.5, steps=8))


@pytest.fixture(scope="module")
def trained(recipe_on, tmp_path_factory, as_users_do) -> RunFolder:
    """A run of 20 steps with checkpoints at 10 and 20; its second segment ends in between."""
    plain = run_recipe(recipe_on("nowhere"))
    train = dataclasses.replace(plain.train, save_every=10, keep_checkpoints=4)
    out = tmp_path_factory.mktemp("runs") / "trained"
    training.run(dataclasses.replace(plain, segments=FIRST, train=train, out=str(out)), quiet=True)
    return RunFolder(out)


@pytest.fixture(scope="module")
def going_on(recipe_on, trained) -> Any:
    """Makes recipes of a search for the ten steps after the checkpoint at 10."""

    def make(out: str | Path = "nowhere", **changes: Any) -> ExploreRecipe:
        explore = {"begin_with": str(trained.path), "begin_step": 10, "segments": 2, "budget": 40}
        return recipe_on(out, explore={**explore, **changes.pop("explore", {})}, **changes)

    return make


@pytest.mark.slow
def test_it_begins_with_the_bits_of_the_checkpoint_or_comes_to_them_itself(going_on, trained):
    chosen = going_on()
    setup = set_up(chosen)
    assert setup.recipe.segments == (FIRST[0], dataclasses.replace(FIRST[1], steps=6))
    assert (num_begun(setup), setup.num_steps) == (10, 20)
    state = beginning.read(chosen, setup).state
    from_there, from_nothing = world(chosen, setup, None, state), world(chosen, setup, None)
    at_ten = next(line["digest"] for line in trained.records() if line.get("digest") and line["step"] == 10)
    for one in (from_there, from_nothing):
        assert one.segment_steps == 5 and one.digest(()) == at_ten
    assert from_there.digest((1, 0)) == from_nothing.digest((1, 0))
    assert from_there.trained == 2, "what it begins with is nobody's segment"


@pytest.mark.slow
def test_what_it_finds_is_a_recipe_of_the_whole_run(going_on, tmp_path):
    chosen = going_on(tmp_path / "out")
    result = run(chosen, quiet=True)
    schedule = recipe.load(tmp_path / "out" / "schedule.yaml")
    setup = set_up(chosen)
    assert schedule == schedule_recipe(chosen, setup, result.best.path)
    assert [one.steps for one in schedule.segments] == [4, 6, 5, 5] and schedule.segments[0] == FIRST[0]
    again = dataclasses.replace(schedule, out=str(tmp_path / "again"))
    trained = training.run(again, quiet=True)
    searched = world(chosen, setup, None)
    assert searched.scores_on("test", result.best.path) == pytest.approx(trained.test, rel=1e-5)
    last = [line["digest"] for line in RunFolder(again.out).records() if line.get("digest")][-1]
    assert last == searched.digest(result.best.path)


def told(chosen: ExploreRecipe) -> str:
    with pytest.raises(UserError) as caught:
        set_up(chosen)
    return "\n".join(map(str, caught.value.problems))


@pytest.mark.slow
def test_what_it_cannot_begin_with_is_told(going_on, trained, recipe_on, tmp_path):
    assert "nowhere/else is not the folder of a run" in told(going_on(explore={"begin_with": "nowhere/else"}))
    assert "begin_step: there is no checkpoint of step 11" in told(going_on(explore={"begin_step": 11}))
    assert "2 segments do not fit into 0 steps" in told(going_on(explore={"begin_step": None})), (
        "the last is the newest"
    )
    assert "3 segments do not fit into 10 steps" in told(going_on(explore={"segments": 3}))
    other = told(going_on(optim={"learning_rate": 1.0}, train={"steps": 30}))
    assert f"optim.learning_rate is 1.0 here, but 0.003 in {trained.path}" in other
    assert "the number of steps is 30 here, but 20 in" in other
    on_device = {"place": "device"}
    assert "on the device a search begins at the start of a run" in told(going_on(explore=on_device))


def test_runs_without_segments_or_checkpoints_are_told(going_on, trained, tmp_path):
    copied = tmp_path / "copied"
    shutil.copytree(trained.path, copied)
    begin = {"explore": {"begin_with": str(copied), "begin_step": None}}
    shutil.rmtree(copied / "checkpoints")
    assert "there is no checkpoint in" in told(going_on(**begin))
    plain = dataclasses.replace(recipe.load(copied / "recipe.yaml"), segments=())
    (copied / "recipe.yaml").write_text(recipe.dump(plain))
    assert "has no segments, so another optimiser than searches have" in told(going_on(**begin))


def test_a_damaged_checkpoint_is_told(going_on, trained, tmp_path):
    copied = tmp_path / "copied"
    shutil.copytree(trained.path, copied)
    victim = max((copied / "checkpoints" / "step_00000010").rglob("*"), key=lambda path: path.stat().st_size)
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    assert "checkpoint of step 10 is damaged" in told(going_on(explore={"begin_with": str(copied)}))
