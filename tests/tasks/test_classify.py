"""Classification: cells to labels, labels to targets, probabilities to predictions."""

from __future__ import annotations

import numpy as np
import pytest

from jaxft import tasks
from jaxft.data.examples import Examples
from jaxft.data.rows import Rows
from jaxft.errors import Problems
from jaxft.recipe import Data

TASK = tasks.get("classify")


def parse(columns, spec=None, class_names=None, kind="jsonl") -> tuple[Examples, Problems]:
    count = len(next(iter(columns.values())))
    rows = Rows(columns, list(range(1, count + 1)), "a", "a.jsonl", "0" * 64, kind, class_names=class_names or {})
    problems = Problems()
    return TASK.parse(rows, spec or Data(), problems), problems


def test_parse_all_columns():
    columns = {"q": ["a", "b"], "p": ["c", "d"], "y": ["x", "z"], "n": [7, 8], "other": [None, None]}
    examples, problems = parse(columns, Data(text="q", text_pair="p", label="y", id="n"))
    assert not problems.errors
    assert examples == Examples(
        ["a", "b"], ["c", "d"], ["x", "z"], ["a.jsonl:1", "a.jsonl:2"], "a", "0" * 64, ["7", "8"]
    )


def test_labels_of_every_kind_become_text():
    examples, problems = parse({"text": list("abcde"), "label": [3, "3", True, 1.0, "x y"]})
    assert not problems.errors and examples.labels == ["3", "3", "true", "1", "x y"]


def test_class_names():
    examples, problems = parse({"text": ["a", "b"], "label": [1, 0]}, class_names={"label": ["ham", "spam"]})
    assert not problems.errors and examples.labels == ["spam", "ham"]


BAD_LABELS = [
    (None, "a.jsonl:1: no label in column 'label' — remove the row, or give it a label"),
    (float("nan"), "a.jsonl:1: label nan in column 'label' — remove the row, or give it a label"),
    ("NaN", "a.jsonl:1: label 'NaN' in column 'label' — remove the row, or give it a label"),
    (" ", "a.jsonl:1: empty label in column 'label' — remove the row, or give it a label"),
    (0.5, "a.jsonl:1: column 'label' must hold the name or number of a class, came float 0.5"),
    (["x"], "a.jsonl:1: column 'label' must hold the name or number of a class, came list ['x']"),
]


@pytest.mark.parametrize(("label", "expected"), BAD_LABELS)
def test_bad_labels(label, expected):
    _, problems = parse({"text": ["a", "b"], "label": [label, "x"]})
    assert [str(problem) for problem in problems.errors] == [expected]


def test_label_out_of_range():
    _, problems = parse({"text": ["a", "b"], "label": [-1, 2]}, class_names={"label": ["ham", "spam"]})
    assert [str(problem) for problem in problems.errors] == [
        "a.jsonl:1: label -1 of column 'label' is out of range 0 .. 1 — test sets on the hub often come without labels",
        "a.jsonl:2: label 2 of column 'label' is out of range 0 .. 1",
    ]


def test_bad_texts():
    _, problems = parse({"text": [None, 3, "a\0b", "\ud800"], "label": list("abcd")})
    assert [str(problem) for problem in problems.errors] == [
        "a.jsonl:1: no text in column 'text' — remove the row, or fill it in",
        "a.jsonl:2: column 'text' must hold text, came int 3",
        "a.jsonl:3: a NUL character at character 2 of column 'text' — remove it",
        "a.jsonl:4: half a surrogate pair, \\ud800, at character 1 of column 'text' — remove it",
    ]


def test_missing_columns_and_bad_cells_at_once():
    examples, problems = parse({"text": ["a", None], "lable": ["x", "y"]}, Data(text_pair="other"))
    assert not len(examples)
    assert [problem.what[:22] for problem in problems.errors] == [
        "no column 'other' (`da",
        "no column 'label' (`da",
        "no text in column 'tex",
    ]


def test_unreadable_source_says_nothing_more():
    problems = Problems()
    assert not len(TASK.parse(Rows({}, [], "a", "a", "", "csv"), Data(), problems)) and not problems.errors


def test_conll_is_for_tagging():
    rows = Rows({"words": [["a"]], "tags": [["O"]]}, [1], "a", "a.conll", "", "conll", [[1]])
    problems = Problems()
    TASK.parse(rows, Data(), problems)
    assert "set `task: tag`" in problems.errors[0].fix


# --- multi-label -----------------------------------------------------------------------------------------------------

MULTI = Data(multi_label=True)


def test_multi_label_cells():
    examples, problems = parse({"text": list("abcd"), "label": ["y|x", "", [], ["x"]]}, MULTI)
    assert not problems.errors and examples.labels == [["x", "y"], [], [], ["x"]]
    labels = TASK.label_set(examples, MULTI)
    targets = TASK.targets(examples, labels, problems)
    assert labels == ("x", "y") and targets[0].dtype == np.float32
    np.testing.assert_array_equal(targets, [[1, 1], [0, 0], [0, 0], [1, 0]])


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("x||y", "empty label in column 'label'"),
        (None, "no label in column 'label'"),
        ([0, 1, 0], "label '0' stands 2 times in one cell of column 'label' — the cell must name the labels"),
        ([0.5], "must hold the name or number of a class, came float 0.5"),
    ],
)
def test_bad_multi_label_cells(cell, expected):
    _, problems = parse({"text": ["a"], "label": [cell]}, MULTI)
    assert len(problems.errors) == 1 and expected in str(problems.errors[0])


# --- labels, targets, decoding ---------------------------------------------------------------------------------------


def test_label_set_is_sorted():
    assert TASK.label_set(parse({"text": list("abc"), "label": ["b", "a", "B"]})[0], Data()) == ("B", "a", "b")
    numbers = parse({"text": list("abcd"), "label": [10, 9, -1, 2]})[0]
    assert TASK.label_set(numbers, Data()) == ("-1", "2", "9", "10")


def test_targets():
    examples, problems = parse({"text": list("abc"), "label": ["x", "z", "y"]})
    assert TASK.targets(examples, ("x", "y"), problems) == [0, 0, 1]
    assert str(problems.errors[0]) == "a.jsonl:2: label 'z' is none of the 2 known"


def test_decode():
    label, probability = TASK.decode([0.2, 0.7, 0.1], ("a", "b", "c"))
    assert label == "b" and probability == pytest.approx(0.7)
    assert TASK.decode([0.2, 0.5, 0.75], ("a", "b", "c"), multi_label=True) == [("c", 0.75), ("b", 0.5)]
    assert TASK.decode([0.2, 0.1, 0.3], ("a", "b", "c"), multi_label=True) == []


def test_scores():
    gold, predicted = np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0])
    assert TASK.score(gold, predicted, ("a", "b"))["accuracy"] == 0.75
    assert TASK.table(gold, predicted, ("a", "b"))["b"]["recall"] == 0.5
    many = np.array([[1, 0], [1, 1]], bool)
    assert TASK.score(many, many, ("a", "b"))["accuracy"] == 1.0
    assert TASK.default_metric in TASK.score(gold, predicted, ("a", "b"))
