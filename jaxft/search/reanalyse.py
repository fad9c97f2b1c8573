"""Reanalysing a tree: when the model behind its values has learnt more, every node is valued anew.

MuZero Reanalyse (https://arxiv.org/abs/2104.06294) does it for stored games; here it is the tree of the search itself,
between two simulations. The backup is a maximum, as for a single agent in a deterministic world
(https://arxiv.org/abs/1911.08265, appendix B, leaves it to the mean): the value of a node is that of its best action,
tried or not.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from jaxft.search.tree import NONE, ROOT, Nodes, put, take


def reanalyse(nodes: Nodes, expected: Array, *, open_only: bool = False) -> Nodes:
    """expected: f [R, A], the return of each action of each node, by the model; of actions that were tried it is not
    read. They become the nodes' logits, as the policy `Expected` reads them.

    open_only: values are of what is not solved yet, for a search that has seen the rest and only wants better; of a
    node that has nothing open, its exact value stays.
    """
    nodes = nodes.replace(logits=expected)
    batch = nodes.batch

    def up(turn: Array, nodes: Nodes) -> Nodes:
        number = nodes.num_nodes - 1 - turn  # children have greater numbers
        rows = number * batch + jnp.arange(batch)
        tried = take(nodes.children, rows) != NONE
        q = jnp.where(tried, take(nodes.child_q, rows), take(nodes.logits, rows))
        counts = take(nodes.valid, rows) & ~(take(nodes.child_solved, rows) & open_only)
        best = jnp.max(jnp.where(counts, q, -jnp.inf), axis=-1)
        exact = take(nodes.solved, rows) | ~jnp.any(counts, axis=-1)
        value = jnp.where(exact, take(nodes.values, rows), best)
        parent = take(nodes.parents, rows)
        to = nodes.rows(jnp.maximum(parent, ROOT), parent != NONE)
        seen = take(nodes.rewards, rows) + take(nodes.discounts, rows) * value
        q_above = put(nodes.child_q, (to, jnp.maximum(take(nodes.actions, rows), 0)), seen)
        return nodes.replace(values=put(nodes.values, rows, value, sure=True), child_q=q_above)

    return jax.lax.fori_loop(0, nodes.num_nodes, up, nodes)
