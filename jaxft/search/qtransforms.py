"""From the Q-values of a node's actions to scores that can be added to a prior's: functions of (tree, node) -> [A].

`tree` is one search's tree (tree.View, or an unbatched mctx.Tree); `node` is a node's number. Names and results are
mctx's. MuZero: https://arxiv.org/abs/1911.08265, appendix B; Gumbel: https://openreview.net/forum?id=bERaNdoegnO,
appendix D.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike


def prior_of(tree: Any, node_index: ArrayLike) -> Array:
    """Softmax of the node's prior logits: as the search has kept it, or computed."""
    kept = getattr(tree, "children_priors", None)
    return jax.nn.softmax(tree.children_prior_logits[node_index]) if kept is None else kept[node_index]


def qtransform_by_min_max(tree: Any, node_index: ArrayLike, *, min_value: ArrayLike, max_value: ArrayLike) -> Array:
    """(q - min) / (max - min); 0 for actions that were not visited."""
    q = jnp.where(tree.children_visits[node_index] > 0, tree.qvalues(node_index), min_value)
    return (q - min_value) / (max_value - min_value)  # type: ignore[operator]


def qtransform_by_parent_and_siblings(tree: Any, node_index: ArrayLike, *, epsilon: ArrayLike = 1e-8) -> Array:
    """Q-values scaled to [0, 1] by the least and the greatest of them and of the node's value; 0 if not visited."""
    q, visited = tree.qvalues(node_index), tree.children_visits[node_index] > 0
    value = tree.node_values[node_index]
    known = jnp.where(visited, q, value)
    least = jnp.minimum(value, jnp.min(known, axis=-1))
    greatest = jnp.maximum(value, jnp.max(known, axis=-1))
    return (jnp.where(visited, q, least) - least) / jnp.maximum(greatest - least, epsilon)


def qtransform_completed_by_mix_value(
    tree: Any,
    node_index: ArrayLike,
    *,
    value_scale: ArrayLike = 0.1,
    maxvisit_init: ArrayLike = 50.0,
    rescale_values: bool = True,
    use_mixed_value: bool = True,
    epsilon: ArrayLike = 1e-8,
) -> Array:
    """Q-values, with an estimate of the node's value where there is none, times (maxvisit_init + most visits) · scale.

    rescale_values: first to [0, 1] by their least and greatest. use_mixed_value: the estimate mixes the raw value with
    the visited actions' Q-values, weighted by their prior; else it is the raw value.
    """
    q, visits = tree.qvalues(node_index), tree.children_visits[node_index]
    value, prior = tree.raw_values[node_index], prior_of(tree, node_index)
    if use_mixed_value:
        value = _mixed(value, q, visits, prior)
    q = jnp.where(visits > 0, q, value)
    if rescale_values:
        least, greatest = jnp.min(q, axis=-1, keepdims=True), jnp.max(q, axis=-1, keepdims=True)
        q = (q - least) / jnp.maximum(greatest - least, epsilon)
    scale: Any = (maxvisit_init + jnp.max(visits, axis=-1)) * value_scale
    return scale * q


def _mixed(raw_value: Array, q: Array, visits: Array, prior: Array) -> Array:
    """(raw + visits · mean of q by prior over the visited) / (1 + visits)."""
    visited, total = visits > 0, jnp.sum(visits, axis=-1)
    prior = jnp.maximum(jnp.finfo(prior.dtype).tiny, prior)  # a visited action may have probability 0
    mass = jnp.sum(jnp.where(visited, prior, 0.0), axis=-1)
    mean = jnp.sum(jnp.where(visited, prior * q / jnp.where(visited, mass, 1.0), 0.0), axis=-1)
    return (raw_value + total * mean) / (total + 1)
