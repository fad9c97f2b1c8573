"""What every reader gives: columns of cells, and where each row came from."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import Any

from jaxft.errors import Problems


@dataclass(frozen=True)
class Rows:
    """The rows of one source.

    columns: name -> one cell a row. Empty if the source could not be read, which was then added to the problems.
    lines: where each row begins, from 1: the line in a text file, the number of the row elsewhere.
    source: as the recipe names it. path: the file, folder or hub id. sha256: of the file's bytes or of the rows.
    word_lines: for CoNLL, the line of each word of each row.
    class_names: column -> names of its integer classes, where the source declares them (`ClassLabel` of `datasets`).
    """

    columns: dict[str, list[Any]]
    lines: list[int]
    source: str
    path: str
    sha256: str
    format: str
    word_lines: list[list[int]] | None = None
    class_names: dict[str, list[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.lines)

    def where(self, row: int, word: int | None = None) -> str:
        """`file:line` of a row, or of a word of it; `file:row N` if the format has no lines."""
        if word is not None and self.word_lines is not None:
            return f"{self.path}:{self.word_lines[row][word]}"
        unit = "row " if self.format in ("parquet", "datasets") else ""
        return f"{self.path}:{unit}{self.lines[row]}"

    def column(self, name: str, key: str, problems: Problems) -> list[Any] | None:
        """The cells of a column that recipe key `key` names; None, and a problem, if there is no such column."""
        if name in self.columns:
            return self.columns[name]
        near = difflib.get_close_matches(name, self.columns, n=1)
        fix = f"set `{key}: {near[0]}`" if near else f"set `{key}` to one of them"
        if self.format in ("csv", "tsv"):
            fix += "; the first line must name the columns"
        problems.add(self.path, f"no column {name!r} (`{key}`); its columns: {_listed(self.columns)}", fix)
        return None


def _listed(names: dict[str, list[Any]], limit: int = 12) -> str:
    shown = ", ".join(repr(name if len(name) <= 40 else name[:40] + "…") for name in list(names)[:limit])
    return shown + (f" and {len(names) - limit} more" if len(names) > limit else "")
