"""Keeping what a search learnt when a move has been played: the subtree below it becomes the tree."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxft.search.grown import Grown
from jaxft.search.store import Kept
from jaxft.search.tree import NONE, ROOT, Nodes, put, take


def reroot(tree: Grown, action: Array) -> tuple[Grown, Array]:
    """(the subtrees below actions [B] of the roots, bool [B] whether there is one), in O(N log N).

    Nodes keep their order, keys and statistics. Where there is no subtree the tree is what it was; such an element, and
    one whose new root's episode is over, needs a new search. Of a store with slots, states outside the subtree go. The
    new roots' states are those that the next search's `root` brings.
    """
    nodes = tree.nodes
    top = nodes.child_of(jnp.full(nodes.batch, ROOT, jnp.int32), action)
    there = top != NONE
    top = jnp.where(there, top, ROOT)
    inside = _below(nodes, top)
    number = jnp.where(inside, jnp.cumsum(inside, axis=0) - 1, NONE).astype(jnp.int32)
    used = jnp.sum(inside, axis=0).astype(jnp.int32)
    move = _Move(number, top)
    return tree.replace(nodes=_moved(nodes, move), kept=_kept(tree.kept, move), used=used), there


def _below(nodes: Nodes, top: Array) -> Array:
    """bool [N, B]: nodes in the subtree, by pointers that double their length each round."""
    parents = nodes.parents.reshape(nodes.num_nodes, nodes.batch)
    numbers = jnp.arange(nodes.num_nodes, dtype=jnp.int32)[:, None]
    exists = (parents != NONE) | (numbers == ROOT)
    up = jnp.where(numbers == top, numbers, jnp.maximum(parents, ROOT))
    for _ in range(max(1, nodes.num_nodes.bit_length())):
        up = jnp.take_along_axis(up, up, axis=0)
    return exists & (up == top)


class _Move(NamedTuple):
    """number i32 [N, B]: of each node in the new count, NONE outside the subtree; top [B]: the new root's old one."""

    number: Array
    top: Array

    def rows(self, x: Array, fill: int = 0) -> Array:
        """Rows [R, ...] at their new places, others empty."""
        num_nodes, batch = self.number.shape
        outside = num_nodes * batch + jnp.arange(num_nodes * batch).reshape(num_nodes, batch)
        to = jnp.where(self.number == NONE, outside, self.number * batch + jnp.arange(batch))
        return put(jnp.full_like(x, fill), to.reshape(-1), x)

    def names(self, x: Array) -> Array:
        """Node numbers [..., B, ...] as rows [R, ...] or slots [S, B] have them, in the new count."""
        batch = self.number.shape[1]
        flat = x.reshape(-1, batch, *x.shape[1:]) if x.shape[0] == self.number.size else x
        elements = jnp.arange(batch).reshape(1, batch, *[1] * (flat.ndim - 2))
        found = take(self.number.reshape(-1), jnp.maximum(flat, ROOT) * batch + elements)
        return jnp.where(flat == NONE, NONE, found).reshape(x.shape)


def _moved(nodes: Nodes, move: _Move) -> Nodes:
    fields = {name: value for name, value in vars(nodes).items() if isinstance(value, jax.Array)}
    moved = {name: move.rows(value) for name, value in fields.items()}
    roots = slice(0, nodes.batch)
    moved["parents"] = move.rows(move.names(nodes.parents), NONE).at[roots].set(NONE)
    moved["actions"] = move.rows(nodes.actions, NONE).at[roots].set(NONE)
    moved["children"] = move.rows(move.names(nodes.children), NONE)
    depth = jnp.tile(take(nodes.depths, nodes.rows(move.top)), nodes.num_nodes)
    moved["depths"] = jnp.maximum(moved["depths"] - depth, 0)
    return nodes.replace(**moved)


def _kept(kept: Kept, move: _Move) -> Kept:
    if kept.slot is None:
        return kept._replace(states=jax.tree.map(move.rows, kept.states))
    batch = move.top.size
    slot, freed = move.rows(kept.slot, NONE), kept.slot[:batch]  # a root has one always
    evicted = slot[:batch] == NONE
    slot = slot.at[:batch].set(jnp.where(evicted, freed, slot[:batch]))
    owner = move.names(kept.owner)
    return kept._replace(slot=slot, owner=owner.at[slot[:batch], jnp.arange(batch)].set(ROOT))
