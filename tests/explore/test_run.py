"""A whole exploration: what it writes, that a stop changes nothing, and what it says of what it found."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
from pathlib import Path as File
from typing import Any, NamedTuple

import numpy as np
import pytest
from matplotlib.image import imread
from rich.console import Console

from jaxft import prng, recipe
from jaxft.errors import UserError
from jaxft.explore import report
from jaxft.explore.account import Account, Sighting
from jaxft.explore.confirm import fresh
from jaxft.explore.progress import Progress
from jaxft.explore.recipe import run_recipe
from jaxft.explore.report import Found, Result
from jaxft.explore.run import run, schedule_recipe
from jaxft.explore.setup import set_up_of
from jaxft.report.run_folder import RunFolder
from tests.explore.worlds import Table

pytestmark = pytest.mark.usefixtures("as_users_do")

WILD = "learning_rate ×1e+06"
MAY_DIFFER = {"wall_s", "peak_memory_mb", "trained"}


class Explored(NamedTuple):
    folder: RunFolder
    result: Result
    told: str

    @property
    def report(self) -> dict[str, Any]:
        return json.loads(self.folder.report_json.read_text())


@pytest.fixture(scope="module")
def chosen(recipe_on, tmp_path_factory):
    return recipe_on(tmp_path_factory.mktemp("runs") / "explored")


@pytest.fixture(scope="module")
def explored(chosen, as_users_do) -> Explored:
    console = Console(file=io.StringIO(), width=100)
    result = run(chosen, console=console)
    return Explored(RunFolder(chosen.out), result, console.file.getvalue())  # type: ignore[attr-defined]


# --- what it writes --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_report_has_what_was_found_by_whom_and_for_how_much(explored, chosen):
    found = explored.report
    assert found["task"] == "explore" and found["metric"] == found["search_metric"] == "negative loss"
    assert found["strategies"] == ["as the recipe says", "learning_rate ×3", "learning_rate ×10, freeze encoder", WILD]
    assert (found["budget"], found["segment_steps"]) == (110, 10)
    assert found["sizes"] == {"train": 96, "test": 32, "search": 32}
    assert set(found["seeds"]) == set(prng.STREAMS)
    assert [one["searcher"] for one in found["found"]] == ["default", "mcts", "random_schedule"]
    default, mcts, rival = found["found"]
    assert default["path"] == [0, 0] and default["search"] is None and "spent" not in default
    for one in (mcts, rival):
        assert one["spent"] <= 110 and one["looks"] * found["score_steps"] + 10 * one["segments"] == one["spent"]
        best = max((seen for seen in one["sightings"] if seen[2] is not None), key=lambda seen: seen[2])
        assert (one["path"], one["search"]) == (best[1], best[2])
        assert len(one["path"]) == 2 and one["search"] < 0
    assert mcts["segments"] == mcts["states"] and mcts["sightings"][0][1] == [0, 0]
    for one in found["found"]:
        assert len(one["test_fresh"]) == 2 and all(score < 0 for score in one["test_fresh"])
        assert one["test_iqm"]["low"] <= one["test_iqm"]["value"] <= one["test_iqm"]["high"]
        assert ("improvement_over" in one) == (one is not mcts)
    assert found["verdict"] and found["trained"] >= 10 and found["wall_s"] > 0


@pytest.mark.slow
def test_metrics_have_every_look_and_every_confirmation(explored):
    records = explored.folder.records()
    assert [record["step"] for record in records] == list(range(len(records)))
    assert records[0]["kind"] == "begin" and records[1]["path"] == []
    looks = [tuple(record["path"]) for record in records if record["kind"] == "segment"]
    assert len(set(looks)) == len(looks)
    confirmed = [(record["seed"], tuple(record["path"])) for record in records if record["kind"] == "confirm"]
    schedules = {one.path for one in explored.result.found}
    assert sorted(confirmed) == sorted((seed, path) for seed in (1, 2) for path in schedules)


@pytest.mark.slow
def test_pictures_show_something_and_the_report_names_them(explored):
    text = explored.folder.report_md.read_text()
    for name in (report.CURVES, report.FRESH, report.TREE):
        assert f"]({name}.png)" in text
        pixels = imread(explored.folder.plot(name))
        assert pixels.shape[0] > 150 and pixels.shape[1] > 400 and pixels.std() > 0.02
    for line in (*report.verdict(explored.result), "| 2 | learning\\_rate ×10, freeze encoder |", "96 train"):
        assert line in text
    assert f"jaxft train {explored.folder.path / 'schedule.yaml'}" in text


@pytest.mark.slow
def test_the_console_tells_who_searches_and_what_came_of_it(explored):
    lines = explored.told.splitlines()
    assert [line for line in lines if line.endswith(" searches")] == ["mcts searches", "random_schedule searches"]
    assert any(line.startswith("trains what was found again") for line in lines)
    assert all(one.name in explored.told for one in explored.result.found)
    assert lines[-1].startswith("train it: ") and "report: " in lines[-2]


@pytest.mark.slow
def test_the_schedule_is_a_recipe(explored, chosen):
    """That `jaxft train` runs it to the state that was looked at, see test_world.py."""
    schedule = recipe.load(explored.folder.path / report.SCHEDULE)
    recipe.check(schedule)
    assert schedule == schedule_recipe(chosen, set_up_of(chosen, run_recipe(chosen)), explored.result.best.path)
    assert schedule.out == f"{chosen.out}/schedule" and schedule.data == chosen.data


@pytest.mark.slow
def test_what_diverges_stops_nobody(explored):
    looks = [record for record in explored.folder.records() if record["kind"] == "segment"]
    diverged = [record for record in looks if record["scores"]["loss"] is None]
    assert diverged and all(one["path"][0] == 3 and one["scores"]["loss_is"] == "nan" for one in diverged)
    assert all(np.isfinite(one.fresh).all() and one.path[0] != 3 for one in explored.result.found)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["host", "device"])
def test_where_every_run_diverges_the_report_says_so(recipe_on, tmp_path, place):
    """Though no run was trained to its end."""
    wild = {"explore": {"place": place, "rivals": [], "budget": 80}, "optim": {"weight_decay": 1e12}}
    result = run(recipe_on(tmp_path / "wild", **wild), quiet=True)
    assert report.verdict(result)[-1] == "Every schedule that the search tried diverged."
    assert result.best.path == (0, 0) and result.best.score == -np.inf
    account = result.best.account
    assert account is not None and len({one.path for one in account.sightings}) == len(account.sightings) > 1


# --- stops -----------------------------------------------------------------------------------------------------------


def stopped(explored: Explored, chosen, out: File, records: int) -> Any:
    """The exploration as a kill leaves it, with half of a line more; its recipe."""
    out.mkdir()
    for name in ("recipe.yaml", "env.json"):
        shutil.copy(explored.folder.path / name, out)
    lines = explored.folder.metrics.read_text().splitlines(keepends=True)
    (out / "metrics.jsonl").write_text("".join(lines[:records]) + lines[records][:20])
    return dataclasses.replace(chosen, out=str(out))


@pytest.mark.slow
def test_after_a_stop_it_ends_with_the_same_report(explored, chosen, tmp_path):
    """What was recorded is searched anew, the rest is trained anew: it is a second run, too."""
    again = stopped(explored, chosen, tmp_path / "again", 4)
    result = run(again, quiet=True)
    found = json.loads(RunFolder(again.out).report_json.read_text())
    expected = explored.report
    assert {key: found[key] for key in found if key not in MAY_DIFFER} == {
        key: expected[key] for key in expected if key not in MAY_DIFFER
    }
    times = [[{**line, "identity": None} for line in one.records()] for one in (explored.folder, RunFolder(again.out))]
    assert times[0] == times[1]
    assert result.trained < explored.result.trained


@pytest.mark.slow
def test_bits_that_changed_are_an_error(explored, chosen, tmp_path):
    """The state after [0] is trained again, for the state after [0, 0]."""
    again = stopped(explored, chosen, tmp_path / "again", 3)
    metrics = File(again.out) / "metrics.jsonl"
    digest = explored.folder.records()[2]["digest"]
    metrics.write_text(metrics.read_text().replace(digest, "12345678"))
    with pytest.raises(UserError, match=r"state after \[0\] has other bits.*was 12345678"):
        run(again, quiet=True)
    assert not RunFolder(again.out).finished


@pytest.mark.slow
def test_a_finished_exploration_is_left_alone(explored, chosen):
    before = explored.folder.report_json.read_bytes()
    with pytest.raises(UserError, match="already holds a finished run"):
        run(chosen, quiet=True)
    assert explored.folder.report_json.read_bytes() == before


@pytest.mark.slow
def test_another_recipe_does_not_go_on_with_it(explored, chosen, tmp_path):
    again = stopped(explored, chosen, tmp_path / "again", 5)
    other = dataclasses.replace(again, explore=dataclasses.replace(again.explore, budget=200))
    with pytest.raises(UserError, match=r"explore\.budget: is 200, but the unfinished run in .* has 110"):
        run(other, quiet=True)


# --- fresh seeds -----------------------------------------------------------------------------------------------------


def test_fresh_seeds_are_others_and_the_data_are_the_same(chosen):
    plain = run_recipe(chosen)
    seeds = [recipe.stream_seeds(fresh(plain, number)) for number in (1, 2)]
    own = recipe.stream_seeds(plain)
    for name in own:
        values = {own[name], *(one[name] for one in seeds)}
        assert len(values) == (3 if name in ("init", "order", "dropout", "noise") else 1)
    last = dataclasses.replace(plain, seed=recipe.MAX_SEED)
    assert recipe.stream_seeds(fresh(last, 1))["init"] == 0
    one, other = set_up_of(chosen, plain), set_up_of(chosen, fresh(plain, 1))
    assert {name: x.contents() for name, x in one.corpus.splits.items()} == {
        name: x.contents() for name, x in other.corpus.splits.items()
    }
    assert not np.array_equal(one.batches().make(0).examples, other.batches().make(0).examples)
    heads = [setup.params["classifier"]["kernel"] for setup in (one, other)]
    assert not np.array_equal(*heads)


# --- what it says ----------------------------------------------------------------------------------------------------


def result_of(*fresh_scores: tuple[str, list[float]], seen: float = 0.9, looked_at: str = "accuracy") -> Result:
    """What the search looks at is a tenth lower than what the test is judged by, where it is not the same."""
    found, less = [], 0.0 if looked_at == "accuracy" else 0.1
    for number, (name, scores) in enumerate(fresh_scores):
        account = Account(Table(3, 2), 100) if number else None
        path = (number % 3, 0)
        if account is not None:
            account.segments, account.sightings = 4, [Sighting(20.0, (0, 0), 0.1), Sighting(40.0, path, seen)]
        looked = [score - less for score in scores]
        found.append(Found(name, path, None if account is None else seen, account, scores, looked))
    return Result(
        metric="accuracy",
        search_metric=looked_at,
        strategies=["as the recipe says", "a", "b"],
        found=found,
        segment_steps=10,
        score_steps=1.0,
        budget=100,
        trained=4,
        sizes={"train": 10},
        wall_s=1.0,
        peak_memory_mb=None,
        device="cpu x 1",
        seeds={},
        words=prng.stream("bootstrap", 0),
    )


GOOD, BAD = [0.81, 0.82, 0.83, 0.84, 0.85], [0.5, 0.51, 0.52, 0.53, 0.54]


@pytest.mark.parametrize(
    ("ours", "theirs", "word"),
    [(GOOD, BAD, "better than"), (BAD, GOOD, "worse than"), (GOOD, GOOD[::-1], "not told apart from")],
)
def test_the_verdict_says_who_is_better_or_that_nobody_can_tell(ours, theirs, word):
    lines = report.verdict(result_of(("default", theirs), ("mcts", ours)))
    assert f"it is {word} the recipe as it is: accuracy " in lines[0] and "from 5 fresh seeds" in lines[0]
    assert lines[0].endswith(f", p {1.0 if ours == theirs[::-1] else 2 / 252:.3f}.")
    drop = 0.9 - float(np.mean(sorted(ours)[1:4]))
    assert lines[1] == f"The search saw accuracy 0.9000; fresh seeds on test give {drop:.4f} less."


def test_what_the_search_saw_is_compared_with_the_same_metric_on_test(tmp_path):
    result = result_of(("default", BAD), ("mcts", GOOD), seen=0.75, looked_at="negative loss")
    assert report.verdict(result)[1:] == ["The search saw negative loss 0.7500; fresh seeds on test give 0.0200 less."]
    assert report.grid(result).header[3:] == ("search negative loss", "test accuracy, fresh seeds")
    report.write(RunFolder(tmp_path), result, None, "")
    found = json.loads((tmp_path / "report.json").read_text())
    assert (found["metric"], found["search_metric"]) == ("accuracy", "negative loss")


@pytest.mark.parametrize(
    ("seeds", "rivals", "enough"), [(1, 0, 4), (3, 0, 4), (4, 0, None), (4, 1, 5), (5, 1, None), (5, 6, 6)]
)
def test_few_seeds_tell_nothing_however_far_apart_they_are(seeds, rivals, enough):
    """The more schedules there are, the more seeds it takes: Holm's correction."""
    others = [(f"rival {number}", BAD[:seeds]) for number in range(rivals)]
    result = result_of(("default", BAD[:seeds]), ("mcts", GOOD[:seeds]), *others)
    apart = [one for number, one in enumerate(result.found) if number != 1]
    found = [dataclasses.replace(one, path=(2, number)) for number, one in enumerate(apart)]
    result = dataclasses.replace(result, found=[found[0], result.found[1], *found[1:]])
    lines = report.verdict(result)
    word = "better than" if enough is None else "not told apart from"
    assert all(f"{word} " in line for line in lines[: 1 + rivals])
    told = [line for line in lines if line.startswith("Fewer than")]
    text = f"Fewer than {enough} fresh seeds cannot tell so many schedules apart: explore.confirm_seeds."
    assert told == ([] if enough is None else [text])
    assert result.p_values.keys() == {one.path for one in found}


def test_the_same_schedule_is_not_compared_with_itself():
    result = result_of(("default", GOOD), ("mcts", GOOD), ("random_schedule", BAD), ("beam", GOOD), ("pbt", GOOD))
    assert "It is the same schedule as what pbt found." in report.verdict(result)
    assert result.p_values.keys() == {(0, 0), (2, 0)}, "those that two found count once"


def test_runs_that_diverged_are_told(tmp_path):
    """They count as worse than all others, and spoil no picture."""
    result = result_of(("default", [-np.inf] * 5), ("mcts", [*GOOD[:4], -np.inf]), ("beam", GOOD))
    lines = report.verdict(result)
    assert "not told apart from the recipe as it is: of its runs 1 diverged, of the other's 5" in lines[0]
    assert not [line for line in lines if "inf" in line or "nan" in line]
    rows = report.grid(result).rows
    assert rows[0][-1] == "diverged" and rows[1][-1] == "0.8200 (diverged to 0.8367)"
    folder = RunFolder(tmp_path)
    report.write(folder, result, None, "task: classify\n")
    assert "NaN" not in folder.report_json.read_text() and not folder.plot(report.TREE).exists()
    found = json.loads(folder.report_json.read_text())["found"]
    assert found[0]["test_fresh_is"] == "-inf" and found[1]["test_iqm"]["low"] is None
    every = report.verdict(result_of(("default", [-np.inf]), ("mcts", [-np.inf]), seen=-np.inf))
    assert not [line for line in every if "inf" in line or "nan" in line]
    assert every[-1] == "Every schedule that the search tried diverged."


def test_many_searchers_have_looks_of_their_own(tmp_path):
    names = ["default", *(f"searcher {number}" for number in range(14))]
    looks = {report._look_of(number) for number in range(len(names))}
    assert len(looks) == 15
    report.write(RunFolder(tmp_path), result_of(*((name, GOOD) for name in names)), None, "")
    assert imread(tmp_path / "anytime.png").std() > 0.02


def test_progress_is_lines_in_a_plain_console():
    console = Console(file=io.StringIO(), width=60)
    account = Account(Table(2, 2, score_steps=1.0), 1000)
    with Progress("accuracy", console=console, every_s=0.0) as progress:
        account.on_look = progress.looked
        progress.begins("mcts")
        account.train_whole((0, 1))
        account.score((0,))
        account.score((0, 1))
        progress.confirms()
        progress.confirmed(1, 4)
    score = account.sightings[0].score
    assert console.file.getvalue().splitlines() == [  # type: ignore[attr-defined]
        "mcts searches",
        "mcts: 21/1,000 steps, no whole run yet, states 1 1",
        f"mcts: 22/1,000 steps, 0 1: accuracy {score:.4f}, states 1 1",
        "trains what was found again, from fresh seeds",
        "confirming: 1 of 4 runs, on fresh seeds",
    ]
    quiet = Console(file=io.StringIO())
    with Progress("accuracy", quiet=True, console=quiet, every_s=0.0) as progress:
        progress.begins("mcts")
        progress.confirmed(1, 4)
    assert quiet.file.getvalue() == ""  # type: ignore[attr-defined]
