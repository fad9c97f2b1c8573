"""`jaxft explore RECIPE [--key value ...]`: searches the strategy of a run; `--list` names what there is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import tyro

from jaxft import overrides, recipes
from jaxft import recipe as recipe_module
from jaxft.cli.train import to_the_end
from jaxft.explore.recipe import ExploreRecipe

DEFAULT = "sms_spam"
"""The recipe that is explored where none is named."""
HELP = "searches for a better schedule of strategies, and judges it on fresh seeds"


@dataclass(frozen=True)
class WithExploration(overrides.WithRecipe):
    """What a command on the recipe of an exploration takes."""

    keys: Annotated[  # type: ignore[assignment]
        ExploreRecipe, tyro.conf.arg(name=""), overrides.RECIPE_KEY
    ] = field(default_factory=ExploreRecipe)

    SHIPPED: ClassVar[str] = recipes.EXPLORE


@dataclass(frozen=True)
class Explore(WithExploration):
    """Searches strategies segment by segment, lets rivals search with the same budget, and trains what was found again
    from fresh seeds. Every key can be overridden: --explore.rivals "[beam, tpe]" --explore.budget 2000

    In the folder of an unfinished exploration it goes on. `jaxft explore --list` names searchers and recipes;
    `jaxft explore` alone explores the recipe sms_spam.
    """

    overwrite: bool = False
    """Replace the exploration that is in the folder."""
    quiet: bool = False
    """Print nothing but problems."""


def main(argv: Sequence[str]) -> int:
    """Runs the command; 0 on success. Raises UserError, and KeyboardInterrupt with a word on what is left."""
    if list(argv) == ["--list"]:
        return _list()
    if not argv:
        print(f"no recipe named: this is `jaxft explore {DEFAULT}`", flush=True)
    args = overrides.parse(Explore, argv or [DEFAULT], "jaxft explore")
    recipe_module.check(args.keys)
    from jaxft.explore.run import run

    return to_the_end(run, args)


def _list() -> int:
    from jaxft.explore.searchers import SEARCHERS

    searchers = {
        name: searcher.what + (f" ({searcher.source})" if searcher.source else "")
        for name, searcher in SEARCHERS.items()
    }
    shipped = {name: f"jaxft explore {name}" for name in recipes.names(recipes.EXPLORE)}
    for title, lines in {"searchers": searchers, "recipes": shipped}.items():
        width = max(map(len, lines))
        print(f"{title}:", *(f"  {name:<{width}}  {line}" for name, line in lines.items()), "", sep="\n")
    return 0
