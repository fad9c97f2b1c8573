"""`jaxft demo`: the main job, start to finish: a small BERT learns to tell spam from not spam."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jaxft import arguments, recipes
from jaxft import recipe as recipes_
from jaxft.errors import UserError
from jaxft.recipe import Recipe
from jaxft.report.run_folder import RunFolder

HELP = "fine-tunes a small BERT to spot spam, start to finish"

RECIPE = "sms_spam"
QUICK_STEPS, QUICK_FREEZE, QUICK_RATE = 40, "layers:3", 4e-4
"""Few steps want a high learning rate; with half the layers left as they are, a step takes little more than half."""
EXAMPLES = (
    "Are we still on for lunch at noon? I booked the corner table.",
    "WINNER! You have been selected for a 500 pound voucher. Text CLAIM to 80800 now, 150p/msg",
    "Sorry, stuck in traffic, will be there in ten minutes",
    "Your mobile has won a free upgrade! Call 09061 701444 to claim before midnight",
    "Can you send me the money for the tickets? No rush",
)


@dataclass(frozen=True)
class Demo:
    """Fine-tunes MiniLM on 5,574 text messages and labels a few new ones. Takes minutes on two processor cores."""

    quick: bool = False
    """Train the upper layers for a few steps only; scores are somewhat lower."""
    out: str = "runs/demo"
    """The run folder; an earlier demo in it is replaced."""


def main(argv: Sequence[str]) -> int:
    """Runs the command; 0 on success. Raises UserError."""
    args = arguments.parse(Demo, argv, "jaxft demo")
    chosen = _recipe(args)
    console = Console(highlight=False)
    console.print("A small BERT (MiniLM, 22.7 million parameters) learns to tell spam from ham.", markup=False)
    console.print(f"The same, step by step: jaxft train {RECIPE}\n", markup=False)
    from jaxft import api
    from jaxft.cli.train import interrupted
    from jaxft.train.interrupt import Interrupted

    overwrite = _is_demo(RunFolder(args.out), chosen)
    try:
        api.train(chosen, overwrite=overwrite)
    except Interrupted:
        raise
    except KeyboardInterrupt:
        raise KeyboardInterrupt(interrupted(args.out).partition(":")[0]) from None
    found = api.load(args.out).predict(list(EXAMPLES))
    console.print()
    console.print(_table(found))
    again = shlex.join(["jaxft", "predict", args.out, "Free entry! Text WIN to 80086"])
    console.print(f"\nLabel texts of your own:     {again}", soft_wrap=True, markup=False)
    console.print("Train on data of your own:   jaxft init classify > recipe.yaml", markup=False)
    console.print(f"Scores, plots and settings:  {RunFolder(args.out).report_md}", soft_wrap=True, markup=False)
    return 0


def _recipe(args: Demo) -> Recipe:
    chosen = dataclasses.replace(recipes_.load(recipes.find(RECIPE)), out=args.out)
    if not args.quick:
        return chosen
    train = dataclasses.replace(chosen.train, steps=QUICK_STEPS, freeze=QUICK_FREEZE)
    return dataclasses.replace(chosen, train=train, optim=dataclasses.replace(chosen.optim, learning_rate=QUICK_RATE))


def _is_demo(folder: RunFolder, chosen: Recipe) -> bool:
    """Whether the folder holds a run with the demo's task, model and data, other than this very run, unfinished."""
    if not (folder.holds_run and folder.recipe.is_file()):
        return False
    try:
        there = recipes_.load(folder.recipe)
    except UserError:
        return False
    if folder.resumable and there == chosen:
        return False
    return (there.task, there.model, there.data.train) == (chosen.task, chosen.model, chosen.data.train)


def _table(found: list[dict]) -> Table:
    table = Table(title=Text("New messages", style="bold"), title_justify="left", box=None, pad_edge=False)
    for name in ("label", "probability", "text"):
        table.add_column(name, justify="right" if name == "probability" else "left", overflow="fold")
    for text, row in zip(EXAMPLES, found, strict=True):
        style = "red" if row["label"] == "spam" else "green"
        table.add_row(Text(row["label"], style=style), f"{row['probability']:.3f}", Text(text))
    return table
