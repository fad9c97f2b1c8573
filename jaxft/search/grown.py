"""A search that can go on: its tree, the states that it keeps, and what it has cost."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from jaxft.search import keys
from jaxft.search import store as stores
from jaxft.search.env import Root
from jaxft.search.store import Full, Kept, Slots
from jaxft.search.tree import NONE, Nodes, empty

NOISE = 0xFFFFFFFF
"""Number that a key is folded with for what is drawn at its own node; no action has it."""
TIE = 1e-5
"""Greatest noise of a prior logit: equal ones are told apart, in another order at each node."""


class Cost(struct.PyTreeNode):
    """What a search has cost so far, i32 [B] each."""

    expansions: Array  # actions evaluated, each for the first time
    replays: Array  # evaluated once more, to have an evicted state again
    revisits: Array  # simulations that ended at a node that was there
    refused: Array  # simulations that found no room for a node


class Grown(struct.PyTreeNode):
    """A search that can go on. used: nodes in use i32 [B]."""

    nodes: Nodes
    kept: Kept
    used: Array
    cost: Cost


def planted(each: Array, root: Root, logits: Array, valid: Array, store: Full | Slots, room: int) -> Grown:
    """A tree of roots alone: keys `each` [B], logits as the policy takes them, room for so many nodes."""
    batch, actions = logits.shape
    nodes = empty(logits, root.value, (), room)
    size, words = room * batch, jax.random.key_data(each)
    nodes = nodes.replace(
        done=jnp.zeros(size, bool),
        valid=jnp.zeros((size, actions), bool).at[:batch].set(valid),
        keys=jnp.zeros((size, *words.shape[1:]), words.dtype).at[:batch].set(words),
        depths=jnp.zeros(size, jnp.int32),
        solved=jnp.zeros(size, bool),
        child_solved=jnp.zeros((size, actions), bool),
    )
    zero = jnp.zeros(batch, jnp.int32)
    return Grown(nodes, stores.start(store, root.state, batch, room), zero + 1, Cost(zero, zero, zero, zero))


def with_room(tree: Grown, root: Root, logits: Array, room: int, store: Full | Slots) -> Grown:
    """The tree with the roots as this search is given them, and room for more nodes; nothing moves."""
    nodes, batch = tree.nodes, tree.nodes.batch
    more = max(0, room - nodes.num_nodes)
    old = nodes.num_nodes * batch

    def longer(x: Array, fill: Any) -> Array:
        return jnp.concatenate([x, jnp.full((more * batch, *x.shape[1:]), fill, x.dtype)])

    if more:
        fills = {"parents": NONE, "actions": NONE, "children": NONE}
        fields = {name: value for name, value in vars(nodes).items() if isinstance(value, jax.Array)}
        nodes = nodes.replace(**{name: longer(value, fills.get(name, 0)) for name, value in fields.items()})
    kept = tree.kept
    if more and isinstance(store, Full):
        kept = kept._replace(states=jax.tree.map(lambda x: longer(x[:old], 0), kept.states))
    elif more and kept.slot is not None:
        kept = kept._replace(slot=longer(kept.slot, NONE))
    at_root = {"logits": logits, "priors": jax.nn.softmax(logits)}
    nodes = nodes.replace(**{name: getattr(nodes, name).at[:batch].set(x) for name, x in at_root.items()})
    return tree.replace(nodes=nodes, kept=stores.with_roots(store, kept, root.state))


def keys_of_roots(key: Array, batch: int) -> Array:
    """Keys of the roots."""
    return keys.fold_in_each(jnp.broadcast_to(key, (batch,)), jnp.arange(batch))


def noise(each: Array, logits: Array, scale: float) -> Array:
    """What tells equal logits [B, A] of nodes with these keys apart: numbers below `scale`; at 0 nothing does."""
    if not scale:
        return jnp.zeros_like(logits)
    own = keys.fold_in_each(each, jnp.full(each.shape, NOISE, jnp.uint32))
    return (scale * jax.vmap(partial(keys.uniform, count=logits.shape[-1]))(own)).astype(logits.dtype)
