"""Cleaning of pinned data sets: raw files of a package in, the files that jaxft reads out.

Each function takes the folder with the raw files and a folder to write to. The output is pinned by sha256 in
`assets.toml` like the input, so the cleaning cannot drift. Nothing is dropped but what the docstrings name.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable
from pathlib import Path


def sms_spam(raw: Path, out: Path) -> None:
    """SMS spam collection: 4,837 rows as parsed, 5,574 messages (747 spam) as meant.

    Eight cells hold further lines `ham\\t…` or `spam\\t…` of the original file, swallowed by an unbalanced quote.
    """
    messages = []
    with (raw / "sms-spam.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            first, *swallowed = re.split(r"\n(?=(?:ham|spam)\t)", row["text"])
            messages.append((first, "spam" if row["spam"] == "1" else "ham"))
            for line in swallowed:
                label, text = line.split("\t", 1)
                messages.append((text, label))
    _write(out / "sms_spam.csv", ("text", "label"), messages)


def trec(raw: Path, out: Path) -> None:
    """TREC questions: the last 5,452 lines (the earlier ones repeat them), 6 coarse and 50 fine labels, latin-1."""
    lines = (raw / "question_labels.txt").read_text(encoding="latin-1").split("\n")
    rows = []
    for line in [line for line in lines if line][-5452:]:
        fine, question = line.split(" ", 1)
        rows.append((question, fine.split(":", 1)[0], fine))
    _write(out / "trec.csv", ("text", "label", "fine"), rows)


def newsgroups(raw: Path, out: Path) -> None:
    """20 newsgroups: `label\\ttext` after three header lines (names, types, roles); no quoting."""
    for split in ("train", "test"):
        lines = (raw / f"20newsgroups-{split}.tab").read_text(encoding="utf-8").split("\n")[3:]
        rows = [tuple(reversed(line.split("\t", 1))) for line in lines if line]
        _write(out / f"{split}.csv", ("text", "label"), rows)


def sts_b(raw: Path, out: Path) -> None:
    """STS benchmark: genre, file, year, id, score (0 to 5), two sentences; tabs, no header, no quoting."""
    for split in ("train", "dev", "test"):
        lines = (raw / f"sts-{split}.csv").read_text(encoding="utf-8").split("\n")
        cells = [line.rstrip("\r").split("\t") for line in lines if line.strip()]
        _write(out / f"{split}.csv", ("text", "text_pair", "score"), [(row[5], row[6], row[4]) for row in cells])


def _write(path: Path, header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


STEPS: dict[str, Callable[[Path, Path], None]] = {
    "sms_spam": sms_spam,
    "trec": trec,
    "newsgroups": newsgroups,
    "sts_b": sts_b,
}
