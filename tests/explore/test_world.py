"""Training as an environment: states are pure functions of paths, and those that `jaxft train` has."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import jax
import numpy as np
import pytest

from jaxft import recipe
from jaxft.errors import UserError
from jaxft.explore.account import Path
from jaxft.explore.journal import Journal
from jaxft.explore.run import schedule_recipe, world
from jaxft.explore.setup import set_up
from jaxft.explore.world import ROOM_MB, Training
from jaxft.report.run_folder import RunFolder
from jaxft.train import run as training
from jaxft.train.setup import Setup

pytestmark = pytest.mark.usefixtures("as_users_do")

WILD = 3
"""The strategy with a rate at which training diverges."""
PATHS = [(0,), (1,), (2,), (0, 0), (0, 1), (1, 2), (2, 1)]


@pytest.fixture(scope="module")
def chosen(recipe_on, as_users_do):
    return recipe_on("nowhere")


@pytest.fixture(scope="module")
def setup(chosen) -> Setup:
    return set_up(chosen)


@pytest.fixture(scope="module")
def plenty(chosen, setup) -> Training:
    """Keeps all states."""
    return world(chosen, setup, journal=None)


@pytest.fixture(scope="module")
def digests(plenty) -> dict[Path, str]:
    return {path: plenty.digest(path) for path in PATHS}


def little(training: Training, room: int) -> Training:
    """The same world, which keeps but so many states and has none."""
    other = copy.copy(training)
    other.room, other._kept, other._scores, other.trained = room, type(training._kept)(), {}, 0
    other.diverged = set()
    return other


def test_a_path_is_one_state_whatever_was_visited_before_and_had_to_go(plenty, digests):
    """To the bit: with room for one state, those that come again are trained again."""
    assert len(set(digests.values())) == len(PATHS) == plenty.trained, "no two are the same"
    root = plenty.digest(())
    again = little(plenty, 1)
    for path in PATHS[::-1]:
        assert again.digest(path) == digests[path]
        assert len(again._kept) == 1
    assert again.trained == sum(map(len, PATHS)), "(0,) and (0, 0) were let go in between"
    leaves = [jax.tree.leaves(one.state((0,))) for one in (plenty, again)]
    assert all(np.array_equal(x, y) for x, y in zip(*leaves, strict=True)), "not the parameters alone"
    assert plenty.digest(()) == root, "the root is still there"


@pytest.mark.slow
def test_paths_are_trained_side_by_side_on_several_devices_to_the_same_bits(setup, chosen, plenty, digests):
    beside = world(chosen, setup, journal=None)
    beside.train(PATHS)
    assert len(beside._beside) >= 3 and beside.trained == len(PATHS), "each once"
    assert {path: beside.digest(path) for path in PATHS} == digests and beside.trained == len(PATHS)
    beside.scores((1, 0))
    beside.ready([(1, 0), (2, 0), (2, 2)])
    assert beside.trained == len(PATHS) + 3 and {(2, 0), (2, 2)} <= set(beside._kept), "(1, 0) was looked at"
    few = world(chosen, setup, journal=None)
    few.room = 2
    few.train(PATHS)
    assert {path: few.digest(path) for path in PATHS} == digests, "with little room it is trained again"


def test_room_is_what_the_recipe_gives(plenty, chosen, setup):
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(plenty.state(()))) / 2**20
    explore = dataclasses.replace(chosen.explore, keep_mb=3.5 * size)
    assert world(dataclasses.replace(chosen, explore=explore), setup, None).room == 3
    assert chosen.explore.keep_mb is None and plenty.room == int(ROOM_MB / size)


def test_what_a_segment_freezes_stays(plenty):
    root, frozen = plenty.state(()).trainable, plenty.state((2,)).trainable
    moved = {path[0] for path in root if not np.array_equal(root[path], frozen[path])}
    assert moved == {path[0] for path in root} - {"encoder"}


@pytest.mark.slow
def test_the_state_after_a_path_is_that_of_a_run_of_jaxft_train(plenty, digests, setup, chosen, tmp_path):
    """Digests of metrics.jsonl, every 10 steps, through a segment that freezes; and the run reports on test what the
    world sees there."""
    path = (1, 2)
    schedule = dataclasses.replace(schedule_recipe(chosen, setup, path), out=str(tmp_path / "run"))
    (tmp_path / "schedule.yaml").write_text(recipe.dump(schedule))
    result = training.run(recipe.load(tmp_path / "schedule.yaml"), quiet=True)
    records = RunFolder(tmp_path / "run").records()
    found = {record["step"]: record["digest"] for record in records if record.get("digest")}
    assert found == {10: digests[path[:1]], 20: digests[path]}
    assert result.test == pytest.approx(plenty.scores_on("test", path), rel=1e-5)


def test_a_score_is_that_of_the_metric_and_loss_counts_negative(plenty):
    scores = plenty.scores((1, 0))
    assert plenty.score((1, 0)) == -scores["loss"]
    assert set(scores) >= {"accuracy", "macro_f1", "mcc", "loss"} and 0 < scores["accuracy"] <= 1


def test_what_diverges_scores_least(plenty):
    assert plenty.score((WILD,)) == plenty.score((WILD, 0)) == -np.inf
    assert np.isfinite(plenty.score((0,))) and np.isnan(list(plenty.scores((WILD, 0)).values())).all()
    assert np.isnan(list(plenty.scores_on("test", (WILD, 0)).values())).all()


def test_a_look_is_worth_its_forward_passes(plenty, setup):
    """In tokens: a third of a step that reads as many."""
    tokens = {name: setup.datasets[name].encoded.piece_lengths for name in ("search", "train")}
    assert plenty.score_steps == pytest.approx(tokens["search"].sum() / (16 * tokens["train"].mean()) / 3)


# --- the journal -----------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    return RunFolder(tmp_path / "explored").create()


def with_journal(plenty: Training, folder: RunFolder) -> Training:
    again = little(plenty, 1)
    again._journal = Journal(folder)
    return again


def test_the_journal_has_what_was_seen_and_nothing_is_trained_for_it(plenty, folder):
    first = with_journal(plenty, folder)
    seen = {path: first.scores(path) for path in ((), (0,), (WILD,), (1, 2))}
    second = with_journal(plenty, folder)
    for path, scores in seen.items():
        np.testing.assert_equal(second.scores(path), scores)
    assert second.trained == 0 < first.trained
    lines = folder.records()
    assert [(line["kind"], line["step"]) for line in lines] == [("segment", number) for number in (1, 2, 3, 4)]
    assert lines[3]["path"] == [1, 2] and lines[3]["digest"] == plenty.digest((1, 2))


def test_other_bits_than_those_that_were_recorded_are_an_error(plenty, folder):
    with_journal(plenty, folder).scores((0,))
    text = folder.metrics.read_text()
    damaged = "00000000"
    folder.metrics.write_text(text.replace(plenty.digest((0,)), damaged))
    with pytest.raises(UserError, match=rf"state after \[0\] has other bits.*was {damaged}.*--overwrite"):
        with_journal(plenty, folder).scores((0, 1))


def test_a_confirmation_is_recorded_with_its_seed(folder):
    journal = Journal(folder)
    journal.confirm(2, (0, 1), {"accuracy": 0.5, "loss": float("nan")})
    again = Journal(folder)
    assert again.confirmed(1, (0, 1)) is None and again.scores((0, 1)) is None
    np.testing.assert_equal(again.confirmed(2, (0, 1)), {"accuracy": 0.5, "loss": float("nan")})


@pytest.mark.parametrize("change", ["data", "model", "labels"])
def test_an_exploration_goes_on_from_the_same_inputs_only(folder, change):
    identity = {
        "recipe": {"seed": 0},
        "labels": ["a", "b"],
        "data": {"train": "5f0c"},
        "model": "91ab",
        "place": {"platform": "cpu"},
    }
    Journal(folder).begin(identity)
    Journal(folder).begin(identity)
    assert len(folder.records()) == 1
    other: Any = {"data": {"train": "0000"}, "model": "0000", "labels": ["b", "a"]}[change]
    with pytest.raises(UserError, match="changed since the run"):
        Journal(folder).begin({**identity, change: other})
