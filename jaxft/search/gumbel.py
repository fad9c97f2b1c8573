"""Gumbel MuZero (https://openreview.net/forum?id=bERaNdoegnO): sequential halving at the root, and inside the action
whose share of the visits is furthest below its improved probability."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array
from jax.typing import ArrayLike

from jaxft.search.halving import considered_visits
from jaxft.search.puct import QTransform, masked_argmax
from jaxft.search.qtransforms import qtransform_completed_by_mix_value

_LOW = -1e9
"""Least score of an action: an only one is selected however bad it is."""


class GumbelMuZeroExtraData(struct.PyTreeNode):
    """What the search keeps for its root: root_gumbel [B, A]."""

    root_gumbel: Array


def halving_scores(considered: ArrayLike, gumbel: Array, logits: Array, q: Array, visits: Array) -> Array:
    """gumbel + logits + q of the actions with `considered` visits, -inf for others; [..., A]."""
    logits = logits - jnp.max(logits, keepdims=True, axis=-1)
    others = jnp.where(visits == considered, 0, -jnp.inf)
    return jnp.maximum(_LOW, gumbel + logits + q) + others


def gumbel_muzero_root_action_selection(
    rng_key: Array | None,
    tree: Any,
    node_index: ArrayLike,
    *,
    num_simulations: int,
    max_num_considered_actions: int,
    qtransform: QTransform = qtransform_completed_by_mix_value,
) -> Array:
    """The best by gumbel + logits + q of the actions whose turn it is. rng_key is not used."""
    visits, logits = tree.children_visits[node_index], tree.children_prior_logits[node_index]
    q = qtransform(tree, node_index)
    table = jnp.asarray(considered_visits(max_num_considered_actions, num_simulations))
    num_valid = jnp.sum(1 - tree.root_invalid_actions, axis=-1).astype(jnp.int32)
    considered = table[jnp.minimum(max_num_considered_actions, num_valid), jnp.sum(visits, -1)]
    scores = halving_scores(considered, tree.extra_data.root_gumbel, logits, q, visits)
    return masked_argmax(scores, tree.root_invalid_actions)


def gumbel_muzero_interior_action_selection(
    rng_key: Array | None,
    tree: Any,
    node_index: ArrayLike,
    depth: ArrayLike,
    *,
    qtransform: QTransform = qtransform_completed_by_mix_value,
) -> Array:
    """The action with the greatest softmax(logits + q) - n_a / (1 + n). rng_key and depth are not used."""
    return jnp.argmax(interior_scores(tree, node_index, qtransform), axis=-1).astype(jnp.int32)


def interior_scores(tree: Any, node: ArrayLike, qtransform: QTransform) -> Array:
    """[A]: visiting the highest one each time makes visits follow softmax(logits + q)."""
    visits = tree.children_visits[node]
    improved = jax.nn.softmax(tree.children_prior_logits[node] + qtransform(tree, node))
    return improved - visits / (1 + jnp.sum(visits, keepdims=True, axis=-1))
