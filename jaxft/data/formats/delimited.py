"""CSV and TSV: a header line, quoted cells that may run over several lines (RFC 4180), the same cells in every row."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from jaxft.data.formats.text import load_text
from jaxft.data.listing import Listing
from jaxft.data.rows import Rows
from jaxft.errors import Problems

_MAX_CELL = 1 << 24  # characters; the csv module's own 131,072 is less than a long document


def read(path: Path, source: str, kind: str, problems: Problems) -> Rows:
    """Rows of a file of kind csv or tsv, every cell text; `lines` is the line at which a row begins."""
    text, sha256 = load_text(path, problems)
    columns: dict[str, list[str]] = {}
    lines: list[int] = []
    if text is not None:
        with Listing(problems, str(path)) as listing:
            records = _records(text, "\t" if kind == "tsv" else ",", path, listing)
            header = next(records, None)
            if header is not None and _check_header(header[1], path, kind, listing):
                columns = {name: [] for name in header[1]}
                lines = _fill(columns, records, path, listing)
                if not lines and not listing.count:
                    listing.add(str(path), f"no rows below its header ({len(columns)} columns)")
    return Rows(columns, lines, source, str(path), sha256, kind)


def _records(text: str, delimiter: str, path: Path, listing: Listing) -> Iterator[tuple[int, list[str]]]:
    """(first line, cells) of each record that is not blank; a broken record is a problem, reading goes on below it."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    limit = csv.field_size_limit(_MAX_CELL)
    try:
        while True:
            line = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                listing.add(f"{path}:{line}", *_explain(str(error), line, reader.line_num))
                continue
            if cells:
                yield line, cells
    finally:
        csv.field_size_limit(limit)


def _explain(error: str, first: int, last: int) -> tuple[str, str]:
    if "unexpected end of data" in error:
        return (
            f"a quote opened in this record is not closed by the end of the file (line {last})",
            'write " inside a quoted cell as ""',
        )
    if "field limit" in error:
        return (
            f"a cell of more than {_MAX_CELL:,} characters, up to line {last}",
            "look for a quote that is never closed",
        )
    span = "" if last <= first else f" (the record runs to line {last})"
    return f"broken quoting: {error}{span}", 'write " inside a quoted cell as "", and quote the whole cell'


def _check_header(names: list[str], path: Path, kind: str, listing: Listing) -> bool:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        listing.add(
            f"{path}:1",
            f"column names occur twice: {', '.join(map(repr, twice))}",
            "the first line must name the columns",
        )
    other = "," if kind == "tsv" else "\t"
    if len(names) == 1 and other in names[0]:
        fix = f"set `data.format: {'csv' if kind == 'tsv' else 'tsv'}`"
        listing.add(f"{path}:1", f"read as {kind}, the header is one column: {names[0][:60]!r}", fix)
    return not listing.count


def _fill(
    columns: dict[str, list[str]], records: Iterator[tuple[int, list[str]]], path: Path, listing: Listing
) -> list[int]:
    """Appends the records to the columns; returns their lines. Ragged ones are problems and left out."""
    lines, cells_of = [], list(columns.values())
    for line, cells in records:
        if len(cells) != len(cells_of):
            what = f"{len(cells)} cells, the header has {len(cells_of)} columns"
            listing.add(
                f"{path}:{line}", what, "quote cells that hold a delimiter" if len(cells) > len(cells_of) else ""
            )
            continue
        for column, cell in zip(cells_of, cells, strict=True):
            column.append(cell)
        lines.append(line)
    return lines
