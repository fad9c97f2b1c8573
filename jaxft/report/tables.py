"""Tables of scores: built once as a `Grid` of text, shown in the terminal (80 columns) or written as Markdown.

Score tables have four decimals. Labels come from data, so they are escaped in both forms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich import box
from rich.table import Table as RichTable
from rich.text import Text

from jaxft.evaluate.metrics import Table, averages
from jaxft.report.result import Result

COLUMNS_OF_CONFUSION = 8  # what fits 80 columns
BEFORE_AFTER = "Scores before and after fine-tuning"


@dataclass(frozen=True)
class Grid:
    """Text in rows and columns; the first column is left-aligned, the others are right-aligned."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    footer: tuple[tuple[str, ...], ...] = ()
    """Rows under a rule, such as averages."""


# --- the two forms --------------------------------------------------------------------------------------------------


def to_rich(grid: Grid) -> RichTable:
    """The grid for a `rich` console. Long cells are folded, never cut."""
    table = RichTable(
        title=Text(grid.title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False
    )
    for place, name in enumerate(grid.header):
        table.add_column(Text(printable(name)), justify="right" if place else "left", overflow="fold")
    for row in grid.rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    if grid.footer:
        table.add_section()
    for row in grid.footer:
        table.add_row(*(Text(printable(cell)) for cell in row), style="dim")
    return table


def to_markdown(grid: Grid) -> str:
    """The grid as a Markdown table, without the title; ends with a line feed. Footer rows are set in italics."""
    rule = ["---"] + ["---:"] * (len(grid.header) - 1)
    lines = [[escape(cell) for cell in grid.header], rule]
    lines += [[escape(cell) for cell in row] for row in grid.rows]
    lines += [[f"*{escape(cell)}*" if cell else "" for cell in row] for row in grid.footer]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def printable(text: str) -> str:
    """Text without line feeds and control characters (a label of a hostile file must not drive the terminal)."""
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)


def escape(text: str) -> str:
    """Text of unknown origin as one line of Markdown."""
    return printable(text).translate(_MARKDOWN)


_MARKDOWN = {ord(mark): f"\\{mark}" for mark in "\\`*_[]~$#"} | {ord(mark): f"&#{ord(mark)};" for mark in "<>|&"}


# --- the tables -----------------------------------------------------------------------------------------------------


def before_after(before: Mapping[str, float], dev: Mapping[str, float], test: Mapping[str, float], split: str) -> Grid:
    """Metric by metric: the model as it was and as it is now on `split` ("test" or "dev"), the change, and dev if that
    is another set."""
    after = test if split == "test" else dev
    names = list(dict.fromkeys([*after, *before]))
    header = ("metric", f"before ({split})", f"after ({split})", "change")
    rows = []
    for name in names:
        change = f"{after[name] - before[name]:+.4f}" if name in after and name in before else ""
        rows.append((name, number(before.get(name)), number(after.get(name)), change))
    if split == "test" and dev:
        header += ("after (dev)",)
        rows = [row + (number(dev.get(name)),) for row, name in zip(rows, names, strict=True)]
    return Grid(BEFORE_AFTER, header, tuple(rows))


def per_label(table: Table, of: str = "label") -> Grid:
    """Precision, recall, F1 and support of each label, with the averages, in the form of the CoNLL tables and of
    scikit-learn's and seqeval's classification_report. of: what the labels are: label, tag, entity."""
    header = (of, "precision", "recall", "f1-score", "support")
    rows = tuple(_score_row(name, row) for name, row in table.items())
    return Grid(f"Scores by {of}", header, rows, tuple(_score_row(name, row) for name, row in averages(table).items()))


def _score_row(name: str, row: Mapping[str, float]) -> tuple[str, ...]:
    return (name, *(f"{row[key]:.4f}" for key in ("precision", "recall", "f1")), f"{row['support']:,}")


def confusion(matrix: Any, labels: Sequence[str]) -> Grid:
    """Counts [C, C] (row = gold, column = predicted), for up to COLUMNS_OF_CONFUSION labels; the most frequent
    confusions for more."""
    matrix = np.asarray(matrix)
    if len(labels) > COLUMNS_OF_CONFUSION:
        return confusions(matrix, labels)
    header = ("gold \\ predicted", *labels)
    rows = tuple((name, *(f"{count:,}" for count in row)) for name, row in zip(labels, matrix, strict=True))
    return Grid("Confusion matrix", header, rows)


def confusions(matrix: Any, labels: Sequence[str], most: int = 10) -> Grid:
    """The most frequent mistakes: gold label, predicted label, count, share of the gold label's examples."""
    wrong = np.array(matrix)
    support = wrong.sum(axis=1)
    np.fill_diagonal(wrong, 0)
    places = np.argsort(-wrong, axis=None, kind="stable")[:most]
    found = [(int(place) // len(labels), int(place) % len(labels)) for place in places]
    rows = tuple(
        (labels[gold], labels[guess], f"{wrong[gold, guess]:,}", f"{wrong[gold, guess] / support[gold]:.1%}")
        for gold, guess in found
        if wrong[gold, guess]
    )
    return Grid("Most frequent confusions", ("gold", "predicted", "count", "of gold"), rows)


def data(result: Result) -> Grid:
    """Split by split: where from, how many, the hash."""
    facts = result.data
    rows = tuple(
        (split, facts.sources.get(split, facts.name), f"{size:,}", facts.sha256.get(split, "")[:16])
        for split, size in facts.sizes.items()
    )
    return Grid("Data", ("split", "source", "examples", "sha256 (first 16)"), rows)


def facts(title: str, pairs: Mapping[str, str]) -> Grid:
    """Names and values."""
    return Grid(title, ("", ""), tuple(pairs.items()))


def number(value: float | None) -> str:
    """Four decimals; empty for none."""
    return "" if value is None else f"{value:.4f}"


def sentence(result: Result) -> str:
    """The main score in one sentence; needs a scored split."""
    name = result.metric if result.metric in result.after else next(iter(result.after))
    before = f" (before fine-tuning {result.before[name]:.4f})" if name in result.before else ""
    return f"{result.scored.capitalize()} {name} {result.after[name]:.4f}{before}, after {result.steps:,} steps."
