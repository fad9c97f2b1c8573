"""Backup: from a leaf up to the root, each node's value becomes the mean of the returns seen from it."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxft.search.tree import ROOT, VISITS, Nodes, Q, add, put, take


class _Climb(NamedTuple):
    visits: Array
    values: Array
    counts: Array
    scores: Array
    node: Array
    value: Array
    returns: Array
    in_flight: Array | None


def backup(
    nodes: Nodes, leaf: Array, value: Array, returns: Array, in_flight: Array | None = None
) -> tuple[Nodes, Array | None]:
    """Adds a return, seen from the leaf [B], to every node above it; the leaf's own statistics stay as they are.

    value: of the leaf now. in_flight: i32 [R], of each node's visits those whose return is still to come; this one is
    counted already then, and is taken from it. The loop turns until the last element has reached its root, and touches
    one row an element and turn. Counts are read after they were written: the other way round XLA copies the array.
    """

    alone = nodes.batch == 1  # then the loop turns only while there is something to write

    def climb(now: _Climb) -> _Climb:
        on = now.node != ROOT
        row = nodes.rows(now.node)
        parent, action = jnp.unstack(take(nodes.links, row), axis=-1)
        _, reward, discount = jnp.unstack(take(nodes.facts, row), axis=-1)
        seen = reward + discount * now.returns
        above, to = nodes.rows(jnp.where(on, parent, ROOT)), nodes.rows(parent, on)
        action = jnp.where(on, action, 0)
        visits, counts, flying = now.visits, now.counts, now.in_flight
        if flying is None:
            visits, counts = add(visits, to, 1, sure=alone), add(counts, (to, VISITS, action), 1, sure=alone)
            before = take(visits, above) - 1
        else:
            flying = add(flying, to, -1, sure=alone)
            before = take(visits, above) - take(flying, above) - 1
        value = (take(now.values, above) * before + seen) / (before + 1.0)
        return _Climb(
            visits=visits,
            values=put(now.values, to, value, sure=alone),
            counts=counts,
            scores=put(now.scores, (to, Q, action), reward + discount * now.value, sure=alone),
            node=jnp.where(on, parent, ROOT),
            value=value,
            returns=seen,
            in_flight=flying,
        )

    start = _Climb(nodes.visits, nodes.values, nodes.counts, nodes.scores, leaf, value, returns, in_flight)
    end = jax.lax.while_loop(lambda now: jnp.any(now.node != ROOT), climb, start)
    nodes = nodes.replace(visits=end.visits, values=end.values, counts=end.counts, scores=end.scores)
    return nodes, end.in_flight


class _Way(NamedTuple):
    visits: Array
    counts: Array
    scores: Array
    in_flight: Array
    node: Array


def take_off(nodes: Nodes, leaf: Array, where: Array, in_flight: Array) -> tuple[Nodes, Array]:
    """Counts a visit from the root down to the leaf [B] whose return is still to come; `backup` then takes it in.

    Until then a child that was never evaluated counts as good as its parent.
    """

    def climb(now: _Way) -> _Way:
        on = now.node != ROOT
        parent, action = jnp.unstack(take(nodes.links, nodes.rows(now.node)), axis=-1)
        parent, action = jnp.where(on, parent, ROOT), jnp.where(on, action, 0)
        above, to = nodes.rows(parent), nodes.rows(parent, on)
        counts = add(now.counts, (to, VISITS, action), 1)
        first = take(counts, (above, VISITS, action)) == 1
        value = take(nodes.values, above).astype(now.scores.dtype)
        q = jnp.where(first, value, take(now.scores, (above, Q, action)))
        return _Way(
            visits=add(now.visits, to, 1),
            counts=counts,
            scores=put(now.scores, (to, Q, action), q),
            in_flight=add(now.in_flight, to, 1),
            node=parent,
        )

    to = nodes.rows(leaf, where)
    node = jnp.where(where, leaf, ROOT)
    start = _Way(add(nodes.visits, to, 1), nodes.counts, nodes.scores, add(in_flight, to, 1), node)
    end = jax.lax.while_loop(lambda now: jnp.any(now.node != ROOT), climb, start)
    return nodes.replace(visits=end.visits, counts=end.counts, scores=end.scores), end.in_flight
