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

from jaxft.search.tree import ROOT, Nodes, put, take


class _Climb(NamedTuple):
    nodes: Nodes
    node: Array
    goes_on: Array


def solve(nodes: Nodes, leaf: Array, bound: float | None) -> Nodes:
    """Marks what follows from leaves [B] that are solved, up to the first node that is not."""

    def climb(now: _Climb) -> _Climb:
        nodes, on = now.nodes, now.goes_on & (now.node != ROOT)
        row = nodes.rows(now.node)
        parent, action = jnp.where(on, take(nodes.parents, row), ROOT), jnp.where(on, take(nodes.actions, row), 0)
        exact = take(nodes.rewards, row) + take(nodes.discounts, row) * take(nodes.values, row)
        above, to = nodes.rows(parent), nodes.rows(parent, on)
        taken = (to, action)
        nodes = nodes.replace(child_q=put(nodes.child_q, taken, exact), child_solved=put(nodes.child_solved, taken, on))
        known, valid = take(nodes.child_solved, above), take(nodes.valid, above)
        best = jnp.max(jnp.where(known & valid, take(nodes.child_q, above), -jnp.inf), axis=-1)
        closed = jnp.all(known | ~valid, axis=-1)
        if bound is not None:
            closed |= best >= bound
        closed &= on
        to = nodes.rows(parent, closed)
        nodes = nodes.replace(solved=put(nodes.solved, to, closed), values=put(nodes.values, to, best))
        return _Climb(nodes, parent, closed)

    start = _Climb(nodes, leaf, take(nodes.solved, nodes.rows(leaf)) & (leaf != ROOT))
    return jax.lax.while_loop(lambda now: jnp.any(now.goes_on), climb, start).nodes
