"""How large an exploration is: the sizes of its world, and what each searcher may spend."""

from __future__ import annotations

from typing import NamedTuple

from jaxft.explore import space
from jaxft.explore.recipe import ExploreRecipe
from jaxft.explore.world import looks_worth
from jaxft.train.setup import Setup

RUNS = 16
"""Whole runs that the budget pays for, where none is given."""


class Plan(NamedTuple):
    """`Sizes` of the world. num_listed: strategies before those that are drawn. budget: gradient steps of each
    searcher."""

    num_actions: int
    num_listed: int
    depth: int
    segment_steps: int
    score_steps: float
    budget: float


def plan(chosen: ExploreRecipe, setup: Setup) -> Plan:
    """That of an exploration of a setup's runs, whose steps are cut down to whole segments."""
    depth, look = chosen.explore.segments, looks_worth(setup)
    steps = (setup.num_steps - num_begun(setup)) // depth
    given = chosen.explore.budget
    budget = RUNS * (depth * steps + look) if given is None else given
    return Plan(len(space.strategies(chosen)), space.num_listed(chosen), depth, steps, look, budget)


def num_begun(setup: Setup) -> int:
    """Steps that are taken before the search begins."""
    return sum(one.steps for one in setup.recipe.segments)
