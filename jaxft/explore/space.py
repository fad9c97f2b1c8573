"""The strategies that a search chooses from: the recipe as it is, those that it lists, a grid's, and some drawn at
random, each from an address of its own."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import TYPE_CHECKING, Any

from jaxft import prng
from jaxft import recipe as recipes
from jaxft.explore import draws
from jaxft.strategy import Strategy

if TYPE_CHECKING:
    from jaxft.explore.recipe import Explore, ExploreRecipe, Grid, Sample

RANGES = ("learning_rate", "weight_decay", "label_smoothing", "label_noise", "token_noise")
"""Of a sample, given as a lowest and a highest value; the others are lists."""
LISTED = 10_000
"""Strategies that may be listed, in the grid or drawn, before those that are alike are left out."""
EXPLORED = 64
"""Strategies beside the recipe as it is that an explorer takes: its model has a weight for each pair of them, and a
search seldom trains more segments than that."""
_DIGITS = 3
"""Significant digits of what is drawn."""


def strategies(recipe: ExploreRecipe) -> tuple[Strategy, ...]:
    """Each once; the first changes nothing."""
    return tuple(places(recipe))


def places(recipe: ExploreRecipe) -> dict[Strategy, str]:
    """The strategies, and where in the recipe each is."""
    explore = recipe.explore
    found = {Strategy(): "explore"}
    for number, one in enumerate(explore.strategies):
        found.setdefault(reduced(one, recipe), f"explore.strategies[{number}]")
    for one in of_grid(explore.grid):
        found.setdefault(reduced(one, recipe), "explore.grid")
    for one in drawn(recipe):
        found.setdefault(reduced(one, recipe), DRAWN)
    return found


def reduced(strategy: Strategy, recipe: ExploreRecipe) -> Strategy:
    """The strategy without what the recipe says anyway, so that those that train alike are equal."""
    says = {
        "optimizer": recipe.optim.name,
        "weight_decay": recipe.optim.weight_decay,
        "dropout": recipe.train.dropout,
        "label_smoothing": recipe.train.label_smoothing,
        "label_noise": recipe.noise.label,
        "token_noise": recipe.noise.token_replace,
        "freeze": recipe.train.freeze,
        "batch_size": recipe.train.batch_size,
    }
    return dataclasses.replace(strategy, **{name: None for name, x in says.items() if getattr(strategy, name) == x})


def count(explore: Explore) -> int:
    """Strategies that are listed, in the grid or to be drawn, those that come twice counted twice."""
    lists = [len(values) for values in dataclasses.asdict(explore.grid).values() if values]
    return len(explore.strategies) + (math.prod(lists) if lists else 0) + max(0, explore.sample.count)


DRAWN = "explore.sample"


def num_listed(recipe: ExploreRecipe) -> int:
    """Strategies before those that are drawn."""
    return sum(where != DRAWN for where in places(recipe).values())


def drawn(recipe: ExploreRecipe) -> list[Strategy]:
    """Strategies at random; the n-th is the same however many there are."""
    words = prng.path_words(prng.stream("explore", recipes.stream_seeds(recipe)["explore"]), "strategies")
    sample = recipe.explore.sample
    return [_draw(sample, draws.fold(words, number)) for number in range(sample.count)]


def _draw(sample: Sample, words: prng.Words) -> Strategy:
    chosen: dict[str, Any] = {}
    for name, values in _given(sample).items():
        own = prng.path_words(words, name)
        if name not in RANGES:
            chosen[name] = values[int(draws.integers(own, 1, len(values))[0])]
            continue
        share = float(draws.integers(own, 1, 2**32)[0]) / 2**32
        low, high = (math.log(value) if name == "learning_rate" else value for value in values)
        value = low + share * (high - low)
        chosen[name] = float(f"{math.exp(value) if name == 'learning_rate' else value:.{_DIGITS}g}")
    return Strategy(**chosen)


def extremes(sample: Sample) -> list[Strategy]:
    """Strategies that have, between them, every end of a range and every value of a list."""
    return [Strategy(**{name: value}) for name, values in _given(sample).items() for value in values]


def _given(sample: Sample) -> dict[str, tuple[Any, ...]]:
    return {name: listed for name, listed in dataclasses.asdict(sample).items() if name != "count" and listed}


def of_grid(grid: Grid) -> list[Strategy]:
    """Every combination of a grid's values; none of an empty one."""
    values = {name: listed for name, listed in dataclasses.asdict(grid).items() if listed}
    if not values:
        return []
    return [
        Strategy(**dict(zip(values, combination, strict=True))) for combination in itertools.product(*values.values())
    ]
