"""Strategies and segments in a recipe: how they are written, read and checked."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from jaxft import recipe as recipes
from jaxft.errors import Problem, Problems, UserError
from jaxft.recipe import Data, Noise, Optim, Recipe, Train
from jaxft.strategy import Segment, Strategy, check_strategy, segment

GOOD = Recipe(data=Data(train="sms_spam"), train=Train(steps=10, batch_size=16, micro_batches=4))
ALL = Strategy(2.0, "sgd", 0.0, 0.3, 0.1, 0.2, 0.05, "layers:2", 8)
"""Sets everything."""


def with_segments(*segments: Segment, **keys: Any) -> Recipe:
    return dataclasses.replace(GOOD, segments=segments, **keys)


def problems_of(recipe: Recipe) -> list[Problem]:
    with pytest.raises(UserError) as caught:
        recipes.check(recipe)
    return list(caught.value.problems)


# --- strategies ------------------------------------------------------------------------------------------------------


def test_a_segment_is_a_strategy_for_so_many_steps():
    made = segment(ALL, 7)
    assert made == Segment(**dataclasses.asdict(ALL), steps=7) and made.strategy == ALL
    assert type(made.strategy) is Strategy and hash(made.strategy) == hash(ALL)


def test_it_says_what_it_changes():
    assert str(Strategy()) == "as the recipe says"
    assert str(Strategy(learning_rate=0.3, freeze="layers:2")) == "learning_rate ×0.3, freeze layers:2"
    assert str(segment(Strategy(weight_decay=0.0, batch_size=8), 5)) == "weight_decay 0, batch_size 8"
    assert all(field.name in str(ALL) for field in dataclasses.fields(Strategy))


# --- YAML ------------------------------------------------------------------------------------------------------------


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_segments_survive_writing_and_reading(tmp_path: Path):
    recipe = with_segments(segment(ALL, 3), Segment(steps=4), Segment(optimizer="adamw", freeze="none", steps=1))
    again = recipes.load(write(tmp_path, recipes.dump(recipe)))
    assert again == recipe and all(type(one) is Segment for one in again.segments)
    assert recipes.from_tree(recipes.to_tree(recipe)) == recipe


def test_segments_are_written_as_people_write_them(tmp_path: Path):
    text = """
segments:
- {steps: 3, learning_rate: 2, optimizer: sgd, weight_decay: 1e-3}
- {steps: 2, freeze: encoder, batch_size: 8, dropout: null}
"""
    first = Segment(learning_rate=2.0, optimizer="sgd", weight_decay=1e-3, steps=3)
    assert recipes.load(write(tmp_path, text)).segments == (first, Segment(freeze="encoder", batch_size=8, steps=2))
    for empty in ("segments: []", "segments:", "segments: null"):
        assert recipes.load(write(tmp_path, empty)).segments == ()


def test_unknown_keys_and_wrong_types_are_told_with_the_number_of_the_segment(tmp_path: Path):
    text = "segments:\n- {steps: 2}\n- {stesp: 2, freze: none, dropout: much, optimizer: adam, steps: 1.5}\n- 3\n"
    path = write(tmp_path, text)
    with pytest.raises(UserError) as caught:
        recipes.load(path)
    found = {problem.where: problem for problem in caught.value.problems}
    keys = [f"segments[1].{key}" for key in ("stesp", "freze", "dropout", "optimizer", "steps")]
    assert list(found) == [f"{path}: {key}" for key in (*keys, "segments[2]")]
    assert found[f"{path}: segments[1].stesp"].fix == "did you mean `steps`?"
    assert found[f"{path}: segments[1].freze"].fix == "did you mean `freeze`?"
    assert "expected adamw | sgd or null, came 'adam'" in found[f"{path}: segments[1].optimizer"].what
    assert "expected a section with keys, came int 3" in found[f"{path}: segments[2]"].what


def test_values_out_of_range_are_told_beside_unknown_keys(tmp_path: Path):
    """All at once, but for what only looks wrong because of the unknown key."""
    path = write(tmp_path, "segments: [{steps: 2, dropout: 1.5}, {stesp: 2, weight_decay: -1}]\ntrain: {epoch: 1}\n")
    with pytest.raises(UserError) as caught:
        recipes.load(path)
    where = [problem.where for problem in caught.value.problems]
    unknown = [f"{path}: train.epoch", f"{path}: segments[1].stesp"]
    assert sorted(where) == sorted([*unknown, "segments[0].dropout", "segments[1].weight_decay"])


def test_what_is_no_list_is_refused(tmp_path: Path):
    for value in ("3", "{steps: 2}", "fast"):
        with pytest.raises(UserError, match="segments: expected a list, came"):
            recipes.load(write(tmp_path, f"segments: {value}"))


def test_what_a_recipe_has_beside_its_keys_is_no_key(tmp_path: Path):
    with pytest.raises(UserError, match="RULES: unknown key") as caught:
        recipes.load(write(tmp_path, "RULES: 1"))
    assert "RULES" not in caught.value.problems[0].fix and "segments" in caught.value.problems[0].fix


# --- checks ----------------------------------------------------------------------------------------------------------


def test_good_segments_pass():
    recipes.check(with_segments(segment(ALL, 3), segment(Strategy(), 7)))
    recipes.check(with_segments(Segment(batch_size=16, steps=1), Segment(batch_size=4, steps=1)))
    recipes.check(with_segments(Segment(learning_rate=0.0, steps=1), Segment(learning_rate=1e6, steps=1)))


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("learning_rate", (-1.0, 2e6, float("nan"))),
        ("weight_decay", (-0.1, float("nan"), float("inf"))),
        ("dropout", (-0.1, 1.0, float("nan"))),
        ("label_smoothing", (-0.1, 1.0, float("nan"))),
        ("label_noise", (-0.1, 1.0, float("nan"))),
        ("token_noise", (-0.1, 1.0, float("nan"))),
        ("freeze", ("all", "layers", "layers:", "layers:-1", "layers:x", "re:bias", "")),
        ("batch_size", (-1, 0, 3, 17)),  # 4 micro-batches, 16 examples
    ],
)
def test_values_out_of_range_are_refused_one_problem_each(key, values):
    assert {field.name for field in dataclasses.fields(Strategy)} >= {key}
    for value in values:
        bad = Strategy(**{key: value})
        (problem,) = problems_of(with_segments(Segment(steps=1), segment(bad, 2)))
        assert problem.where == f"segments[1].{key}"
        found = Problems()
        check_strategy(bad, "explore.strategies[3]", GOOD, found)
        assert [problem.where for problem in found.errors] == [f"explore.strategies[3].{key}"]


def test_bad_values_come_all_at_once():
    bad = Segment(learning_rate=-1.0, dropout=2.0, freeze="top", batch_size=99, steps=0)
    found = problems_of(with_segments(bad, Segment(steps=-1), Segment(weight_decay=-1.0, steps=1)))
    first = [f"segments[0].{key}" for key in ("learning_rate", "dropout", "batch_size", "freeze", "steps")]
    assert [problem.where for problem in found] == [*first, "segments[1].steps", "segments[2].weight_decay"]


def test_a_segment_needs_steps():
    (problem,) = problems_of(with_segments(Segment(learning_rate=2.0)))
    assert (problem.where, problem.what) == ("segments[0].steps", "must be at least 1, is 0")


def test_segments_longer_than_the_run_are_refused():
    recipes.check(with_segments(Segment(steps=4), Segment(steps=6)))
    (problem,) = problems_of(with_segments(Segment(steps=5), Segment(steps=6)))
    assert str(problem) == "segments: have 11 steps in all, but train.steps is 10"
    recipes.check(with_segments(Segment(steps=11), train=Train(steps=None)))  # known once the data is


def test_what_cannot_be_combined_with_segments_is_refused():
    (problem,) = problems_of(with_segments(Segment(steps=1), train=Train(freeze="re:bias")))
    assert problem.where == "train.freeze" and "a pattern cannot be combined with segments" in problem.what
    (problem,) = problems_of(with_segments(Segment(steps=1), optim=Optim("sgd", momentum=0.9)))
    assert problem.where == "optim.momentum" and "optim.b1" in problem.what
    recipes.check(dataclasses.replace(GOOD, train=Train(freeze="re:bias"), optim=Optim("sgd", momentum=0.9)))
    matrix = with_segments(Segment(steps=1), Segment(label_noise=0.1, steps=1), noise=Noise(label_confusion="a.csv"))
    (problem,) = problems_of(matrix)
    assert problem.where == "segments[1].label_noise" and "noise.label_confusion by a matrix" in problem.what
