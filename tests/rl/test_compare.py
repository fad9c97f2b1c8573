"""Supervised and reinforcement learning on one task: the same seeds, steps and updates; finished runs are kept."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from jaxft import recipe, recipes
from jaxft.cli.main import main
from jaxft.errors import UserError
from jaxft.rl import compare
from jaxft.rl.recipe import CompareRecipe


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> CompareRecipe:
    """Twenty questions by counts, a few steps."""
    tree = {
        "rl": {
            "env": "twenty_questions",
            "options": "observation=features, guess=likeliest",
            "seeds": 2, "steps": 512, "num_envs": 8, "rollout": 16, "eval_every": 256, "eval_episodes": 20,
            "discount": 1.0, "network": {"width": 8, "depth": 1}, "ppo": {"epochs": 1},
        },
        "train": {"batch_size": 64},
        "compare": {"methods": "clone, ppo", "noise": "0.0, 0.25"},
        "out": str(tmp_path_factory.mktemp("compare") / "both"),
    }  # fmt: skip
    return recipe.from_tree(tree, kind=CompareRecipe)


@pytest.fixture(scope="module")
def runs(small: CompareRecipe) -> list[compare.Run]:
    return compare.compare(small, console=Console(quiet=True))


@pytest.mark.slow
def test_methods_take_the_same_steps_and_updates_with_the_same_seeds(runs):
    """There is no noise of rewards in this environment, so PPO meets none."""
    assert [(one.method, one.noise) for one in runs] == [("clone", 0.0), ("ppo", 0.0), ("clone", 0.25)]
    assert {one.report["steps"] for one in runs} == {512}
    updates = [told["updates"] for one in runs for told in one.report["by_seed"].values()]
    assert updates == [8] * 6
    assert {tuple(one.report["by_seed"]) for one in runs} == {("0", "1")}
    assert runs[0].report["params_sha256"] != runs[2].report["params_sha256"]


@pytest.mark.slow
def test_the_report_has_a_row_a_run_and_says_where_each_wins(small, runs):
    folder = Path(small.out)
    tree = json.loads((folder / "compare.json").read_text())
    assert [one["quality"] for one in tree["runs"]] == [one.quality.tolist() for one in runs]
    text = (folder / "compare.md").read_text()
    assert all(f"| {one.name} |" in text for one in runs)
    assert "noise 0: " in text and "clone loses" in text
    assert (folder / "compare.png").stat().st_size > 10_000


@pytest.mark.slow
def test_finished_runs_are_taken_as_they_are_and_only_with_their_own_recipe(small, runs):
    again = compare.compare(small, console=Console(quiet=True))
    assert [one.report for one in again] == [one.report for one in runs]
    other = dataclasses.replace(small, optim=dataclasses.replace(small.optim, learning_rate=0.5))
    with pytest.raises(UserError, match=r"optim\.learning_rate"):
        compare.compare(other, console=Console(quiet=True))


def test_other_numbers_of_updates_are_refused_before_anything_runs(small, tmp_path):
    methods = dataclasses.replace(small.compare, methods="clone, reinforce")
    out = tmp_path / "none"
    with pytest.raises(UserError, match="different numbers of updates: clone-0 8, reinforce-0 4"):
        compare.compare(dataclasses.replace(small, compare=methods, out=str(out)), console=Console(quiet=True))
    assert not out.exists()


def test_probability_of_improvement_counts_ties_half():
    assert compare.improvement(np.array([1.0, 2.0]), np.array([0.0, 2.0])) == (1 + 0 + 1 + 0.5) / 4
    assert compare.interval(np.array([1.0, 3.0]))[0] == 2.0


def test_shipped_comparisons_pass_their_checks():
    assert recipes.names(recipes.COMPARE) == ["trec", "twenty_questions"]
    for name in recipes.names(recipes.COMPARE):
        recipe.check(recipe.load(recipes.find(name, recipes.COMPARE), CompareRecipe))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--compare.methods", "clone, pppo"], "no such agent: 'pppo'"),
        (["--compare.methods", "ppo"], "at least two"),
        (["--compare.noise", "0.7"], "from 0 up to 0.5"),
        (["--compare.noise", "lots"], "expected numbers"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(options, words, capsys, tmp_path):
    assert main(["compare", "twenty_questions", "--out", str(tmp_path / "no"), *options]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "no").exists()
