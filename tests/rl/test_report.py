"""What a run tells when it is done, what it leaves to play with, and the bound that decides about convergence."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from jaxft import draws
from jaxft.errors import UserError
from jaxft.report.run_folder import RunFolder
from jaxft.rl import converge, export, report
from jaxft.rl.converge import Score
from jaxft.rl.env import Box
from jaxft.rl.program import to_env
from jaxft.rl.progress import Progress
from jaxft.rl.report import Result
from jaxft.rl.run import run
from tests.rl.worlds import Walk, recipe_of


@pytest.fixture(scope="module")
def finished(walk: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, Result]:
    out = tmp_path_factory.mktemp("runs") / "run"
    return RunFolder(out), run(recipe_of(out, seeds=2), quiet=True)


# --- convergence -----------------------------------------------------------------------------------------------------


def test_the_interval_is_students():
    returns = np.random.default_rng(0).gamma(2.0, 50.0, size=30).astype(np.float32)
    found = converge.score(returns, np.arange(30))
    low, high = stats.t.interval(0.95, 29, loc=returns.mean(), scale=stats.sem(returns.astype(np.float64)))
    np.testing.assert_allclose([found.mean, found.low, found.high], [returns.mean(), low, high], rtol=1e-6)
    assert (found.length, found.episodes) == (14.5, 30)


def test_it_converged_only_if_the_lower_end_is_not_below_the_threshold():
    score = converge.score([9.0, 10.0, 11.0, 10.0], [1, 1, 1, 1])
    assert score.low < 10 < score.high
    assert not score.passes(10.0) and not score.passes(None)
    assert score.passes(score.low) and not score.passes(np.nextafter(score.low, np.inf))
    same = converge.score([5.0] * 3, [1] * 3)
    assert (same.low, same.high) == (5.0, 5.0) and same.passes(5.0)


def test_one_episode_proves_nothing_and_no_number_passes():
    one = converge.score([500.0], [500])
    assert (one.low, one.high) == (-np.inf, np.inf) and not one.passes(-1e9)
    assert not converge.score([np.nan, 1.0], [1, 1]).passes(-1e9)
    ranks = [Score(np.nan, np.nan, np.nan, 1, 2).rank, one.rank, Score(501, 500.5, 502, 1, 2).rank]
    assert ranks == sorted(ranks)


def test_returns_are_shown_to_the_places_that_matter():
    assert [converge.shown(value) for value in (475.25, -1234.5, 0.7453, -0.04)] == [
        "475.2",
        "-1,234.5",
        "0.745",
        "-0.040",
    ]


# --- the report ------------------------------------------------------------------------------------------------------


def test_report_json_has_what_programs_read(finished):
    folder, result = finished
    tree = json.loads(folder.report_json.read_text())
    assert set(tree) >= {
        "task", "env", "agent", "threshold", "steps", "env_steps", "env_steps_per_s", "wall_s", "compile_s",
        "numerics", "micro_batches", "device", "seeds", "params_sha256", "params_sha256_by_seed", "best_seed",
        "converged", "before", "after", "by_seed",
    }  # fmt: skip
    assert (tree["task"], tree["env"], tree["agent"], tree["threshold"]) == ("rl", "walk", "dqn", 7.5)
    last = [record for record in folder.records() if record["kind"] == "eval" and record["step"] == 512]
    assert tree["after"]["mean_return"] == pytest.approx(np.mean([record["mean"] for record in last]))
    assert {seed: one["last"]["mean"] for seed, one in tree["by_seed"].items()} == {
        str(record["seed"]): record["mean"] for record in last
    }
    assert tree["seeds"]["1"]["explore"] == 1 and len(tree["params_sha256_by_seed"]) == 2
    assert tree["env_steps"] == 1024 and tree["env_steps_per_s"] > 0


def test_report_md_says_whether_it_converged_and_how_to_do_it_again(finished):
    folder, result = finished
    text = folder.report_md.read_text()
    assert report.sentence(result) in text and "![learning curves](learning_curves.png)" in text
    assert f"jaxft rl {folder.recipe} --out {folder.path}-again" in text and result.params_sha256 in text
    assert "Numerics: **canonical**" in text
    assert (folder.path / "learning_curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_sentence_counts_seeds_that_converged(finished):
    _, result = finished
    one, two = result.courses
    none = replace(result, courses=(replace(one, converged=None), replace(two, converged=None)))
    assert report.sentence(none).startswith("Did not converge: no seed of 2 had the 95 % bound of the mean return of 8")
    some = replace(result, courses=(replace(one, converged=256), replace(two, converged=None)))
    assert "Converged: 1 of 2 seeds" in report.sentence(some) and "after 256 steps; 1 did not" in report.sentence(some)
    both = replace(result, courses=(replace(one, converged=256), replace(two, converged=384)))
    assert report.sentence(both).endswith("at 7.5 or more after 256 to 384 steps.")
    assert "has no threshold" in report.sentence(replace(result, threshold=None))


def test_a_seed_without_a_number_is_left_out_of_means_and_stays_in_the_table(finished, tmp_path):
    folder, result = finished
    nan = Score(np.nan, np.nan, np.nan, 3.0, 8)
    broken = replace(result.courses[0], before=nan, last=None, converged=None, failed="broke")
    spoiled = replace(result, courses=(broken, result.courses[1]))
    tree = report.to_json(spoiled)
    assert tree["before"]["mean_return"] == result.courses[1].before.mean  # type: ignore[union-attr]
    assert tree["by_seed"]["0"]["failed"] == "broke" and tree["by_seed"]["0"]["before"]["mean"] is None
    assert "| broke |" in report.markdown(spoiled, folder)
    records = [{**one, "mean": None} if (one["seed"], one["step"]) == (0, 0) else one for one in folder.records()]
    records = [one for one in records if one["seed"] or one["step"] == 0]
    report.curves(records, tmp_path / "curves.png", spoiled)
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def test_progress_is_plain_lines_where_there_is_no_terminal(finished):
    _, result = finished
    text = StringIO()
    courses = {course.seed: course for course in result.courses}
    with Progress(512, console=Console(file=text, width=200), every_s=0.0) as progress:
        progress.compiling("evaluation")
        progress.round(256, courses)
    lines = text.getvalue().splitlines()
    assert lines[0] == "compiling evaluation ..." and lines[1].startswith("256 of 512 steps: mean return ")
    assert lines[1].endswith(f"{len(result.converged)} of 2 converged")


# --- what is left ----------------------------------------------------------------------------------------------------


def test_an_exported_agent_comes_back_as_the_best_of_its_run_and_plays_alike(finished):
    folder, result = finished
    course = next(course for course in result.courses if course.seed == result.best_seed)
    for path in (folder.path, folder.model):
        saved = export.read(path)
        assert saved.facts["seed"] == course.seed and saved.facts["step"] == course.best_step
        assert saved.trainable.keys() == course.params.keys()
        for name, leaf in course.params.items():
            np.testing.assert_array_equal(saved.trainable[name], leaf)
    setup = saved.setup
    words = draws.fold_in(setup.words(course.seed).evaluation, course.best_step // 128)
    returns, lengths = jax.jit(setup.program().score)(
        *jax.tree.map(jnp.asarray, (saved.trainable, saved.frozen)), words
    )
    assert course.best is not None and converge.score(returns, lengths).mean == pytest.approx(course.best.mean)


def test_what_is_no_agent_is_refused(finished, tmp_path):
    folder, _ = finished
    with pytest.raises(UserError, match="holds no agent: .* is missing"):
        export.read(tmp_path)
    facts = json.loads((folder.model / export.AGENT).read_text())

    def refused(why: str, facts: dict, tensors: bytes) -> None:
        (tmp_path / export.AGENT).write_text(json.dumps(facts))
        (tmp_path / export.WEIGHTS).write_bytes(tensors)
        with pytest.raises(UserError, match=why):
            export.read(tmp_path)

    whole = (folder.model / export.WEIGHTS).read_bytes()
    refused("has format 9, this jaxft reads 1", facts | {"format": 9}, whole)
    refused("cannot be read", facts, whole[: len(whole) // 2])
    wider = facts["recipe"] | {"rl": facts["recipe"]["rl"] | {"network": {"width": 16, "depth": 1}}}
    refused("holds other parameters", facts | {"recipe": wider}, whole)


def test_continuous_actions_are_scaled_to_the_range_and_clipped():
    scale = to_env(Walk(actions=Box((-2.0, 0.0), (2.0, 10.0))))  # type: ignore[arg-type]
    actions = jnp.array([[0.0, 0.0], [1.0, -1.0], [0.5, 0.5], [-9.0, 9.0]])
    np.testing.assert_allclose(scale(actions), [[0, 5], [2, 0], [1, 7.5], [-2, 10]])
    same = jnp.arange(3)
    assert to_env(Walk())(same) is same
