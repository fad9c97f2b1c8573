"""PUCT, as in MuZero (https://arxiv.org/abs/1911.08265, appendix B): prior times exploration bonus, plus value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxft.search import keys
from jaxft.search.qtransforms import prior_of, qtransform_by_parent_and_siblings

QTransform = Callable[[Any, ArrayLike], Array]
"""(one element's tree, node number) -> [A]."""


def masked_argmax(scores: Array, invalid: Array | None) -> Array:
    """The valid action with the highest score, the first of equal ones; 0 if none is valid."""
    if invalid is not None:
        scores = jnp.where(invalid, -jnp.inf, scores)
    return jnp.argmax(scores, axis=-1).astype(jnp.int32)


def puct_parts(
    tree: Any, node: ArrayLike, c_init: ArrayLike, c_base: ArrayLike, qtransform: QTransform
) -> tuple[Array, Array]:
    """(q, P · sqrt(n) / (1 + n_a) · (c_init + log((n + c_base + 1) / c_base))), each [A], with n visits of the node."""
    visits = tree.node_visits[node]
    c = c_init + jnp.log((visits + c_base + 1.0) / c_base)
    bonus = jnp.sqrt(visits) * c * prior_of(tree, node) / (tree.children_visits[node] + 1)
    return qtransform(tree, node), bonus


def muzero_action_selection(
    rng_key: Array,
    tree: Any,
    node_index: ArrayLike,
    depth: ArrayLike,
    *,
    pb_c_init: ArrayLike = 1.25,
    pb_c_base: ArrayLike = 19652.0,
    qtransform: QTransform = qtransform_by_parent_and_siblings,
) -> Array:
    """The action with the highest PUCT score, equal ones told apart by noise below 1e-7; at depth 0 a valid one."""
    noise = keys.uniform(rng_key, tree.num_actions)
    return select(noise, tree, node_index, depth, pb_c_init=pb_c_init, pb_c_base=pb_c_base, qtransform=qtransform)


def select(
    noise: Array,
    tree: Any,
    node: ArrayLike,
    depth: ArrayLike,
    *,
    pb_c_init: ArrayLike,
    pb_c_base: ArrayLike,
    qtransform: QTransform,
) -> Array:
    """As muzero_action_selection, with its noise [A] in [0, 1) drawn already."""
    q, bonus = puct_parts(tree, node, pb_c_init, pb_c_base, qtransform)
    scores = q + bonus + 1e-7 * noise
    return masked_argmax(scores, tree.root_invalid_actions * (depth == 0))
