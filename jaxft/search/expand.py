"""Expansion: what a model says of an action's outcome becomes a node."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxft.search.select import Leaf
from jaxft.search.tree import CHILD, Nodes, put, put_block, take


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
    rows, edge = nodes.rows(numbers), (nodes.rows(leaf.parent), CHILD, leaf.action)

    def write(x: Array, new: Array) -> Array:
        return put_block(x, rows[0], new) if same else put(x, rows, new, sure=True)

    return nodes.replace(
        visits=write(nodes.visits, visits),
        values=write(nodes.values, outcome.value),
        links=write(nodes.links, jnp.stack([leaf.parent, leaf.action], axis=-1)),
        facts=write(nodes.facts, jnp.stack([outcome.value, outcome.reward, outcome.discount], axis=-1)),
        counts=put(nodes.counts, edge, numbers, sure=True),
        scores=write(nodes.scores, jnp.stack([jnp.zeros_like(outcome.logits), outcome.logits], axis=1)),
        states=jax.tree.map(write, nodes.states, outcome.states),
    )


def first_visits(numbers: Array) -> Array:
    """Visits of nodes that were just made: one each."""
    return jnp.ones_like(numbers)
