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
    explore = recipe.explore
    return tuple(dict.fromkeys((Strategy(), *explore.strategies, *of_grid(explore.grid))))


def of_grid(grid: Grid) -> list[Strategy]:
    """Every combination of a grid's values; none of an empty one."""
    values = {name: listed for name, listed in dataclasses.asdict(grid).items() if listed}
    if not values:
        return []
    return [
        Strategy(**dict(zip(values, combination, strict=True))) for combination in itertools.product(*values.values())
    ]
