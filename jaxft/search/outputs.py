"""What mctx's functions take and give: its types, with their names and fields."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from jaxft.search.tree import NONE, ROOT

RecurrentState = Any
RootActionSelectionFn = Callable[[Array, Any, Any], Array]
InteriorActionSelectionFn = Callable[[Array, Any, Any, Any], Array]
LoopFn = Callable[[int, int, Callable[[Any, Any], Any], Any], Any]


class RootFnOutput(struct.PyTreeNode):
    """prior_logits [B, A], value [B], embedding [B, ...]: of the state that the search starts from."""

    prior_logits: Array
    value: Array
    embedding: RecurrentState


class RecurrentFnOutput(struct.PyTreeNode):
    """reward, discount, value [B] and prior_logits [B, A]: of an action, and of the state after it."""

    reward: Array
    discount: Array
    prior_logits: Array
    value: Array


class DecisionRecurrentFnOutput(struct.PyTreeNode):
    """chance_logits [B, C], afterstate_value [B]: of an action before chance has its say."""

    chance_logits: Array
    afterstate_value: Array


class ChanceRecurrentFnOutput(struct.PyTreeNode):
    """action_logits [B, A], value, reward, discount [B]: of the state after a chance outcome."""

    action_logits: Array
    value: Array
    reward: Array
    discount: Array


class SearchSummary(struct.PyTreeNode):
    """Of the roots: visit_counts, visit_probs, qvalues [B, A], value [B]."""

    visit_counts: Array
    visit_probs: Array
    value: Array
    qvalues: Array


class Tree(struct.PyTreeNode):
    """A batch of search trees as mctx lays them out, batch first: B elements, N nodes, A actions."""

    node_visits: Array  # [B, N]
    raw_values: Array  # [B, N]
    node_values: Array  # [B, N]
    parents: Array  # [B, N]
    action_from_parent: Array  # [B, N]
    children_index: Array  # [B, N, A]
    children_prior_logits: Array  # [B, N, A]
    children_visits: Array  # [B, N, A]
    children_rewards: Array  # [B, N, A]
    children_discounts: Array  # [B, N, A]
    children_values: Array  # [B, N, A]
    embeddings: Any  # [B, N, ...]
    root_invalid_actions: Array  # [B, A]
    extra_data: Any  # [B, ...]

    ROOT_INDEX: ClassVar[int] = ROOT
    NO_PARENT: ClassVar[int] = NONE
    UNVISITED: ClassVar[int] = NONE

    @property
    def num_actions(self) -> int:
        return self.children_index.shape[-1]

    @property
    def num_simulations(self) -> int:
        return self.node_visits.shape[-1] - 1

    def qvalues(self, indices: Any) -> Array:
        """reward + discount · value of each action: [A] of a node of one tree, [B, A] of nodes [B] of a batch."""
        if jnp.asarray(indices).shape:
            return jax.vmap(lambda one, index: one.qvalues(index))(self, indices)
        rewards, discounts = self.children_rewards[indices], self.children_discounts[indices]
        return rewards + discounts * self.children_values[indices]

    def summary(self) -> SearchSummary:
        """Statistics of the roots; the visits' shares are even where there were none."""
        value = self.node_values[:, ROOT]
        counts = self.children_visits[:, ROOT].astype(value.dtype)
        total = jnp.sum(counts, axis=-1, keepdims=True)
        shares = jnp.where(total > 0, counts / jnp.maximum(total, 1), 1 / self.num_actions)
        return SearchSummary(counts, shares, value, self.qvalues(jnp.zeros(value.shape, jnp.int32)))


class PolicyOutput(struct.PyTreeNode):
    """action [B] to take; action_weights [B, A] to train a policy on; search_tree."""

    action: Array
    action_weights: Array
    search_tree: Tree


RecurrentFn = Callable[[Any, Array, Array, RecurrentState], tuple[RecurrentFnOutput, RecurrentState]]
DecisionRecurrentFn = Callable[[Any, Array, Array, RecurrentState], tuple[DecisionRecurrentFnOutput, RecurrentState]]
ChanceRecurrentFn = Callable[[Any, Array, Array, RecurrentState], tuple[ChanceRecurrentFnOutput, RecurrentState]]
