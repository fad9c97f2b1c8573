"""Selection: from the root down along selected actions, to an action that no node stands for yet, or to an end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxft.search import rows, tree
from jaxft.search.draws import Draws
from jaxft.search.tree import NONE, ROOT, Here, Nodes

Select = Callable[[Here, Any, Array | int], Array]
"""(a node of each element, what was drawn for the level, depth) -> actions [B]."""
Ends = Callable[[Here], Array]
"""A node of each element -> bool [B]: the descent ends there."""


class Leaf(NamedTuple):
    """Where descents ended, each [B]: an action of a node, and its child, NONE if it has none yet, at what depth.
    deepest: the greatest depth of all."""

    parent: Array
    action: Array
    child: Array
    depth: Array
    deepest: Array


class _Descent(NamedTuple):
    edge: Array  # [B] parent · A + action: fewer arrays are fewer instructions a turn
    child: Array  # [B]
    ended: Array  # [B] the depth of that
    level: Any  # what was drawn for it
    depth: Array  # of the loop
    goes_on: Array
    buffers: rows.Buffers


def descend(
    nodes: Nodes,
    level: Any,
    at_root: Select,
    inside: Select,
    draws: Draws | None,
    max_depth: int,
    ends: Ends | None = None,
) -> Leaf:
    """One descent of each element. level: the root's, of `draws`; neither where selections draw nothing. max_depth:
    edges from the root to a leaf, at most.

    The root is dealt with before the loop, which then turns until the last element has ended. What a level draws is
    drawn a turn before, but only when the level before has chosen.
    """
    fields, some = tree.fields(nodes), nodes.visits[0]

    def next_level(level: Any, after: Array) -> Any:
        return None if draws is None else draws.following(level, after)

    def chosen(select: Select, here: Here, level: Any, depth: Array | int) -> tuple[Array, Array]:
        drawn = jnp.zeros(nodes.batch) if draws is None else draws.drawn(level)
        action = select(here, drawn, depth)
        return here.node * nodes.num_actions + action, nodes.child_at(here, action)

    def arrived(child: Array, depth: Array, buffers: rows.Buffers) -> tuple[Array, rows.Buffers]:
        """Whether descents go on, and the rows of the nodes that they have come to."""
        reader, at = rows.Reader(buffers, some), jnp.maximum(child, ROOT)
        here = Here(at, {name: reader.read(name, fields[name], nodes.rows(at)) for name in buffers})
        on = (child != NONE) & (depth < max_depth)
        return on if ends is None else on & ~ends(here), reader.buffers

    def turn(now: _Descent) -> _Descent:
        here, depth = Here(jnp.maximum(now.child, ROOT), rows.last(now.buffers)), now.depth + 1
        edge, child = chosen(inside, here, now.level, now.depth)
        edge, child = jnp.where(now.goes_on, edge, now.edge), jnp.where(now.goes_on, child, now.child)
        goes_on, buffers = arrived(child, depth, now.buffers)
        ended = jnp.where(now.goes_on, depth, now.ended)
        return _Descent(edge, child, ended, next_level(now.level, edge[0]), depth, now.goes_on & goes_on, buffers)

    root = Here(jnp.full(nodes.batch, ROOT, jnp.int32), {name: x[: nodes.batch] for name, x in fields.items()})
    (edge, child), one = chosen(at_root, root, level, 0), jnp.int32(1)
    onwards = arrived(child, one, rows.empty(fields, nodes.batch))
    start = _Descent(edge, child, jnp.ones_like(child), next_level(level, some), one, *onwards)
    end = jax.lax.while_loop(lambda now: jnp.any(now.goes_on), turn, start)
    return Leaf(*jnp.divmod(end.edge, nodes.num_actions), end.child, end.ended, end.depth)
