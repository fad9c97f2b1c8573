"""`jaxft init TASK`: a starter recipe on standard output, the next command on standard error."""

from __future__ import annotations

import difflib
import sys
from dataclasses import dataclass

import tyro

from jaxft.errors import UserError

HELP = "prints a starter recipe for a task"


@dataclass(frozen=True)
class Starter:
    """The lines that differ from task to task."""

    train: str
    columns: str
    epochs: int
    dev: str = "0.1                    # a file, or the fraction of train to hold out; null: none"
    test: str = "0.2"


STARTERS = {
    "classify": Starter(
        train="sms_spam             # asset (`jaxft assets`), file (csv, tsv, jsonl, parquet), datasets folder, hub id",
        columns="text: text                  # column names\n  text_pair: null             # second text, for pairs\n"
        "  label: label\n  multi_label: false          # any number of labels an example, separated by |",
        epochs=2,
    ),
    "tag": Starter(
        train="conll2003            # asset (`jaxft assets`), or a file: a word and its tag a line, blank between",
        columns="format: conll               # words first, tags last column; IOB1, IOB2 or IOBES",
        epochs=3,
        dev="conll2003:dev          # a file, or the fraction of train to hold out; null: none",
        test="conll2003:test",
    ),
}

TEMPLATE = """\
# A jaxft recipe. Keys left out keep their defaults; `jaxft check` tells what is wrong, `jaxft train` runs it.
# Any key can be overridden on the command line: --train.epochs 1 --optim.learning-rate 3e-5
task: {task}
model: minilm                 # asset, folder with config.json and model.safetensors, or hub id
data:
  train: {train}
  dev: {dev}
  test: {test}
  {columns}
  max_tokens: 128
  overflow: truncate          # longer texts: truncate | window | error
train:
  epochs: {epochs}
  batch_size: 32              # examples a step
  freeze: none                # none | encoder | layers:K | re:PATTERN
  patience: null              # evaluations without a better dev score before the run stops
optim:
  learning_rate: 5.0e-5
  schedule: linear            # linear | cosine | constant
  warmup: 0.1                 # share of the steps
  weight_decay: 0.01
seed: 0
out: {out}# the run folder
"""


def starter(task: str) -> str:
    """A recipe for the task, as YAML with comments. Raises UserError for an unknown task."""
    if task not in STARTERS:
        near = difflib.get_close_matches(task, STARTERS, n=1)
        fix = f"did you mean `{near[0]}`?" if near else f"tasks: {', '.join(STARTERS)}"
        raise UserError(f"jaxft init {task}", "no starter recipe for that task", fix)
    lines = STARTERS[task]
    return TEMPLATE.format(task=task, out=f"runs/{task}".ljust(25), **vars(lines))


def run(task: tyro.conf.Positional[str]) -> int:
    """Prints a starter recipe.

    Args:
        task: classify or tag.
    """
    print(starter(task), end="")
    sys.stdout.flush()
    where = "recipe.yaml"
    print(f"next: jaxft init {task} > {where}, then jaxft check {where} and jaxft train {where}", file=sys.stderr)
    return 0


def main(argv: list[str]) -> int:
    return tyro.cli(run, args=argv, prog="jaxft init")
