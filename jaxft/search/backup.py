"""Backup: from a leaf up to the root, each node's value becomes the mean of the returns seen from it."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxft.search import rows
from jaxft.search.tree import ROOT, Nodes, add, put, take


class _Climb(NamedTuple):
    left: Array
    visits: Array
    values: Array
    child_visits: Array
    child_q: Array
    node: Array
    value: Array
    returns: Array
    in_flight: Array | None
    buffers: rows.Buffers


def backup(
    nodes: Nodes, leaf: Array, deepest: Array, value: Array, returns: Array, in_flight: Array | None = None
) -> tuple[Nodes, Array | None]:
    """Adds a return, seen from the leaf [B], to every node above it; the leaf's own statistics stay as they are.

    deepest: the greatest depth of a leaf. value: of the leaf now. in_flight: i32 [R], of each node's visits those whose
    return is still to come; this one is counted already then, and is taken from it. The loop turns until the last
    element has reached its root, and touches one row an element and turn. Counts are read after they were written: the
    other way round XLA copies the array.
    """

    edges = ("parents", "actions", "rewards", "discounts")
    one = jnp.minimum(nodes.visits[: nodes.batch], 1)  # that the compiler cannot know, or each turn would make it anew
    alone = nodes.batch == 1  # then the loop turns only while there is something to write

    def climb(now: _Climb) -> _Climb:
        on = now.node != ROOT
        reader, row = rows.Reader(now.buffers, now.node[0]), nodes.rows(now.node)
        parent, action, reward, discount = (reader.read(name, getattr(nodes, name), row) for name in edges)
        seen = reward + discount * now.returns
        above, to = nodes.rows(jnp.where(on, parent, ROOT)), nodes.rows(parent, on)
        edge = (to, jnp.where(on, action, 0))
        visits, child_visits, flying = now.visits, now.child_visits, now.in_flight
        if flying is None:
            visits, child_visits = add(visits, to, one, sure=alone), add(child_visits, edge, one, sure=alone)
            before = reader.read("visits", visits, above) - 1
        else:
            flying = add(flying, to, -1, sure=alone)
            before = reader.read("visits", visits, above) - reader.read("in_flight", flying, above) - 1
        value = (reader.read("values", now.values, above) * before + seen) / (before + 1.0)
        return _Climb(
            left=now.left - 1,
            visits=visits,
            values=put(now.values, to, value, sure=alone),
            child_visits=child_visits,
            child_q=put(now.child_q, edge, reward + discount * now.value, sure=alone),
            node=jnp.where(on, parent, ROOT),
            value=value,
            returns=seen,
            in_flight=flying,
            buffers=reader.buffers,
        )

    read = {name: getattr(nodes, name) for name in (*edges, "visits", "values")}
    room = rows.empty(read if in_flight is None else read | {"in_flight": in_flight}, nodes.batch)
    statistics = nodes.visits, nodes.values, nodes.child_visits, nodes.child_q
    start = _Climb(deepest, *statistics, leaf, value, returns, in_flight, room)
    end = jax.lax.while_loop(lambda now: now.left > 0, climb, start)
    nodes = nodes.replace(visits=end.visits, values=end.values, child_visits=end.child_visits, child_q=end.child_q)
    return nodes, end.in_flight


class _Way(NamedTuple):
    visits: Array
    child_visits: Array
    child_q: Array
    in_flight: Array
    node: Array


def take_off(nodes: Nodes, leaf: Array, where: Array, in_flight: Array) -> tuple[Nodes, Array]:
    """Counts a visit from the root down to the leaf [B] whose return is still to come; `backup` then takes it in.

    Until then a child that was never evaluated counts as good as its parent.
    """

    def climb(now: _Way) -> _Way:
        on = now.node != ROOT
        row = nodes.rows(now.node)
        parent = jnp.where(on, take(nodes.parents, row), ROOT)
        action = jnp.where(on, take(nodes.actions, row), 0)
        above, to = nodes.rows(parent), nodes.rows(parent, on)
        child_visits = add(now.child_visits, (to, action), 1)
        first = take(child_visits, (above, action)) == 1
        q = jnp.where(first, take(nodes.values, above), take(now.child_q, (above, action)))
        return _Way(
            visits=add(now.visits, to, 1),
            child_visits=child_visits,
            child_q=put(now.child_q, (to, action), q),
            in_flight=add(now.in_flight, to, 1),
            node=parent,
        )

    to = nodes.rows(leaf, where)
    node = jnp.where(where, leaf, ROOT)
    start = _Way(add(nodes.visits, to, 1), nodes.child_visits, nodes.child_q, add(in_flight, to, 1), node)
    end = jax.lax.while_loop(lambda now: jnp.any(now.node != ROOT), climb, start)
    nodes = nodes.replace(visits=end.visits, child_visits=end.child_visits, child_q=end.child_q)
    return nodes, end.in_flight
