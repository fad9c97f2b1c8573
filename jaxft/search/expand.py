"""Expansion: what a model says of an action's outcome becomes a node."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
from jax import Array

from jaxft.search.select import Leaf
from jaxft.search.tree import Nodes, put, put_block, take


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


def add(nodes: Nodes, leaf: Leaf, numbers: Array, outcome: Outcome, visits: Array, *, same: bool) -> Nodes:
    """Writes nodes `numbers` [B], children of the leaves' parents, with so many visits. same: all have one number, so
    that their rows are a block."""
    rows, edge = nodes.rows(numbers), (nodes.rows(leaf.parent), leaf.action)

    def write(x: Array, new: Array) -> Array:
        return put_block(x, rows[0], new) if same else put(x, rows, new, sure=True)

    return nodes.replace(
        visits=write(nodes.visits, visits),
        values=write(nodes.values, outcome.value),
        raw_values=write(nodes.raw_values, outcome.value),
        parents=write(nodes.parents, leaf.parent),
        actions=write(nodes.actions, leaf.action),
        rewards=write(nodes.rewards, outcome.reward),
        discounts=write(nodes.discounts, outcome.discount),
        children=put(nodes.children, edge, numbers, sure=True),
        logits=write(nodes.logits, outcome.logits),
        priors=write(nodes.priors, jax.nn.softmax(outcome.logits)),
        states=jax.tree.map(write, nodes.states, outcome.states),
    )
