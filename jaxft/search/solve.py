"""Solved subtrees: nodes whose value is exact, because every episode below them has been played to its end.

A node is solved when its episode is over, when all its valid actions lead to solved nodes, or when one of them leads to
a solved node with the greatest possible return (MCTS-Solver, https://doi.org/10.1007/978-3-540-87608-3_3). Exact means:
of the environment as its keys draw it.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxft.search import rows
from jaxft.search.tree import ROOT, Nodes, put, take


class _Climb(NamedTuple):
    nodes: Nodes
    node: Array
    goes_on: Array
    buffers: rows.Buffers


def solve(nodes: Nodes, leaf: Array, bound: float | None) -> Nodes:
    """Marks what follows from leaves [B] that are solved, up to the first node that is not."""
    edge, numbers = ("parents", "actions"), ("rewards", "discounts", "values")
    children = ("child_solved", "valid", "child_q")

    def climb(now: _Climb) -> _Climb:
        nodes, on = now.nodes, now.goes_on & (now.node != ROOT)
        reader, row = rows.Reader(now.buffers, now.node[0]), nodes.rows(now.node)
        parent, action = (jnp.where(on, reader.read(name, getattr(nodes, name), row), 0) for name in edge)
        reward, discount, value = (reader.read(name, getattr(nodes, name), row) for name in numbers)
        exact = reward + discount * value
        above, to = nodes.rows(parent), nodes.rows(parent, on)
        taken = (to, action)
        nodes = nodes.replace(child_q=put(nodes.child_q, taken, exact), child_solved=put(nodes.child_solved, taken, on))
        known, valid, q = (reader.read(name, getattr(nodes, name), above) for name in children)
        best = jnp.max(jnp.where(known & valid, q, -jnp.inf), axis=-1)
        closed = jnp.all(known | ~valid, axis=-1)
        if bound is not None:
            closed |= best >= bound
        closed &= on
        to = nodes.rows(parent, closed)
        nodes = nodes.replace(solved=put(nodes.solved, to, closed), values=put(nodes.values, to, best))
        return _Climb(nodes, parent, closed, reader.buffers)

    room = rows.empty({name: getattr(nodes, name) for name in (*edge, *numbers, *children)}, nodes.batch)
    start = _Climb(nodes, leaf, take(nodes.solved, nodes.rows(leaf)) & (leaf != ROOT), room)
    return jax.lax.while_loop(lambda now: jnp.any(now.goes_on), climb, start).nodes
