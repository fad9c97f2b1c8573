"""Backup: from a leaf up to the root, each node's value becomes the mean of the returns seen from it."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxft.search.tree import ROOT, Nodes, put, take


class _Climb(NamedTuple):
    visits: Array
    values: Array
    child_visits: Array
    child_q: Array
    node: Array
    value: Array
    returns: Array
    in_flight: Array | None


def backup(nodes: Nodes, leaf: Array, returns: Array, in_flight: Array | None = None) -> tuple[Nodes, Array | None]:
    """Adds a return, seen from the leaf [B], to every node above it; the leaf's own statistics stay as they are.

    in_flight: i32 [R], of each node's visits those whose return is still to come; this one is counted already then, and
    is taken from it. The loop turns until the last element has reached its root, and touches one row an element and
    turn.
    """
    added = 1 if in_flight is None else 0

    def climb(now: _Climb) -> _Climb:
        on = now.node != ROOT
        row = nodes.rows(now.node)
        parent, action = take(nodes.parents, row), take(nodes.actions, row)
        reward, discount = take(nodes.rewards, row), take(nodes.discounts, row)
        seen = reward + discount * now.returns
        above, to = nodes.rows(jnp.where(on, parent, ROOT)), nodes.rows(parent, on)
        action = jnp.where(on, action, 0)
        visits, flying = take(now.visits, above), now.in_flight
        count = visits
        if flying is not None:
            count = visits - take(flying, above)
            flying = put(flying, to, take(flying, above) - 1)
        value = (take(now.values, above) * count + seen) / (count + 1.0)
        return _Climb(
            visits=put(now.visits, to, visits + added),
            values=put(now.values, to, value),
            child_visits=put(now.child_visits, (to, action), take(now.child_visits, (above, action)) + added),
            child_q=put(now.child_q, (to, action), reward + discount * now.value),
            node=jnp.where(on, parent, ROOT),
            value=value,
            returns=seen,
            in_flight=flying,
        )

    value = take(nodes.values, nodes.rows(leaf))
    start = _Climb(nodes.visits, nodes.values, nodes.child_visits, nodes.child_q, leaf, value, returns, in_flight)
    end = jax.lax.while_loop(lambda now: jnp.any(now.node != ROOT), climb, start)
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
        before = take(now.child_visits, (above, action))
        q = jnp.where(before > 0, take(now.child_q, (above, action)), take(nodes.values, above))
        return _Way(
            visits=put(now.visits, to, take(now.visits, above) + 1),
            child_visits=put(now.child_visits, (to, action), before + 1),
            child_q=put(now.child_q, (to, action), q),
            in_flight=put(now.in_flight, to, take(now.in_flight, above) + 1),
            node=parent,
        )

    to, row = nodes.rows(leaf, where), nodes.rows(leaf)
    start = _Way(
        put(nodes.visits, to, take(nodes.visits, row) + 1),
        nodes.child_visits,
        nodes.child_q,
        put(in_flight, to, take(in_flight, row) + 1),
        jnp.where(where, leaf, ROOT),
    )
    end = jax.lax.while_loop(lambda now: jnp.any(now.node != ROOT), climb, start)
    nodes = nodes.replace(visits=end.visits, child_visits=end.child_visits, child_q=end.child_q)
    return nodes, end.in_flight
