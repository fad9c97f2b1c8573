"""Keeping what a search learnt when a move has been played: the subtree below it becomes the tree."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from jaxft.search.store import Kept
from jaxft.search.tree import NONE, ROOT, Nodes, take
from jaxft.search.tree_search import Grown


def reroot(tree: Grown, action: Array) -> tuple[Grown, Array]:
    """(the subtrees below actions [B] of the roots, bool [B] whether there is one), in O(N log N).

    Nodes keep their order, keys and statistics. Where there is no subtree the tree is what it was; such an element, and
    one whose new root's episode is over, needs a new search. Of a store with slots, states outside the subtree go; the
    new root's state must be there: it is, unless its slot was given away, which counts as no subtree.
    """
    nodes = tree.nodes
    top = nodes.child_of(jnp.full(nodes.batch, ROOT, jnp.int32), action)
    there = (top != NONE) & _has_state(tree.kept, nodes, jnp.maximum(top, ROOT))
    top = jnp.where(there, top, ROOT)
    inside = _below(nodes, top)
    number = jnp.where(inside, jnp.cumsum(inside, axis=0) - 1, NONE).astype(jnp.int32)
    used = jnp.sum(inside, axis=0).astype(jnp.int32)
    return tree.replace(nodes=_moved(nodes, number, top), kept=_kept(tree.kept, nodes, number, top), used=used), there


def _below(nodes: Nodes, top: Array) -> Array:
    """bool [N, B]: nodes in the subtree, by pointers that double their length each round."""
    parents = nodes.parents.reshape(nodes.num_nodes, nodes.batch)
    numbers = jnp.arange(nodes.num_nodes, dtype=jnp.int32)[:, None]
    exists = (parents != NONE) | (numbers == ROOT)
    up = jnp.where(numbers == top, numbers, jnp.maximum(parents, ROOT))
    for _ in range(max(1, nodes.num_nodes.bit_length())):
        up = jnp.take_along_axis(up, up, axis=0)
    return exists & (up == top)


def _moved(nodes: Nodes, number: Array, top: Array) -> Nodes:
    """Rows of the subtree at their new places, others empty."""
    size = nodes.num_nodes * nodes.batch
    elements = jnp.arange(nodes.batch, dtype=jnp.int32)
    to = jnp.where(number == NONE, size + jnp.arange(size).reshape(number.shape), number * nodes.batch + elements)

    def move(x: Array, fill: int = 0) -> Array:
        return jnp.full_like(x, fill).at[to.reshape(-1)].set(x, mode="drop", unique_indices=True)

    def renamed(x: Array) -> Array:
        """Node numbers [R, ...] of one element each, in the new count."""
        rows = jnp.maximum(x, ROOT) * nodes.batch + jnp.tile(elements, nodes.num_nodes).reshape(-1, *[1] * (x.ndim - 1))
        return jnp.where(x == NONE, NONE, take(number.reshape(-1), rows))

    parents, actions = move(renamed(nodes.parents), NONE), move(nodes.actions, NONE)
    roots = slice(0, nodes.batch)
    fields = {name: value for name, value in vars(nodes).items() if isinstance(value, jax.Array)}
    moved = {name: move(value) for name, value in fields.items()}
    moved |= {"parents": parents.at[roots].set(NONE), "actions": actions.at[roots].set(NONE)}
    moved["children"] = move(renamed(nodes.children), NONE)
    if nodes.depths is not None:
        moved["depths"] = jnp.maximum(
            moved["depths"] - jnp.tile(take(nodes.depths, nodes.rows(top)), nodes.num_nodes), 0
        )
    return nodes.replace(**moved)


def _has_state(kept: Kept, nodes: Nodes, numbers: Array) -> Array:
    if kept.slot is None:
        return jnp.ones(numbers.shape, bool)
    return take(kept.slot, nodes.rows(numbers)) != NONE


def _kept(kept: Kept, nodes: Nodes, number: Array, top: Array) -> Kept:
    size = nodes.num_nodes * nodes.batch
    elements = jnp.arange(nodes.batch, dtype=jnp.int32)
    to = jnp.where(number == NONE, size + jnp.arange(size).reshape(number.shape), number * nodes.batch + elements)

    def move(x: Array, fill: int = 0) -> Array:
        return jnp.full_like(x, fill).at[to.reshape(-1)].set(x, mode="drop", unique_indices=True)

    if kept.slot is None:
        return kept._replace(states=jax.tree.map(move, kept.states))
    renamed = number.reshape(-1)[jnp.maximum(kept.owner, ROOT) * nodes.batch + elements]
    return kept._replace(slot=move(kept.slot, NONE), owner=jnp.where(kept.owner == NONE, NONE, renamed))
