"""`jaxft check RECIPE`: every problem of a recipe and its data at once, before anything is compiled."""

from __future__ import annotations

import sys

import tyro
from rich.console import Console
from rich.text import Text

from jaxft.errors import Problem, Problems, UserError
from jaxft.recipe import Recipe

HELP = "validates a recipe and its data, all problems at once"


def run(recipe: tyro.conf.Positional[str]) -> int:
    """Validates a recipe and its data; tells every problem and warning at once. Exit code 2 if there is a problem.

    Args:
        recipe: A recipe file, or the name of a shipped recipe.
    """
    from jaxft import recipe as recipe_module
    from jaxft import recipes

    path = recipes.find(recipe)
    loaded = recipe_module.load(path)
    problems = Problems()
    recipe_module.check(loaded, problems)
    if not problems.errors:  # data can only be looked at where the recipe makes sense
        _examine(loaded, problems)
    _print_warnings(problems)
    problems.raise_if_any()
    warned = f", {len(problems.warnings)} warnings" if problems.warnings else ""
    print(f"{path}: no problems{warned}")
    return 0


def main(argv: list[str]) -> int:
    return tyro.cli(run, args=argv, prog="jaxft check")


def _examine(loaded: Recipe, problems: Problems) -> None:
    """Adds what is wrong or suspicious about the data; imported here, since it brings in JAX."""
    from jaxft import api

    try:
        found = api.examine(loaded)
    except UserError as error:
        problems.take(error)
    else:
        problems.errors.extend(found.errors)
        problems.warnings.extend(found.warnings)


def _print_warnings(problems: Problems) -> None:
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    for warning in problems.warnings:
        console.print(_line(warning))
    sys.stderr.flush()


def _line(warning: Problem) -> Text:
    return Text.assemble(("warning: ", "bold yellow"), str(warning))
