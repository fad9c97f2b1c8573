"""Where states are kept while a search runs: all of them, or as many as there are slots.

A state is needed when a new action is tried in it. With `Slots`, one that was evicted is computed again: from its
nearest ancestor that is still kept, by the same actions and keys, hence to the same bits. Nodes whose episode is over,
or that `max_depth` cuts, are never expanded and take no slot.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxft.search.tree import NONE, ROOT, Nodes, put, take


@dataclass(frozen=True)
class Part:
    """What of a state is kept: `take(state)`, floats as `dtype`; `join(root state, part)` makes it whole again.

    For states that share most of their numbers with the root's, such as a network with frozen layers. A dtype shorter
    than the state's own changes what is computed from a kept state.
    """

    take: Callable[[Any], Any]
    join: Callable[[Any, Any], Any]
    dtype: DTypeLike | None = None


@dataclass(frozen=True)
class Full:
    """Keeps the state of every node."""

    part: Part | None = None


@dataclass(frozen=True)
class Slots:
    """Keeps `count` states an element, the root's among them. A new one takes the place of a state whose actions have
    all been tried, else of the one used longest ago."""

    count: int
    part: Part | None = None

    def __post_init__(self) -> None:
        if self.count < 2:
            raise ValueError(f"Slots: expected at least 2, for the root and one more, got {self.count}")


class Kept(NamedTuple):
    """Contents of a store. root: whole states [B, ...], none where every state is kept whole.

    Only for Slots: slot i32 [R] of a node, or NONE; owner, used i32 [S, B]: node in a slot, and when it was used last.
    """

    states: Any  # Full: [R, ...]; Slots: [S·B, ...]
    root: Any
    slot: Any = None
    owner: Any = None
    used: Any = None


def start(store: Full | Slots, state: Any, batch: int, num_nodes: int) -> Kept:
    """A store that holds the roots' states."""
    size = num_nodes if isinstance(store, Full) else min(store.count, num_nodes)
    kept = _cut(store.part, state)
    states = jax.tree.map(lambda x: jnp.zeros((size * batch, *x.shape[1:]), x.dtype).at[:batch].set(x), kept)
    root = None if store.part is None else state
    if isinstance(store, Full):
        return Kept(states, root)
    nobody = jnp.full((size, batch), NONE, jnp.int32).at[0].set(ROOT)
    slot = jnp.full(num_nodes * batch, NONE, jnp.int32).at[:batch].set(0)
    return Kept(states, root, slot, nobody, jnp.zeros((size, batch), jnp.int32))


def with_roots(store: Full | Slots, kept: Kept, state: Any) -> Kept:
    """The roots' states [B, ...] in the places that they have."""
    batch = jax.tree.leaves(state)[0].shape[0]
    rows = jnp.arange(batch) if kept.slot is None else kept.slot[:batch] * batch + jnp.arange(batch)
    states = jax.tree.map(lambda old, x: put(old, rows, x, sure=True), kept.states, _cut(store.part, state))
    return kept._replace(states=states, root=None if store.part is None else state)


def holds(kept: Kept, nodes: Nodes, numbers: Array) -> Array:
    """Whether a node's state [B] is there."""
    if kept.slot is None:
        return jnp.ones(numbers.shape, bool)
    return take(kept.slot, nodes.rows(numbers)) != NONE


def read(store: Full | Slots, kept: Kept, nodes: Nodes, numbers: Array) -> Any:
    """The states [B, ...] of nodes that it holds."""
    if kept.slot is None:
        rows = nodes.rows(numbers)
    else:
        rows = nodes.rows(jnp.maximum(take(kept.slot, nodes.rows(numbers)), 0))
    found = jax.tree.map(lambda states: take(states, rows), kept.states)
    return found if store.part is None else store.part.join(kept.root, _as(found, store.part.take(kept.root)))


def write(store: Full | Slots, kept: Kept, nodes: Nodes, numbers: Array, state: Any, where: Array, now: Array) -> Kept:
    """Keeps the states of nodes [B], where told to; `now` counts the writes."""
    new = _cut(store.part, state)
    if kept.slot is None:
        rows = nodes.rows(numbers, where)
        return kept._replace(states=jax.tree.map(lambda old, x: put(old, rows, x), kept.states, new))
    place = jnp.argmin(_worth(kept, nodes), axis=0).astype(jnp.int32)
    elements = jnp.arange(nodes.batch)
    evicted = kept.owner[place, elements]
    slot = put(kept.slot, nodes.rows(evicted, where & (evicted != NONE)), jnp.full_like(place, NONE))
    slot = put(slot, nodes.rows(numbers, where), place)
    at = jnp.where(where, place, kept.owner.shape[0])
    rows = place * nodes.batch + elements
    rows = jnp.where(where, rows, kept.owner.size + elements)
    return kept._replace(
        states=jax.tree.map(lambda old, x: put(old, rows, x), kept.states, new),
        slot=slot,
        owner=put(kept.owner, (at, elements), numbers),
        used=put(kept.used, (at, elements), jnp.broadcast_to(now, numbers.shape)),
    )


def touch(kept: Kept, nodes: Nodes, numbers: Array, where: Array, now: Array) -> Kept:
    """Notes that states were used."""
    if kept.slot is None:
        return kept
    slot = take(kept.slot, nodes.rows(numbers))
    at = jnp.where(where & (slot != NONE), slot, kept.used.shape[0])
    return kept._replace(used=put(kept.used, (at, jnp.arange(nodes.batch)), jnp.broadcast_to(now, numbers.shape)))


def _worth(kept: Kept, nodes: Nodes) -> Array:
    """[S, B]: the slot with the least is given away first: empty ones, those that are not needed, those not used."""
    rows = jnp.maximum(kept.owner, ROOT) * nodes.batch + jnp.arange(nodes.batch)
    tried = jnp.all((take(nodes.children, rows) != NONE) | ~take(nodes.valid, rows), axis=-1)
    worth = kept.used + 2**20 * (~tried).astype(jnp.int32)
    worth = jnp.where(kept.owner == NONE, -1, worth)
    return jnp.where(kept.owner == ROOT, 2**30, worth)


def _cut(part: Part | None, state: Any) -> Any:
    if part is None:
        return state

    def shorten(x: Array) -> Array:
        return x.astype(part.dtype) if part.dtype is not None and jnp.issubdtype(x.dtype, jnp.floating) else x

    return jax.tree.map(shorten, part.take(state))


def _as(found: Any, like: Any) -> Any:
    return jax.tree.map(lambda x, one: x.astype(one.dtype), found, like)
