"""Expansion: what a model says of an action's outcome becomes a node."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxft.search.select import Leaf
from jaxft.search.tree import Nodes, put, take


class Outcome(NamedTuple):
    """Of one action of each element: the state that it leads to [B, ...], and what is known of it, [B] each."""

    states: Any
    reward: Array
    discount: Array
    logits: Array  # [B, A]
    value: Array


def states_at(nodes: Nodes, numbers: Array) -> Any:
    """States [B, ...] of one node of each element."""
    rows = nodes.rows(numbers)
    return jax.tree.map(lambda states: take(states, rows), nodes.states)


def add(nodes: Nodes, leaf: Leaf, numbers: Array, outcome: Outcome, visits: Array, where: Array | None = None) -> Nodes:
    """Writes nodes `numbers` [B], children of the leaves' parents, with so many visits; only `where`, if given."""
    rows, parents = nodes.rows(numbers, where), nodes.rows(leaf.parent, where)
    return nodes.replace(
        visits=put(nodes.visits, rows, visits),
        values=put(nodes.values, rows, outcome.value),
        raw_values=put(nodes.raw_values, rows, outcome.value),
        parents=put(nodes.parents, rows, leaf.parent),
        actions=put(nodes.actions, rows, leaf.action),
        rewards=put(nodes.rewards, rows, outcome.reward),
        discounts=put(nodes.discounts, rows, outcome.discount),
        children=put(nodes.children, (parents, leaf.action), numbers),
        logits=put(nodes.logits, rows, outcome.logits),
        states=jax.tree.map(lambda states, new: put(states, rows, new), nodes.states, outcome.states),
    )


def first_visits(numbers: Array) -> Array:
    """Visits of nodes that were just made: one each."""
    return jnp.ones_like(numbers)
