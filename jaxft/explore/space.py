"""The strategies that a search chooses from: the recipe as it is, those that it lists, and a grid's."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING

from jaxft.strategy import Strategy

if TYPE_CHECKING:
    from jaxft.explore.recipe import ExploreRecipe, Grid


def strategies(recipe: ExploreRecipe) -> tuple[Strategy, ...]:
    """Each once; the first changes nothing."""
    return tuple(places(recipe))


def places(recipe: ExploreRecipe) -> dict[Strategy, str]:
    """The strategies, and where in the recipe each is."""
    explore = recipe.explore
    found = {Strategy(): "explore"}
    for number, one in enumerate(explore.strategies):
        found.setdefault(one, f"explore.strategies[{number}]")
    for one in of_grid(explore.grid):
        found.setdefault(one, "explore.grid")
    return found


def of_grid(grid: Grid) -> list[Strategy]:
    """Every combination of a grid's values; none of an empty one."""
    values = {name: listed for name, listed in dataclasses.asdict(grid).items() if listed}
    if not values:
        return []
    return [
        Strategy(**dict(zip(values, combination, strict=True))) for combination in itertools.product(*values.values())
    ]
