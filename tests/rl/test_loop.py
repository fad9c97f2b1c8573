"""A run ends the same however often it was interrupted; seeds fail alone; it stops when there is nothing left to do."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from jaxft.checkpoint.store import Store
from jaxft.errors import UserError
from jaxft.report.run_folder import RunFolder
from jaxft.rl import loop
from jaxft.rl.converge import Score
from jaxft.rl.loop import Course
from jaxft.rl.report import Result
from jaxft.rl.run import run
from jaxft.rl.setup import set_up
from tests.rl.worlds import Walk, poison_of, recipe_of

pytestmark = pytest.mark.usefixtures("walk")
STEPS = (128, 256, 384, 512)


@pytest.fixture(scope="module")
def finished(walk: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, Result]:
    """Two seeds, four rounds, all checkpoints kept."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    result = run(recipe_of(out, seeds=2, train__keep_checkpoints=4), quiet=True)
    return RunFolder(out), result


def records(folder: RunFolder, kind: str, seed: int = 0) -> list[dict[str, Any]]:
    return [record for record in folder.records() if (record["kind"], record["seed"]) == (kind, seed)]


def test_a_run_leaves_its_files_and_a_record_of_each_round(finished):
    folder, result = finished
    names = {path.name for path in folder.path.iterdir()}
    assert names >= {"recipe.yaml", "env.json", "metrics.jsonl", "checkpoints", "report.json", "report.md", "model",
                     "learning_curves.png"}  # fmt: skip
    assert result.steps == STEPS[-1] and result.env_steps == result.taken == 2 * STEPS[-1]
    for seed in (0, 1):
        assert [record["step"] for record in records(folder, "eval", seed)] == [0, *STEPS]
        train = records(folder, "train", seed)
        assert [record["step"] for record in train] == list(STEPS)
        assert sum(record["updates"] for record in train) == result.updates[seed] == 8 * 15  # ready in the 2nd of 16
        assert all(record["episodes"] > 0 and 0 <= record["greedy_share"] <= 1 for record in train)
        levels = [record["level"] for record in train]
        assert levels == sorted(levels, reverse=True) and math.isclose(levels[-1], 0.05, rel_tol=1e-6)


@pytest.mark.slow
def test_the_same_recipe_gives_the_same_bits_again(finished, tmp_path):
    folder, result = finished
    again = run(recipe_of(tmp_path / "again", seeds=2), quiet=True)
    assert again.params_sha256 == result.params_sha256
    assert again.params_sha256_by_seed == result.params_sha256_by_seed
    assert RunFolder(tmp_path / "again").records() == folder.records()


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_a_run_that_goes_on_from_any_checkpoint_ends_as_it_would_have_ended(finished, tmp_path, step, capsys):
    folder, result = finished
    copy = RunFolder(tmp_path / "copy")
    shutil.copytree(folder.path, copy.path)
    shutil.rmtree(copy.model)
    copy.report_json.unlink()
    store = Store(copy.checkpoints, keep=4)
    assert store.steps() == list(STEPS)
    store.drop_after(step)
    again = run(recipe_of(copy.path, seeds=2, train__keep_checkpoints=4))
    assert "going on with the unfinished run" in capsys.readouterr().out
    assert again.params_sha256 == result.params_sha256
    assert copy.records() == folder.records()
    assert again.taken == 2 * (STEPS[-1] - step)
    for one, two in zip(again.courses, result.courses, strict=True):
        np.testing.assert_equal(vars(one), vars(two))


def test_an_unfinished_run_goes_on_under_its_own_recipe_alone(finished, tmp_path):
    folder, _ = finished
    shutil.copytree(folder.path, tmp_path / "copy")
    (tmp_path / "copy" / "report.json").unlink()
    with pytest.raises(UserError, match=r"rl.discount: is 0.5, but the unfinished run .* has 0.99"):
        run(recipe_of(tmp_path / "copy", seeds=2, discount=0.5), quiet=True)
    shutil.copytree(folder.path, tmp_path / "done")
    with pytest.raises(UserError, match="already holds a finished run"):
        run(recipe_of(tmp_path / "done", seeds=2), quiet=True)


def test_a_run_is_known_by_its_parameters_and_the_arrays_of_its_environment(walk):
    setup = set_up(recipe_of())
    usual = loop.identify(setup)
    assert usual["data"] == {} and usual["labels"] == []
    assert loop.identify(set_up(recipe_of(seeds__init=1)))["model"] != usual["model"]

    class Data(Walk):
        labels = ("no", "yes")

        def __init__(self, numbers: Any) -> None:
            object.__setattr__(self, "numbers", np.asarray(numbers))

    found = []
    for numbers in ([1, 2], [1, 3]):
        found.append(loop.identify(dataclasses.replace(setup, env=Data(numbers))))
    assert found[0]["labels"] == ["no", "yes"] and set(found[0]["data"]) == {"train"}
    assert found[0]["data"] != found[1]["data"]


# --- stopping --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_seed_stops_at_the_first_evaluation_whose_bound_passes_the_threshold(finished, tmp_path):
    folder, _ = finished
    lows = [record["low"] for record in records(folder, "eval")]
    first = next(n for n, low in enumerate(lows) if low >= 7.5)
    assert first > 0
    result = run(recipe_of(tmp_path / "stops", stop=True), quiet=True)
    assert result.courses[0].converged == result.steps == result.taken == [0, *STEPS][first]
    stopped = RunFolder(tmp_path / "stops")
    assert [record["low"] for record in records(stopped, "eval")] == lows[: first + 1]
    assert json.loads(stopped.report_json.read_text())["converged"] == {"0": result.steps}


@pytest.mark.slow
def test_one_vectorised_program_stops_when_all_seeds_have_converged(tmp_path):
    result = run(recipe_of(tmp_path / "fast", seeds=2, numerics="fast", stop=True), quiet=True)
    assert set(result.converged) == {0, 1} and result.steps == max(result.converged.values()) < STEPS[-1]
    assert "no bits are promised" in (tmp_path / "fast" / "report.md").read_text()


# --- what fails ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_seed_that_fails_spoils_no_other_and_all_failing_is_an_error(tmp_path):
    poison = poison_of(set_up(recipe_of(seeds=3)), 1)
    broken = {"options": f"poison={poison}", "steps": 128, "eval_every": 64}
    result = run(recipe_of(tmp_path / "one", seeds=3, **broken), quiet=True)
    why = "walk gave a reward or an observation that is not a number, at about step 16"
    assert [course.failed for course in result.courses] == ["", why, ""]
    assert [course.last is not None and math.isfinite(course.last.mean) for course in result.courses] == [True] * 3
    folder = RunFolder(tmp_path / "one")
    failed = [record for record in folder.records() if record["kind"] == "failed"]
    assert failed == [{"kind": "failed", "step": 64, "seed": 1, "why": why}]
    assert [len(records(folder, "train", seed)) for seed in range(3)] == [2, 0, 2]
    assert result.best_seed in (0, 2) and json.loads(folder.report_json.read_text())["by_seed"]["1"]["failed"] == why
    assert why in folder.report_md.read_text()

    with pytest.raises(UserError) as caught:
        run(recipe_of(tmp_path / "all", seed=1, **broken), quiet=True)
    assert caught.value.problems[0].where == "seed 1" and caught.value.problems[0].what == why
    alone = run(recipe_of(tmp_path / "alone", seed=2, **broken), quiet=True)
    assert alone.params_sha256_by_seed["2"] == result.params_sha256_by_seed["2"]


def test_parameters_that_are_not_numbers_are_a_failure_too(finished):
    setup = set_up(recipe_of())
    for loss, why in ((np.nan, "loss became not a number"), (0.5, "")):
        report: Any = SimpleNamespace(told=SimpleNamespace(bad=loop.NOT_BAD), learned={"loss": loss, "q": 1.0})
        assert loop._trouble(setup, report) == why


# --- how a seed is doing ---------------------------------------------------------------------------------------------


def scored(mean: float, margin: float = 1.0) -> Score:
    return Score(mean, mean - margin, mean + margin, 5.0, 10)


def test_the_best_evaluation_is_the_earliest_with_the_highest_bound():
    course = Course(3)
    for step, score in enumerate([scored(2), scored(9, 8), scored(5), scored(5), scored(np.nan)]):
        course.observe(score, step, 4.0, {("w",): np.full(1, step)})
    assert (course.before, course.best, course.best_step, course.converged) == (scored(2), scored(5), 2, 2)
    assert course.params[("w",)] == 2 and course.last is not None and math.isnan(course.last.mean)
    assert course.goes_on(stop=False) and not course.goes_on(stop=True)
    course.failed = "broken"
    assert not course.goes_on(stop=False)


def test_a_score_that_is_no_number_is_worse_than_any():
    course = Course(0)
    for score in (scored(np.nan), scored(-3, np.inf), scored(-4, np.inf)):
        course.observe(score, 1, None, {})
    assert course.best is not None and course.best.mean == -3


def test_what_a_checkpoint_tells_of_a_seed_is_read_back_as_it_was():
    course = Course(4, before=scored(np.nan), best=scored(2, np.inf), best_step=64, converged=64, failed="no")
    course.params = {("policy", "out", "bias"): np.arange(2.0)}
    facts = json.loads(json.dumps(loop._plain(course), allow_nan=False))
    arrays = {"4/best/policy/out/bias": np.arange(2.0), "4/state/x": np.zeros(1), "40/best/y": np.zeros(1)}
    np.testing.assert_equal(vars(loop._course(facts, arrays)), vars(course))
