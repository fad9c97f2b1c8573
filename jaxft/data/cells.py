"""Cells as text and labels: what a column may hold, and what is said where it holds something else.

Integers pass as labels (`1` and `"1"` are the same class), so do booleans (`true`, `false`); integer classes with names
(`ClassLabel` of `datasets`) become their names. A missing cell, NaN in any spelling and a fraction are problems.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from jaxft.data.listing import Listing

_UNUSABLE = re.compile("[\0\ud800-\udfff]")


def text(cell: Any, where: str, name: str, listing: Listing) -> str:
    """A cell of text column `name`; "" and a problem if it is not text. Empty text passes: the doctor sees to it."""
    if cell is None:
        listing.add(where, f"no text in column {name!r}", "remove the row, or fill it in")
    elif not isinstance(cell, str):
        listing.add(where, f"column {name!r} must hold text, came {type(cell).__name__} {_short(cell)}")
    elif bad := _UNUSABLE.search(cell):
        kind = "a NUL character" if bad.group() == "\0" else f"half a surrogate pair, \\u{ord(bad.group()):04x},"
        listing.add(where, f"{kind} at character {bad.start() + 1} of column {name!r}", "remove it")
    else:
        return cell
    return ""


def words(cell: Any, where: str, name: str, listing: Listing) -> list[str]:
    """A list of words; [] and a problem if the cell holds anything else."""
    if not isinstance(cell, list):
        what = f"column {name!r} must hold a list of words, came {type(cell).__name__} {_short(cell)}"
        listing.add(
            where, what, "tagging reads CoNLL columns, or JSONL, Parquet and `datasets` with a list in each row"
        )
        return []
    return [text(word, where, name, listing) for word in cell]


def label(cell: Any, where: str, name: str, listing: Listing, class_names: Sequence[str] | None = None) -> str:
    """A cell of label column `name` as the name of a class; "" and a problem if it names none."""
    problem = _missing(cell)
    if problem:
        listing.add(where, f"{problem} in column {name!r}", "remove the row, or give it a label")
        return ""
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, int) and class_names:
        if 0 <= cell < len(class_names):
            return class_names[cell]
        what = f"label {cell} of column {name!r} is out of range 0 .. {len(class_names) - 1}"
        listing.add(where, what, "test sets on the hub often come without labels" if cell == -1 else "")
        return ""
    if isinstance(cell, float) and cell.is_integer():  # integers beside missing cells are read as floats
        return str(int(cell))
    if isinstance(cell, int | str):
        return str(cell)
    listing.add(
        where, f"column {name!r} must hold the name or number of a class, came {type(cell).__name__} {_short(cell)}"
    )
    return ""


def label_list(
    cell: Any, separator: str, where: str, name: str, listing: Listing, class_names: Sequence[str] | None = None
) -> list[str]:
    """The labels of a multi-label cell, sorted: a list, or text with a separator; "" and [] hold none."""
    if isinstance(cell, str):
        cell = cell.split(separator) if cell else []
    elif not isinstance(cell, list):
        cell = [cell]
    found = [label(item, where, name, listing, class_names) for item in cell]
    twice = sorted({item for item in found if item and found.count(item) > 1})
    if twice:
        what = f"label {twice[0]!r} stands {found.count(twice[0])} times in one cell of column {name!r}"
        listing.add(where, what, "the cell must name the labels, not hold a 0 or 1 for each class")
    return sorted({item for item in found if item})


def _missing(cell: Any) -> str:
    if cell is None:
        return "no label"
    if isinstance(cell, float) and not math.isfinite(cell):
        return f"label {cell}"
    if isinstance(cell, str) and not cell.strip():
        return "empty label"
    if isinstance(cell, str) and cell.strip().lower() == "nan":
        return f"label {cell!r}"
    return ""


def _short(cell: Any) -> str:
    shown = repr(cell)
    return shown if len(shown) <= 40 else shown[:40] + "…"
