"""Markdown tables, and the blocks of README.md that the scripts fill from their results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

README = Path(__file__).parent / "README.md"
RESULTS = Path(__file__).parent / "results"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column is flush left, the others flush right."""
    rules = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, rules, *rows])


def spread(values: dict[str, float] | None, digits: int = 0) -> str:
    """`median (min–max)` of a spread of `interleave.py`; a dash for none."""
    if values is None:
        return "—"
    middle, low, high = (f"{values[name]:,.{digits}f}" for name in ("median", "min", "max"))
    return f"{middle} ({low}–{high})"


def fill(marker: str, text: str, readme: Path = README) -> None:
    """Replaces what stands between `<!-- marker -->` and `<!-- /marker -->` in the README."""
    begin, end = f"<!-- {marker} -->", f"<!-- /{marker} -->"
    whole = readme.read_text("utf-8")
    if begin not in whole or end not in whole:
        raise SystemExit(f"{readme.name}: no block between {begin} and {end}")
    before, rest = whole.split(begin, 1)
    readme.write_text(f"{before}{begin}\n{text.strip()}\n{end}{rest.split(end, 1)[1]}", "utf-8")
