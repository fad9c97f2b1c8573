from __future__ import annotations

import json
from pathlib import Path

import pytest

from jaxft import recipe as recipes_
from jaxft import recipes
from jaxft.cli import demo
from jaxft.cli.main import main
from jaxft.report.run_folder import RunFolder


@pytest.fixture
def small_recipe(messages: Path, recipe_on, tmp_path: Path, monkeypatch) -> Path:
    """In the place of the shipped recipe: a tiny model on 60 texts."""
    path = tmp_path / "small.yaml"
    path.write_text(json.dumps(recipe_on(messages, "runs/none", dev=0.2, test=0.2)))
    monkeypatch.setattr(recipes, "find", lambda name: path)
    monkeypatch.setattr(demo, "QUICK_STEPS", 2)
    monkeypatch.setattr(demo, "QUICK_FREEZE", "encoder")
    monkeypatch.chdir(tmp_path)
    return path


@pytest.mark.slow
def test_the_demo_trains_shows_predictions_and_says_where_the_report_is(
    small_recipe: Path, capsys, promotion_for_optax: None
):
    assert main(["demo"]) == 0
    out = capsys.readouterr().out
    folder = RunFolder("runs/demo")
    assert folder.finished
    assert "before (test)" in out and "after (test)" in out
    words = out.split()
    assert all(text.split()[0] in words for text in demo.EXAMPLES) and out.count("spam ") + out.count("ham ") >= 5
    assert f"Scores, plots and settings:  {folder.report_md}" in out
    # an earlier demo is replaced
    assert main(["demo", "--quick"]) == 0
    chosen = recipes_.load(folder.recipe)
    assert (chosen.train.steps, chosen.train.freeze, chosen.optim.learning_rate) == (2, "encoder", 4e-4)


def test_another_run_in_the_folder_is_not_replaced(small_recipe: Path, run: Path, capsys):
    kept = (run / "report.json").read_bytes()
    other = recipes_.load(run / "recipe.yaml")
    tree = recipes_.to_tree(other)
    tree["data"]["train"] = "other.csv"
    (run / "recipe.yaml").write_text(json.dumps(tree))
    try:
        assert main(["demo", "--out", str(run)]) == 2
        assert "already holds a finished run" in capsys.readouterr().err
        assert (run / "report.json").read_bytes() == kept
    finally:
        (run / "recipe.yaml").write_text(recipes_.dump(other))


def test_the_real_recipe_is_the_shipped_one():
    chosen = demo._recipe(demo.Demo())
    assert chosen.data.train == "sms_spam" and chosen.model == "minilm" and chosen.out == "runs/demo"
    assert demo._recipe(demo.Demo(quick=True)).train.steps == demo.QUICK_STEPS
