from __future__ import annotations

import importlib
import io
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from jaxft.evaluate import metrics
from jaxft.report import tables

seqeval: Any = importlib.import_module("seqeval.metrics")  # typed more narrowly than it is


def shown(grid: tables.Grid, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(tables.to_rich(grid))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_before_after_with_a_test_set():
    grid = tables.before_after({"f1": 0.1}, {"f1": 0.8}, {"f1": 0.75, "accuracy": 0.9}, "test")
    assert grid.header == ("metric", "before (test)", "after (test)", "change", "after (dev)")
    assert grid.rows == (("f1", "0.1000", "0.7500", "+0.6500", "0.8000"), ("accuracy", "", "0.9000", "", ""))


def test_before_after_with_a_dev_set_alone():
    grid = tables.before_after({"f1": 0.9}, {"f1": 0.8}, {}, "dev")
    assert grid.header == ("metric", "before (dev)", "after (dev)", "change")
    assert grid.rows == (("f1", "0.9000", "0.8000", "-0.1000"),)


def test_per_entity_table_is_that_of_seqeval():
    rng = np.random.default_rng(3)
    tags = np.array(["O", "O", "O", "B-LOC", "I-LOC", "B-PER", "I-PER", "B-MISC"])
    gold = [list(map(str, tags[rng.integers(0, 8, 12)])) for _ in range(40)]
    predicted = [[tag if rng.random() < 0.8 else str(rng.choice(tags)) for tag in row] for row in gold]
    grid = tables.per_label(metrics.tagging(gold, predicted).per_entity, "entity")
    report = seqeval.classification_report(gold, predicted, digits=4, zero_division=0)
    lines = [line.rsplit(maxsplit=4) for line in report.splitlines()[1:] if line.strip()]
    assert [list(row) for row in (*grid.rows, *grid.footer)] == [[line[0].strip(), *line[1:]] for line in lines]
    assert grid.header == ("entity", "precision", "recall", "f1-score", "support")


def test_confusion_of_few_labels_is_a_matrix_and_of_many_a_list():
    grid = tables.confusion([[3, 1], [0, 2000]], ("a", "b"))
    assert grid.header == ("gold \\ predicted", "a", "b") and grid.rows == (("a", "3", "1"), ("b", "0", "2,000"))
    matrix = np.diag([10] * 12)
    matrix[3, 5], matrix[0, 11] = 2, 5
    grid = tables.confusion(matrix, [f"l{i}" for i in range(12)])
    assert grid.rows == (("l0", "l11", "5", "33.3%"), ("l3", "l5", "2", "16.7%"))


@pytest.mark.parametrize("labels", [8, 30])
def test_tables_fit_80_columns_and_lose_nothing(labels):
    names = tuple(f"a_rather_long_label_name_{i}" for i in range(labels))
    rng = np.random.default_rng(0)
    gold, predicted = rng.integers(0, labels, 500), rng.integers(0, labels, 500)
    _, table, confusion = metrics.classification(gold, predicted, names)
    for grid in (tables.per_label(table), tables.confusion(confusion, names)):
        lines = shown(grid)
        assert max(map(len, lines)) <= 80 and "…" not in "".join(lines)
    lines = shown(tables.per_label(table))
    assert sum(name in line for line in lines for name in names[-1:]) == 1
    assert any(line.startswith("weighted avg") for line in lines)


def test_a_label_cannot_drive_the_terminal_or_break_the_markdown():
    nasty = "[red]x|y\n\x1b[2J<b>*"
    grid = tables.per_label(metrics.classification([0, 1], [0, 1], (nasty, "b")).per_class)
    assert "\x1b" not in "".join(shown(grid)) and "[red]x|y\\x0a\\x1b[2J<b>*" in "".join(shown(grid))
    lines = tables.to_markdown(grid).splitlines()
    assert len(lines) == 2 + 2 + 3 and {line.count(" | ") for line in lines} == {4}
    assert lines[2].startswith("| \\[red\\]x&#124;y\\\\x0a\\\\x1b\\[2J&#60;b&#62;\\* | 1.0000 |")


def test_markdown_by_hand():
    grid = tables.Grid("T", ("a", "b"), (("x", "1"),), (("sum", ""),))
    assert tables.to_markdown(grid) == "| a | b |\n| --- | ---: |\n| x | 1 |\n| *sum* |  |\n"
