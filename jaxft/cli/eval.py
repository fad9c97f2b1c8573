"""`jaxft eval MODEL --data SOURCE`: scores a model on labelled text."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import tyro
from rich.console import Console

from jaxft import arguments
from jaxft.data.examples import Examples
from jaxft.errors import Problems, UserError
from jaxft.recipe import Data
from jaxft.report import tables
from jaxft.report.run_folder import plain

if TYPE_CHECKING:
    from jaxft.evaluate.labeller import Labeller
    from jaxft.evaluate.score import Scored

HELP = "scores a model on labelled text"


@dataclass(frozen=True)
class Eval:
    """Scores a model on labelled text: the metrics, and precision, recall, F1 and support of each label.

    For the folder of a run, what is not given is as in its recipe: with neither --data nor --split, its test set.
    """

    model: tyro.conf.Positional[str]
    """Folder of a run or of a model, or hub id."""
    data: str | None = None
    """Asset, file, saved `datasets` folder or hub id."""
    split: str | None = None
    """Split of --data; without --data, of the run: train, dev or test."""
    text: str | None = None
    """Column with the text."""
    text_pair: str | None = None
    """Column with the second text."""
    label: str | None = None
    """Column with the label."""
    format: Literal["auto", "csv", "tsv", "jsonl", "parquet", "conll"] | None = None
    """File format; auto goes by the file's ending."""
    max_tokens: int | None = None
    """Longest piece of text, in tokens."""
    overflow: Literal["truncate", "window", "error"] | None = None
    """What happens to longer texts; default: as in training, else window."""
    json: bool = False
    """Print JSON."""


def main(argv: Sequence[str]) -> int:
    """Runs the command; 0 on success. Raises UserError."""
    args = arguments.parse(Eval, argv, "jaxft eval")
    from jaxft import compilation
    from jaxft.evaluate import labeller

    compilation.keep()
    folder = labeller.find(args.model)
    trained = labeller.recipe_of(folder)
    if args.data is None and trained is None:
        raise UserError("--data", "is missing, and the model does not lie in the folder of its run", "name a source")
    model, problems = labeller.Labeller(folder), Problems()
    spec = _spec(args, model)
    if args.data is None:
        source, examples = _own_split(model, args.split)
    else:
        source = args.data if args.split is None else f"{args.data}:{args.split}"
        examples = model.read(source, spec, problems)
        _warn_of_training_data(model, examples, problems)
    scored = model.score_examples(examples, spec, problems)
    for warning in problems.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(_as_json(args, source, examples, scored) if args.json else _as_text(args, source, examples, scored))
    return 0


def _spec(args: Eval, model: Labeller) -> Data:
    """How to read: as given, else as in training, else in windows of what the model takes."""
    base = model.recipe.data if model.recipe else Data(max_tokens=model.max_tokens, overflow="window")
    names = ("text", "text_pair", "label", "format", "max_tokens", "overflow")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if args.data is not None and args.format is None:
        given["format"] = "auto"  # the other source may be of another kind
    return dataclasses.replace(base, **given)


def _own_split(model: Labeller, split: str | None) -> tuple[str, Examples]:
    """The examples of a split of the run's own data: test, or dev where there is no test set."""
    from jaxft.data import corpus

    assert model.recipe is not None  # the caller saw to it
    splits = corpus.load(model.recipe).splits
    chosen = split or next((name for name in ("test", "dev") if name in splits), "train")
    if chosen not in splits:
        raise UserError("--split", f"the run has no {chosen!r}", f"one of {', '.join(splits)}, or name --data")
    return f"{model.recipe.data.train} ({chosen} of the run)", splits[chosen]


def _warn_of_training_data(model: Labeller, examples: Examples, problems: Problems) -> None:
    """The run's report says which file it was trained on."""
    report = model.folder.parent / "report.json"
    if model.recipe is None or not report.is_file():
        return
    hashes = json.loads(report.read_text(encoding="utf-8")).get("data", {}).get("sha256", {})
    if examples.sha256 and examples.sha256 == hashes.get("train"):
        what = "the model was trained on texts of this very file, so the scores are too good"
        problems.warn(examples.source, what, "leave --data out: the run's own test set is scored then")


# --- output ----------------------------------------------------------------------------------------------------------


def _as_json(args: Eval, source: str, examples: Examples, scored: Scored) -> str:
    tree = {"model": args.model, "data": source, "examples": len(examples), "sha256": examples.sha256}
    tree |= {"scores": scored.scores, "tables": scored.tables}
    return json.dumps(plain(tree), indent=2, ensure_ascii=False)


def _as_text(args: Eval, source: str, examples: Examples, scored: Scored) -> str:
    rows = tuple((name, tables.number(value)) for name, value in scored.scores.items())
    title = f"{args.model} on {source}: {len(examples):,} examples"
    grids = [tables.Grid("Scores", ("metric", "value"), rows)]
    grids += [tables.per_label(table, of) for of, table in scored.tables.items() if table]
    console = Console(highlight=False)
    with console.capture() as drawn:  # printed by Python, so that a reader who leaves early is seen by `main`
        console.print(tables.printable(title), markup=False, soft_wrap=True)
        for grid in grids:
            console.print()
            console.print(tables.to_rich(grid))
    return drawn.get().rstrip()
