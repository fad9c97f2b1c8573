"""Selection: from the root down along selected actions, to an action that no node stands for yet, or to an end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxft.search import keys
from jaxft.search.tree import NONE, ROOT, Nodes

Select = Callable[[Nodes, Any, Array, Array | int], Array]
"""(nodes, what was drawn for the level, node numbers [B], depth) -> actions [B]."""
Draw = Callable[[Array], Any]
"""(keys [B]) -> what a selection needs of them; its leaves [B, ...]."""
Ends = Callable[[Nodes, Array], Array]
"""(nodes, node numbers [B]) -> bool [B]: the descent ends there."""


class Leaf(NamedTuple):
    """Where descents ended, each [B]: an action of a node, and its child, NONE if it has none yet."""

    parent: Array
    action: Array
    child: Array
    depth: Array


class _Descent(NamedTuple):
    leaf: Leaf
    keys: Array | None
    drawn: Any
    depth: Array
    goes_on: Array


def descend(
    nodes: Nodes,
    each: Array | None,
    at_root: Select,
    inside: Select,
    draw: Draw | None,
    max_depth: int,
    ends: Ends | None = None,
) -> Leaf:
    """One descent of each element. each: keys [B]; none, with no `draw`, where selections draw nothing. max_depth:
    edges from the root to a leaf, at most.

    The root is dealt with before the loop, which then turns until the last element has ended. What a level draws is
    drawn a turn before: nothing is fused across turns, so it is computed once, in code of its own.
    """

    def went(leaf: Leaf, depth: Array) -> Array:
        on = (leaf.child != NONE) & (depth < max_depth)
        return on if ends is None else on & ~ends(nodes, jnp.maximum(leaf.child, ROOT))

    def next_level(each: Array | None) -> tuple[Array | None, Any]:
        if each is None or draw is None:
            return None, jnp.zeros(nodes.batch)
        each, now = keys.split_each(each)
        return each, draw(now)

    root, one = jnp.full(nodes.batch, ROOT, jnp.int32), jnp.int32(1)
    each, drawn = next_level(each)
    action = at_root(nodes, drawn, root, 0)
    leaf = Leaf(root, action, nodes.child_of(root, action), jnp.ones_like(root))

    def turn(now: _Descent) -> _Descent:
        at = jnp.maximum(now.leaf.child, ROOT)
        action, depth = inside(nodes, now.drawn, at, now.depth), now.depth + 1
        deeper = Leaf(at, action, nodes.child_of(at, action), jnp.broadcast_to(depth, action.shape))
        leaf = Leaf(*(jnp.where(now.goes_on, new, old) for new, old in zip(deeper, now.leaf, strict=True)))
        return _Descent(leaf, *next_level(now.keys), depth, now.goes_on & went(leaf, depth))

    start = _Descent(leaf, *next_level(each), one, went(leaf, one))
    return jax.lax.while_loop(lambda now: jnp.any(now.goes_on), turn, start).leaf
