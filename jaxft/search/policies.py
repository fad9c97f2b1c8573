"""Policies of a search: how a root is prepared, which action a simulation takes, and which one is played in the end.

A policy never selects an action that its state does not allow, and draws nothing while it searches; what tells equal
priors apart was drawn with the node. A solved action earns no bonus for being tried: there is nothing to learn from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxft.search.gumbel import halving_scores, interior_scores
from jaxft.search.halving import considered_visits
from jaxft.search.mctx import masked_logits, noisy_logits
from jaxft.search.puct import QTransform, masked_argmax, puct_parts
from jaxft.search.qtransforms import (
    prior_of,
    qtransform_by_parent_and_siblings,
    qtransform_completed_by_mix_value,
)
from jaxft.search.tree import NONE, ROOT, View


class Policy(Protocol):
    """logits [B, A] are masked where an action is not valid; `tree` is one element's."""

    def prepare(self, key: Array, logits: Array) -> tuple[Array, Array]:
        """(logits of the roots [B, A] as the search takes them, what `tree.extra_data` shall be [B, ...])."""
        ...

    def at_root(self, tree: View, num_simulations: int) -> Array:
        """The action of the next simulation."""
        ...

    def inside(self, tree: View, node: ArrayLike) -> Array:
        """The action at any other node."""
        ...

    def choose(self, key: Array, tree: View) -> tuple[Array, Array]:
        """(the action to play, weights [A] that a policy can be trained on)."""
        ...


@dataclass(frozen=True)
class Puct:
    """PUCT; plays by visits. dirichlet_fraction: share of noise in the roots' prior. temperature: 0 plays the action
    visited most, else one drawn by visits ** (1 / temperature)."""

    c_init: float = 1.25
    c_base: float = 19652.0
    qtransform: QTransform = qtransform_by_parent_and_siblings
    dirichlet_fraction: float = 0.0
    dirichlet_alpha: float = 0.3
    temperature: float = 0.0

    def prepare(self, key: Array, logits: Array) -> tuple[Array, Array]:
        if self.dirichlet_fraction:
            allowed = logits > jnp.finfo(logits.dtype).min
            noisy = noisy_logits(key, logits, self.dirichlet_fraction, self.dirichlet_alpha)
            logits = masked_logits(noisy, ~allowed)
        return logits, jnp.zeros(logits.shape[0])

    def at_root(self, tree: View, num_simulations: int) -> Array:
        return self.inside(tree, ROOT)

    def inside(self, tree: View, node: ArrayLike) -> Array:
        q, bonus = puct_parts(tree, node, self.c_init, self.c_base, self.qtransform)
        scores = q + jnp.where(tree.children_solved[node], 0, bonus)
        return masked_argmax(scores, ~tree.children_valid[node])

    def choose(self, key: Array, tree: View) -> tuple[Array, Array]:
        return by_visits(key, tree, self.temperature)


@dataclass(frozen=True)
class Uct:
    """UCT (https://doi.org/10.1007/11871842_29): q + c · sqrt(log n / n_a), every action once first, likely ones before
    others."""

    c: float = 2**0.5
    temperature: float = 0.0

    def prepare(self, key: Array, logits: Array) -> tuple[Array, Array]:
        return logits, jnp.zeros(logits.shape[0])

    def at_root(self, tree: View, num_simulations: int) -> Array:
        return self.inside(tree, ROOT)

    def inside(self, tree: View, node: ArrayLike) -> Array:
        visits = tree.children_visits[node]
        bonus = jnp.sqrt(jnp.log(jnp.maximum(tree.node_visits[node], 1)) / jnp.maximum(visits, 1))
        bonus = jnp.where(tree.children_solved[node], 0, self.c * bonus)
        first = jnp.finfo(bonus.dtype).max * (1 + prior_of(tree, node)) / 2
        scores = jnp.where(visits > 0, tree.qvalues(node) + bonus, first)
        return masked_argmax(scores, ~tree.children_valid[node])

    def choose(self, key: Array, tree: View) -> tuple[Array, Array]:
        return by_visits(key, tree, self.temperature)


@dataclass(frozen=True)
class Gumbel:
    """Gumbel MuZero: sequential halving over `considered` actions at the root. scale: of the Gumbel numbers, 0 for
    none. planned: simulations in all, where a search comes in several calls; none: those of the call."""

    considered: int = 16
    scale: float = 1.0
    planned: int | None = None
    qtransform: QTransform = qtransform_completed_by_mix_value

    def prepare(self, key: Array, logits: Array) -> tuple[Array, Array]:
        return logits, self.scale * jax.random.gumbel(key, logits.shape, logits.dtype)

    def at_root(self, tree: View, num_simulations: int) -> Array:
        total = self.planned or num_simulations
        visits, valid = tree.children_visits[ROOT], tree.children_valid[ROOT]
        table = jnp.asarray(considered_visits(self.considered, total))
        row = table[jnp.minimum(self.considered, jnp.sum(valid))]
        scores = self._scores(tree, row[jnp.minimum(jnp.sum(visits), total - 1)])
        scores = jnp.where(jnp.any(valid & jnp.isfinite(scores)), scores, self._scores(tree, visits))
        return masked_argmax(scores, ~valid)

    def inside(self, tree: View, node: ArrayLike) -> Array:
        return masked_argmax(interior_scores(tree, node, self.qtransform), ~tree.children_valid[node])

    def choose(self, key: Array, tree: View) -> tuple[Array, Array]:
        visits, valid = tree.children_visits[ROOT], tree.children_valid[ROOT]
        scores = self._scores(tree, jnp.max(jnp.where(valid, visits, 0)))
        improved = tree.children_prior_logits[ROOT] + self.qtransform(tree, ROOT)
        weights = jax.nn.softmax(masked_logits(improved, ~valid))
        exact = proven(tree)
        return jnp.where(tree.solved[ROOT], exact, masked_argmax(scores, ~valid)), weights

    def _scores(self, tree: View, considered: Array) -> Array:
        logits, visits = tree.children_prior_logits[ROOT], tree.children_visits[ROOT]
        return halving_scores(considered, tree.extra_data, logits, self.qtransform(tree, ROOT), visits)


@dataclass(frozen=True)
class Expected:
    """The action with the greatest return: of tried ones q, of others the logit, which is the return that a model
    expects (see reanalyse.py). What explores is the model, if it is drawn anew for each simulation (Thompson sampling,
    https://arxiv.org/abs/1707.02038). What is solved is not looked at again."""

    def prepare(self, key: Array, logits: Array) -> tuple[Array, Array]:
        return logits, jnp.zeros(logits.shape[0])

    def at_root(self, tree: View, num_simulations: int) -> Array:
        return self.inside(tree, ROOT)

    def inside(self, tree: View, node: ArrayLike) -> Array:
        closed = tree.children_solved[node] | ~tree.children_valid[node]
        return masked_argmax(self._returns(tree, node), closed)

    def choose(self, key: Array, tree: View) -> tuple[Array, Array]:
        action = masked_argmax(self._returns(tree, ROOT), ~tree.children_valid[ROOT])
        return action, jax.nn.one_hot(action, tree.num_actions)

    def _returns(self, tree: View, node: ArrayLike) -> Array:
        tried = tree.children_index[node] != NONE
        return jnp.where(tried, tree.qvalues(node), tree.children_prior_logits[node])


def by_visits(key: Array, tree: View, temperature: float) -> tuple[Array, Array]:
    """(action, shares of the visits [A]). The most visited, the one with the best q if there are several; none that is
    proven to be worse than what another one has shown so far. Of a solved root an action that is proven best."""
    visits, valid = jnp.where(tree.children_valid[ROOT], tree.children_visits[ROOT], 0), tree.children_valid[ROOT]
    weights = visits / jnp.maximum(jnp.sum(visits), 1)
    q = tree.qvalues(ROOT)
    best = jnp.max(jnp.where(visits > 0, q, -jnp.inf))
    poor = tree.children_solved[ROOT] & (q < best)
    allowed = valid & (~poor | jnp.all(poor | ~valid))
    if temperature:
        logits = jnp.log(jnp.maximum(weights, jnp.finfo(weights.dtype).tiny)) / temperature
        action = jax.random.categorical(key, jnp.where(allowed, logits, -jnp.inf)).astype(jnp.int32)
    else:
        action = masked_argmax(jnp.where(weights == jnp.max(jnp.where(allowed, weights, 0)), q, -jnp.inf), ~allowed)
    return jnp.where(tree.solved[ROOT], proven(tree), action), weights


def proven(tree: View) -> Array:
    """The best of the root's solved actions."""
    return masked_argmax(tree.qvalues(ROOT), ~(tree.children_solved[ROOT] & tree.children_valid[ROOT]))
