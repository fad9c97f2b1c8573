"""Texts to predict on: out of any source that training data can come from, or plain text with one text a line.

Labels are neither needed nor looked at. Blank lines of plain text are passed over and counted; a blank cell of a table
is a problem, since its row would be missing from the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxft.data import cells
from jaxft.data.formats.text import load_text
from jaxft.data.listing import Listing
from jaxft.data.read import read
from jaxft.data.rows import Rows
from jaxft.errors import Problems
from jaxft.recipe import Data

STANDARD_INPUT = Path("/dev/stdin")
PLAIN_ENDINGS = ("", ".txt", ".text", ".md", ".log")


@dataclass(frozen=True)
class Texts:
    """texts: text, or list of words. pairs: second texts, if asked for. where: `file:line`. skipped: blank lines."""

    texts: list[Any]
    pairs: list[str] | None
    where: list[str]
    skipped: int = 0

    def __len__(self) -> int:
        return len(self.texts)


def read_texts(source: str, spec: Data, *, plain: bool | None, problems: Problems) -> Texts:
    """The texts of a source; `-` is standard input.

    spec: names the columns `text` and `text_pair` and the format. plain: one text a line; none: by the ending.
    Problems are added; raise before using the result.
    """
    path = STANDARD_INPUT if source == "-" else Path(source).expanduser()
    if plain is None:
        plain = spec.format == "auto" and path.suffix.lower() in PLAIN_ENDINGS and path.exists() and not path.is_dir()
    if plain:
        return _lines(path, problems)
    rows = read(str(path) if source == "-" else source, spec, problems)
    if not rows.columns:
        return Texts([], None, [])
    return _cells(rows, spec, problems)


def given(texts: list[str], pairs: list[str] | None, problems: Problems) -> Texts:
    """Texts given as such, such as on the command line."""
    where = [f"text {number}" for number in range(1, len(texts) + 1)]
    if pairs is not None and len(pairs) != len(texts):
        problems.add("--pair", f"{len(pairs)} second texts for {len(texts)} texts", "give one for each")
        pairs = None
    with Listing(problems, "texts") as listing:
        checked = [_text(text, at, "text", listing) for text, at in zip(texts, where, strict=True)]
        seconds = None if pairs is None else [_text(*pair, "pair", listing) for pair in zip(pairs, where, strict=True)]
    return Texts(checked, seconds, where)


def _lines(path: Path, problems: Problems) -> Texts:
    text, _ = load_text(path, problems)
    lines = [(number, line.strip()) for number, line in enumerate((text or "").split("\n"), 1)]
    if lines and not lines[-1][1]:
        lines.pop()  # what follows the last line feed is no line
    kept = [(number, line) for number, line in lines if line]
    return Texts([line for _, line in kept], None, [f"{path}:{number}" for number, _ in kept], len(lines) - len(kept))


def _cells(rows: Rows, spec: Data, problems: Problems) -> Texts:
    where = [rows.where(row) for row in range(len(rows))]
    if rows.format == "conll":
        return Texts(rows.columns["words"], None, where)
    first = rows.column(spec.text, "--text-column", problems)
    second = rows.column(spec.text_pair, "--pair-column", problems) if spec.text_pair else None
    with Listing(problems, rows.path) as listing:
        texts = [_text(cell, at, spec.text, listing) for cell, at in zip(first or [], where, strict=False)]
        pairs = [_text(cell, at, str(spec.text_pair), listing) for cell, at in zip(second or [], where, strict=False)]
    return Texts(texts, pairs if spec.text_pair else None, where)


def _text(cell: Any, where: str, name: str, listing: Listing) -> Any:
    if isinstance(cell, list):
        return cells.words(cell, where, name, listing)
    before = listing.count
    found = cells.text(cell, where, name, listing)
    if listing.count == before and not found.strip():
        listing.add(where, "the text is empty", "remove it, or fill it in")
    return found
