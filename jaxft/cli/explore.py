"""`jaxft explore RECIPE [--key value ...]`: searches the strategy of a run; `--list` names the searchers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import tyro

from jaxft import overrides, recipes
from jaxft import recipe as recipe_module
from jaxft.cli.train import to_the_end
from jaxft.explore.recipe import ExploreRecipe

HELP = "searches for a better schedule of strategies, and judges it on fresh seeds"


@dataclass(frozen=True)
class Explore(overrides.WithRecipe):
    """Searches strategies segment by segment, lets rivals search with the same budget, and trains what was found again
    from fresh seeds. Every key can be overridden: --explore.rivals "[beam, tpe]" --explore.budget 2000

    In the folder of an unfinished exploration it goes on. `jaxft explore --list` names the searchers.
    """

    keys: Annotated[  # type: ignore[assignment]
        ExploreRecipe, tyro.conf.arg(name=""), overrides.RECIPE_KEY
    ] = field(default_factory=ExploreRecipe)
    overwrite: bool = False
    """Replace the exploration that is in the folder."""
    quiet: bool = False
    """Print nothing but problems."""

    SHIPPED: ClassVar[str] = recipes.EXPLORE


def main(argv: Sequence[str]) -> int:
    """Runs the command; 0 on success. Raises UserError, and KeyboardInterrupt with a word on what is left."""
    if list(argv) == ["--list"]:
        return _list()
    args = overrides.parse(Explore, argv or [recipes.names(recipes.EXPLORE)[0]], "jaxft explore")
    recipe_module.check(args.keys)
    from jaxft.explore.run import run

    return to_the_end(run, args)


def _list() -> int:
    from jaxft.explore.searchers import SEARCHERS

    width = max(map(len, SEARCHERS))
    for name, searcher in SEARCHERS.items():
        source = f" ({searcher.source})" if searcher.source else ""
        print(f"  {name:<{width}}  {searcher.what}{source}")
    return 0
