"""Tagging: files to IOB2, tags to targets, probabilities to tags and entities."""

from __future__ import annotations

import numpy as np
import pytest

from jaxft import tasks
from jaxft.data.read import read
from jaxft.data.rows import Rows
from jaxft.errors import Problems
from jaxft.recipe import Data
from jaxft.tasks.tag import TASK

LABELS = ("O", "B-X", "I-X", "B-Y", "I-Y")


def parse(columns, class_names=None):
    rows = Rows(
        columns, list(range(1, 1 + len(columns["text"]))), "a", "a.jsonl", "", "jsonl", class_names=class_names or {}
    )
    problems = Problems()
    return TASK.parse(rows, Data(), problems), problems


def test_conll_file(tmp_path):
    path = tmp_path / "a.conll"
    path.write_text("Jim PER I-PER\nran V O\n\nIn P O\nRome N I-LOC\n")
    problems = Problems()
    examples = TASK.parse(read(str(path), Data(), problems), Data(), problems)
    assert not problems.errors and "IOB1" in problems.warnings[0].what
    assert examples.texts == [["Jim", "ran"], ["In", "Rome"]] and examples.labels == [["B-PER", "O"], ["O", "B-LOC"]]
    assert examples.where == [f"{path}:1", f"{path}:4"] and examples.is_tagged


def test_orphan_in_a_file_has_its_line(tmp_path):
    path = tmp_path / "a.conll"
    path.write_text("Jim B-PER\nran O\n\nIn O\nRome I-LOC\nb c d\n")
    problems = Problems()
    TASK.parse(read(str(path), Data(), problems), Data(), problems)
    assert [problem.where for problem in problems.errors] == [f"{path}:6", f"{path}:5"]  # the ragged line as well


def test_lists():
    examples, problems = parse({"text": [["a", "b"]], "label": [[1, 2]]}, {"label": list(LABELS)})
    assert not problems.errors and examples.labels == [["B-X", "I-X"]]


def test_bad_lists():
    columns = {
        "text": ["a b", ["a", "b"], ["a"], ["a", None], ["a"], ["a", "b"]],
        "label": [["O"], ["O"], "O", ["O", "O"], [None], ["O", "I-X"]],
    }
    _, problems = parse(columns | {"text": [*columns["text"], ["a"]], "label": [*columns["label"], ["B-X"]]})
    assert [str(problem).partition(" — ")[0] for problem in problems.errors] == [
        "a.jsonl:1: column 'text' must hold a list of words, came str 'a b'",
        "a.jsonl:2: 2 words but 1 tags",
        "a.jsonl:3: column 'label' must hold a list of tags, came str",
        "a.jsonl:4: no text in column 'text'",
        "a.jsonl:5: no label in column 'label'",
        "a.jsonl:6: word 2: I-X after O continues no entity",
    ]


def test_missing_columns():
    rows = Rows({"tokens": [["a"]], "tags": [["O"]]}, [1], "a", "a.jsonl", "", "jsonl")
    problems = Problems()
    TASK.parse(rows, Data(), problems)
    assert [problem.what.partition(";")[0] for problem in problems.errors] == [
        "no column 'text' (`data.text`)",
        "no column 'label' (`data.label`)",
    ]


def test_label_set_is_closed_and_sorted():
    examples, _ = parse({"text": [["a", "b", "c"]], "label": [["B-Y", "O", "B-X"]]})
    assert TASK.label_set(examples, Data()) == LABELS


def test_targets():
    examples, problems = parse({"text": [["a", "b"], ["c"]], "label": [["B-X", "I-X"], ["B-Z"]]})
    targets = TASK.targets(examples, LABELS, problems)
    assert targets[0].dtype == np.int32 and targets[0].tolist() == [1, 2]
    assert str(problems.errors[0]) == "a.jsonl:2: tag 'B-Z' of word 1 is none of the 5 known — nearest: 'B-Y'"


def test_decode_repairs():
    probabilities = np.eye(5, dtype=np.float32)[[0, 2, 2, 4, 3, 0]] * 0.6 + 0.08
    probabilities[1] = [0.1, 0.1, 0.5, 0.2, 0.1]
    assert TASK.decode(probabilities, LABELS) == ["O", "B-X", "I-X", "B-Y", "B-Y", "O"]
    found = TASK.entities(probabilities, LABELS)
    assert [entity[:3] for entity in found] == [("X", 1, 3), ("Y", 3, 4), ("Y", 4, 5)]
    assert found[0].probability == pytest.approx((0.5 + 0.68) / 2)
    assert TASK.decode(np.zeros((0, 5)), LABELS) == [] == TASK.entities(np.zeros((0, 5)), LABELS)


def test_scores():
    gold, predicted = [["B-X", "I-X", "O"], ["B-Y"]], [["B-X", "I-X", "O"], ["O"]]
    scores = TASK.score(gold, predicted, LABELS)
    assert scores[tasks.get("tag").default_metric] == pytest.approx(2 / 3)
    assert TASK.table(gold, predicted, LABELS)["Y"]["recall"] == 0
