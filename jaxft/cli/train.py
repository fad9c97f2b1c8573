"""`jaxft train RECIPE [--key value ...]`: trains, evaluates, writes the run folder."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jaxft import overrides
from jaxft import recipe as recipes
from jaxft.report.run_folder import RunFolder

HELP = "fine-tunes a model as a recipe says; writes scores, report and model"


@dataclass(frozen=True)
class Train(overrides.WithRecipe):
    """Fine-tunes a model as a recipe says. Every key can be overridden: --train.epochs 1 --out runs/short

    In the folder of an unfinished run it goes on with that run, from its last checkpoint.
    """

    overwrite: bool = False
    """Replace the run that is in the folder."""
    quiet: bool = False
    """Print nothing but problems."""


def main(argv: Sequence[str]) -> int:
    """Runs the command; 0 on success. Raises UserError, and KeyboardInterrupt with a word on what is left."""
    args = overrides.parse(Train, argv, "jaxft train")
    recipes.check(args.keys)  # before JAX is imported, which takes seconds
    from jaxft.train.run import run

    return to_the_end(run, args)


def to_the_end(run: Callable[..., Any], args: Any) -> int:
    """Runs the recipe of a command's options; 0 on success. Raises KeyboardInterrupt with a word on what is left."""
    from jaxft.train.interrupt import Interrupted

    try:
        run(args.keys, overwrite=args.overwrite, quiet=args.quiet)
    except Interrupted as stop:
        hint = " (without --overwrite)" if args.overwrite else ""
        raise Interrupted(f"{stop}{hint}", stop.number) from None
    except KeyboardInterrupt:
        raise KeyboardInterrupt(interrupted(args.keys.out)) from None
    sys.stdout.flush()
    return 0


def interrupted(out: str) -> str:
    """What to say when a run was stopped by hand before or after its training."""
    folder = RunFolder(out)
    if folder.finished:
        return f"interrupted; the results of the finished run are in {out}"
    if folder.resumable:
        return f"interrupted; the unfinished run is in {out}: the same command goes on with it"
    return "interrupted; nothing was written"
