"""`jaxft predict MODEL [TEXT ...]`: labels new text, one JSON object a line."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

import tyro

from jaxft import arguments
from jaxft.data import unlabelled
from jaxft.data.unlabelled import Texts
from jaxft.errors import Problems, UserError
from jaxft.recipe import Data

if TYPE_CHECKING:
    from jaxft.evaluate.labeller import Labeller

HELP = "labels new text, from arguments, a file or standard input"

CHUNK = 1024
"""Texts predicted and written at a time."""
DIGITS = 6


@dataclass(frozen=True)
class Predict:
    """Labels new text: one JSON object a line, in the order of the texts.

    Texts come from the command line, from --input, or, with neither, from standard input (one text a line).
    Longer texts than the model takes are read in overlapping windows; nothing is cut off.
    """

    model: tyro.conf.Positional[str]
    """Folder of a run or of a model, or hub id."""
    texts: tyro.conf.Positional[tuple[str, ...]] = ()
    """Texts to label."""
    pair: tuple[str, ...] = ()
    """Second text of each, for models of pairs."""
    input: str | None = None
    """File (plain text, csv, tsv, jsonl, parquet, conll), or - for standard input."""
    format: Literal["auto", "text", "csv", "tsv", "jsonl", "parquet", "conll"] = "auto"
    """Of --input; auto goes by the file's ending, and is one text a line for .txt and standard input."""
    text_column: str | None = None
    """Column with the text; default: as in training, else `text`."""
    pair_column: str | None = None
    """Column with the second text; default: as in training."""
    out: str | None = None
    """File to write instead of standard output."""
    top: int | None = None
    """Only the likeliest so many labels in `probabilities`."""


def main(argv: Sequence[str]) -> int:
    """Runs the command; 0 on success. Raises UserError before the model is loaded, where the input is at fault."""
    args = arguments.parse(Predict, argv, "jaxft predict")
    if args.top is not None and args.top < 1:
        raise UserError("--top", f"must be at least 1, is {args.top}")
    from jaxft import compilation
    from jaxft.evaluate import labeller

    compilation.keep()
    folder = labeller.find(args.model)
    trained = labeller.recipe_of(folder)
    texts = _texts(args, trained.data if trained else Data())
    model = labeller.Labeller(folder)
    _check_fit(model, texts, args)
    with _destination(args.out) as file:
        for line in _lines(model, texts, args.top):
            print(line, file=file)
    return 0


def _texts(args: Predict, trained: Data) -> Texts:
    problems = Problems()
    if args.texts and args.input:
        raise UserError("jaxft predict", "texts on the command line and --input", "give one of the two")
    if args.texts:
        found = unlabelled.given(list(args.texts), list(args.pair) or None, problems)
    else:
        found = _from_source(args, trained, problems)
    problems.raise_if_any()
    if not len(found):
        raise UserError(args.input or "jaxft predict", "no text to label")
    if found.skipped:
        lines = "line" if found.skipped == 1 else "lines"
        print(f"note: passed over {found.skipped:,} blank {lines}", file=sys.stderr)
    return found


def _from_source(args: Predict, trained: Data, problems: Problems) -> Texts:
    if args.pair:
        raise UserError("--pair", "goes with texts on the command line", "name the column: --pair-column COLUMN")
    if args.input is None and sys.stdin.isatty():
        raise UserError("jaxft predict", "no text to label", "give texts, --input FILE, or pipe them in")
    text = args.text_column or trained.text
    plain = {"auto": None, "text": True}.get(args.format, False)
    spec = Data(
        text=text,
        text_pair=args.pair_column or trained.text_pair,
        label=text,  # none is needed, and this column is there
        format="auto" if args.format in ("auto", "text") else args.format,  # type: ignore[arg-type]
    )
    return unlabelled.read_texts(args.input or "-", spec, plain=plain, problems=problems)


def _check_fit(model: Labeller, texts: Texts, args: Predict) -> None:
    """Raises UserError where the input is of another kind than the model's task takes."""
    if model.task.head == "tag":
        if texts.pairs is not None:
            raise UserError("--pair", "a tagging model takes one text, not two")
        if args.top is not None:
            raise UserError("--top", "is for classification; tagging gives one tag a word")
    elif any(not isinstance(text, str) for text in texts.texts):
        number = next(number for number, text in enumerate(texts.texts) if not isinstance(text, str))
        raise UserError(texts.where[number], "holds a list of words, but the model classifies texts")
    trained = model.recipe.data if model.recipe else None
    if trained and trained.text_pair and texts.pairs is None:
        raise UserError(str(model.folder), "was trained on pairs of texts", "add --pair or --pair-column")


def _lines(model: Labeller, texts: Texts, top: int | None) -> Iterator[str]:
    for start in range(0, len(texts), CHUNK):
        part = texts.texts[start : start + CHUNK]
        pairs = None if texts.pairs is None else texts.pairs[start : start + CHUNK]
        for number, found in enumerate(model.predict(part, pairs, top=top)):
            text = part[number] if isinstance(part[number], str) else " ".join(part[number])
            given = {"text": text} if pairs is None else {"text": text, "pair": pairs[number]}
            yield json.dumps(_rounded(given | found), ensure_ascii=False)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, DIGITS)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


@contextmanager
def _destination(out: str | None) -> Iterator[TextIO]:
    """Standard output, or a file that appears whole at the end or not at all."""
    if out is None:
        yield sys.stdout
        return
    path = Path(out).expanduser()
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise UserError("--out", f"{out} cannot be written: {error.strerror}") from None
    try:
        with open(descriptor, "w", encoding="utf-8", newline="\n") as file:
            yield file
        os.chmod(temporary, 0o644)  # mkstemp: 0600
        os.replace(temporary, path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise UserError("--out", f"{out} cannot be written: {error.strerror}") from None
        raise
