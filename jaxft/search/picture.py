"""A search tree to look at: as lines of text, as DOT, as a picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxft.search.tree import NONE, ROOT
from jaxft.search.tree_search import Found

Name = Callable[[int], str]
"""Action number -> what it is called."""


@dataclass(frozen=True)
class Shown:
    """One node. number: its own; action: that leads to it, NONE for the root; share: of its parent's visits."""

    number: int
    parent: int
    action: int
    depth: int
    visits: int
    share: float
    value: float
    q: float
    solved: bool
    done: bool


def nodes_of(found: Found, element: int = 0, *, max_nodes: int = 60, max_depth: int | None = None) -> list[Shown]:
    """The nodes of one element visited most, each after its parent; siblings by visits."""
    nodes = found.tree.nodes
    batch, used = nodes.batch, int(np.asarray(found.tree.used)[element])

    def column(field: Any) -> np.ndarray:
        return np.asarray(field).reshape(-1, batch)[:used, element]

    fields = ("parents", "actions", "depths", "visits", "values", "rewards", "discounts", "solved", "done")
    f = {name: column(getattr(nodes, name)) for name in fields}
    q = f["rewards"] + f["discounts"] * f["values"]
    kept = np.argsort(-f["visits"], kind="stable")[:max_nodes]  # a parent has no fewer visits than its child
    kept = [int(n) for n in kept if max_depth is None or f["depths"][n] <= max_depth]
    chosen = set(kept)
    below: dict[int, list[int]] = {}
    for number in kept:
        if number != ROOT and int(f["parents"][number]) in chosen:
            below.setdefault(int(f["parents"][number]), []).append(number)

    def walk(number: int) -> Iterator[Shown]:
        parent = int(f["parents"][number])
        share = 1.0 if parent == NONE else f["visits"][number] / f["visits"][parent]
        facts = (int(f["depths"][number]), int(f["visits"][number]), float(share))
        values = float(f["values"][number]), float(q[number] if parent != NONE else f["values"][number])
        action, solved, done = int(f["actions"][number]), bool(f["solved"][number]), bool(f["done"][number])
        yield Shown(number, parent, action, *facts, *values, solved, done)
        for child in below.get(number, ()):
            yield from walk(child)

    return list(walk(ROOT))


def text(found: Found, element: int = 0, *, name: Name = str, max_nodes: int = 30, max_depth: int | None = None) -> str:
    """A line a node: action, visits, share of the parent's, q; `=` marks values that are exact, `.` ends."""
    shown = nodes_of(found, element, max_nodes=max_nodes, max_depth=max_depth)
    total = int(np.asarray(found.tree.used)[element])
    lines = [f"{total} nodes; plays {name(int(np.asarray(found.action)[element]))}"]
    for one in shown:
        label = "root" if one.action == NONE else name(one.action)
        mark = "=" if one.solved else " "
        end = " ." if one.done else ""
        lines.append(f"{'  ' * one.depth}{label:<8} {one.visits:>6} {one.share:>5.0%}  q{mark}{one.q:+.3f}{end}")
    if len(shown) < total:
        lines.append(f"and {total - len(shown)} more")
    return "\n".join(lines)


def dot(found: Found, element: int = 0, *, name: Name = str, max_nodes: int = 60, max_depth: int | None = None) -> str:
    """The tree in the DOT language, for Graphviz: visits, values, thickness by share; double where solved."""
    lines = ["digraph tree {", '  node [shape=box, style=filled, fontname="sans-serif"];']
    for one in nodes_of(found, element, max_nodes=max_nodes, max_depth=max_depth):
        label = f"{one.visits} visits\\n{one.value:+.3f}"
        red, blue = (int(255 - 110 * max(0.0, min(1.0, side * one.value))) for side in (1, -1))
        colour = f"#{blue:02x}{min(red, blue):02x}{red:02x}"
        edges = ", peripheries=2" if one.solved else ""
        lines.append(f'  n{one.number} [label="{label}", fillcolor="{colour}"{edges}];')
        if one.parent != NONE:
            width = 0.5 + 4.5 * one.share
            quoted = name(one.action).replace("\\", "\\\\").replace('"', '\\"')
            lines.append(f'  n{one.parent} -> n{one.number} [label="{quoted}", penwidth={width:.2f}];')
    return "\n".join([*lines, "}"]) + "\n"


def png(
    found: Found,
    path: Path | str,
    element: int = 0,
    *,
    name: Name = str,
    max_nodes: int = 40,
    max_depth: int | None = None,
) -> None:
    """Draws the tree: a box a node with visits and value, edges as thick as their share of the visits."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = nodes_of(found, element, max_nodes=max_nodes, max_depth=max_depth)
    across = _places(shown)
    leaves, levels = max(across.values()) + 1, max(one.depth for one in shown) + 1
    figure = Figure(figsize=(max(6.0, 0.95 * leaves), max(3.0, 1.15 * levels)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.axis("off")
    scale = max(1e-6, *(abs(one.value) for one in shown))
    for one in shown:
        x, y = across[one.number], -one.depth
        if one.parent != NONE:
            above = across[one.parent], 1 - one.depth
            axes.plot([above[0], x], [above[1], y], color="#666666", linewidth=0.5 + 4.5 * one.share, zorder=1)
            middle = (above[0] + x) / 2, (above[1] + y) / 2
            box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none"}
            axes.text(*middle, name(one.action), ha="center", va="center", fontsize=8, bbox=box, zorder=2)
        strength = min(1.0, abs(one.value) / scale) * 0.5
        colour = (1 - strength, 1 - strength / 2, 1.0) if one.value >= 0 else (1.0, 1 - strength / 2, 1 - strength)
        edge = {"boxstyle": "round,pad=0.35", "facecolor": colour, "linewidth": 2.0 if one.solved else 0.8}
        axes.text(x, y, f"{one.visits}\n{one.value:+.2f}", ha="center", va="center", fontsize=8, bbox=edge, zorder=3)
    axes.set_xlim(-0.7, leaves - 0.3)
    axes.set_ylim(-levels + 0.4, 0.6)
    axes.set_title("visits and value; thick frame: exact", loc="left", fontsize=10)
    figure.savefig(path, dpi=150)


def _places(shown: list[Shown]) -> dict[int, float]:
    """Where each node stands across: leaves side by side, a parent over the middle of its children."""
    children: dict[int, list[int]] = {}
    for one in shown[1:]:
        children.setdefault(one.parent, []).append(one.number)
    places: dict[int, float] = {}
    for one in reversed(shown):  # children come after their parent
        below = [places[child] for child in children.get(one.number, ())]
        if below:
            places[one.number] = (min(below) + max(below)) / 2
        else:
            places[one.number] = float(sum(number not in children for number in places))
    most = max(places.values())
    return {number: most - place for number, place in places.items()}
