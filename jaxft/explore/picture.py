"""The tree of a search as a picture: a column a segment, the schedule found in colour, every state with what it led to.

Of large trees it shows the states on the way of the schedule found and those that were visited most.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path as File

import numpy as np

from jaxft.explore.account import Path
from jaxft.report import plots
from jaxft.report.tables import printable
from jaxft.search.asked import path_of
from jaxft.search.grown import Grown

MAX_NODES = 48
_MAX_CHARS = 100
_ROW, _COLUMN = 0.3, 1.55
"""Inches."""


@dataclass(frozen=True)
class Shown:
    """A state. value: the best score below it, less the root's; none where training diverged. share: of its parent's
    visits. row: counted from the top."""

    path: Path
    value: float | None
    share: float
    row: float


def shown(tree: Grown, found: Path, max_nodes: int, diverged: Collection[Path] = ()) -> list[Shown]:
    """The states to show, each after its parent; the better of siblings first. diverged: whole schedules where
    training did; of shorter ones the tree knows."""
    nodes = tree.nodes
    visits, values, done = (np.asarray(x)[: int(tree.used[0])] for x in (nodes.visits, nodes.values, nodes.done))
    paths = [path_of(tree, number) for number in range(len(visits))]
    number_of = {path: number for number, path in enumerate(paths)}
    on_way = [found[:length] for length in range(len(found) + 1)]
    order = sorted(paths, key=lambda path: (path not in on_way, -visits[number_of[path]], len(path), number_of[path]))
    chosen = order[:max_nodes]  # a parent has more visits than its children, or as many and is shorter
    below: dict[Path, list[Path]] = {path: [] for path in chosen}
    for path in chosen:
        if path:
            below[path[:-1]].append(path)
    rows: dict[Path, float] = {}

    def place(path: Path) -> float:
        children = sorted(below[path], key=lambda one: (one not in on_way, -values[number_of[one]], one))
        places = [place(child) for child in children]
        leaves = sum(not below[one] for one in rows)
        rows[path] = (places[0] + places[-1]) / 2 if places else float(leaves)
        return rows[path]

    place(())
    made = []
    for path in sorted(chosen, key=lambda one: (len(one), rows[one])):
        number = number_of[path]
        is_lost = path in diverged or (bool(done[number]) and len(path) < len(found))
        share = visits[number] / visits[number_of[path[:-1]]] if path else 1.0
        made.append(Shown(path, None if is_lost else float(values[number]), float(share), rows[path]))
    return made


def png(
    tree: Grown, file: File, found: Path, strategies: Sequence[str], metric: str, diverged: Collection[Path] = ()
) -> None:
    """Draws it. strategies: by number."""
    states = shown(tree, found, MAX_NODES, diverged)
    at = {one.path: (len(one.path), -one.row) for one in states}
    depth, leaves = len(found), max(one.row for one in states) + 1
    legend = [f"{number}: {_short(what)}" for number, what in enumerate(strategies)]
    height = _ROW * (leaves + 1) + 0.22 * len(legend) + 0.9
    with plots.drawing(file, max(7.0, _COLUMN * (depth + 1)), height) as figure:
        axes = figure.add_subplot()
        axes.axis("off")
        greatest = max(1e-9, *(abs(one.value or 0.0) for one in states))
        for one in states:
            x, y = at[one.path]
            is_found = one.path == found[: len(one.path)]
            if one.path:
                above = at[one.path[:-1]]
                middle = above[0] + 0.5
                colour, width = (plots.BLUE, 2.5) if is_found else ("#999999", 0.6 + 2.0 * one.share)
                axes.plot([above[0], middle, x], [above[1], y, y], color=colour, linewidth=width, zorder=1 + is_found)
            axes.text(
                x, y, _label(one), bbox=_box(one, greatest, is_found), ha="center", va="center", fontsize=9, zorder=3
            )
        for column in range(1, depth + 1):
            axes.text(column, 1.0, f"segment {column}", ha="center", va="center", fontsize=9, color=plots.GREY)
        axes.set_xlim(-0.4, depth + 0.5)
        axes.set_ylim(-leaves + 0.4, 1.4)
        axes.set_title(f"Strategy, and the best {metric} below it, less that at the start", fontsize=11)
        hidden = int(tree.used[0]) - len(states)
        if hidden:
            legend.append(f"and {hidden} more states, visited less")
        axes.text(0, 0, "\n".join(legend), transform=axes.transAxes, ha="left", va="top", fontsize=9)


def _label(one: Shown) -> str:
    value = "diverged" if one.value is None else f"{one.value:+.3f}"
    return f"{one.path[-1]}   {value}" if one.path else f"start\n{value}"


def _box(one: Shown, greatest: float, is_found: bool) -> dict[str, object]:
    """Blue above the start's score, red below it."""
    strength = 0.45 * min(1.0, abs(one.value or 0.0) / greatest)
    fill = (1 - strength, 1 - strength / 2, 1.0) if (one.value or 0.0) >= 0 else (1.0, 1 - strength / 2, 1 - strength)
    edge = plots.BLUE if is_found else "#999999"
    return {"boxstyle": "round,pad=0.25", "facecolor": fill, "edgecolor": edge, "linewidth": 2.0 if is_found else 0.8}


def _short(text: str) -> str:
    text = printable(text)
    return text if len(text) <= _MAX_CHARS else f"{text[: _MAX_CHARS - 1]}…"
