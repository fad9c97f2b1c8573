"""CoNLL columns: one word a line, its tag in the last column, a blank line after each sentence.

    -DOCSTART- -X- -X- O

    West NNP B-NP B-MISC          words column 0, tags column -1; separated by tabs if the first line holds one,
    Indian NNP I-NP I-MISC        else by spaces

Comments and the CoNLL-U layout are left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from jaxft.data.formats.text import load_text
from jaxft.data.listing import Listing
from jaxft.data.rows import Rows
from jaxft.errors import Problems

_Line = tuple[int, list[str]]  # line number, cells


def read(path: Path, source: str, problems: Problems) -> Rows:
    """Columns `words` and `tags`, one list a sentence; tags as written. Lines with another number of columns are
    problems."""
    text, sha256 = load_text(path, problems)
    sentences: list[list[_Line]] = []
    if text is not None:
        with Listing(problems, str(path)) as listing:
            sentences = _check(list(_sentences(text)), path, listing)
    columns = {
        "words": [[cells[0] for _, cells in sentence] for sentence in sentences],
        "tags": [[cells[-1] for _, cells in sentence] for sentence in sentences],
    }
    word_lines = [[number for number, _ in sentence] for sentence in sentences]
    lines = [numbers[0] for numbers in word_lines]
    return Rows(columns if sentences else {}, lines, source, str(path), sha256, "conll", word_lines)


def _sentences(text: str) -> Iterator[list[_Line]]:
    separator, sentence = "", []
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip(" \r") if "\t" in line else line.strip(" \t\r")
        if not line.strip() or line.startswith("-DOCSTART-"):
            if sentence:
                yield sentence
                sentence = []
            continue
        separator = separator or (
            "\t" if "\t" in line else " "
        )  # no other blank parts columns, not even a no-break space
        cells = line.split(separator)
        if separator == " " and "" in cells:  # a run of spaces
            cells = [cell for cell in cells if cell]
        sentence.append((number, cells))
    if sentence:
        yield sentence


def _check(sentences: list[list[_Line]], path: Path, listing: Listing) -> list[list[_Line]]:
    """The sentences without the words that do not fit; [] if the file holds no columns at all."""
    counts = Counter(len(cells) for sentence in sentences for _, cells in sentence)
    if not counts:
        listing.add(str(path), "no words, only blank and -DOCSTART- lines")
        return []
    width = max(counts, key=lambda n: (counts[n], n))
    if width == 1:
        what = f"{counts[1]:,} of {counts.total():,} lines hold one column; a word and its tag make at least 2"
        listing.add(str(path), what, "write `word<tab>tag` lines, or set `data.format`")
        return []
    kept = [[line for line in sentence if _fits(line, width, path, listing)] for sentence in sentences]
    return [sentence for sentence in kept if sentence]


def _fits(line: _Line, width: int, path: Path, listing: Listing) -> bool:
    number, cells = line
    if len(cells) != width:
        listing.add(
            f"{path}:{number}", f"{len(cells)} columns, most lines of the file have {width}: {' '.join(cells)[:60]!r}"
        )
    elif not all(cells):
        listing.add(f"{path}:{number}", f"column {cells.index('') + 1} of {width} is empty")
    else:
        return True
    return False
