"""Stochastic MuZero (https://openreview.net/forum?id=X6D9bAHhBQ1): decision nodes and chance nodes in turn, as mctx has
it.

A tree has A + C "actions": a decision node uses the first A, a chance node the last C, its outcomes. The kind of a node
is kept in its state.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array
from jax.typing import ArrayLike

from jaxft.search import draws, keys, mctx, puct
from jaxft.search.outputs import (
    ChanceRecurrentFn,
    DecisionRecurrentFn,
    LoopFn,
    PolicyOutput,
    RecurrentFnOutput,
    RootFnOutput,
    Tree,
)
from jaxft.search.puct import QTransform
from jaxft.search.qtransforms import qtransform_by_parent_and_siblings


class StochasticRecurrentState(struct.PyTreeNode):
    """Both kinds of state, of which one is a dummy, and which it is [B]."""

    state_embedding: Any
    afterstate_embedding: Any
    is_decision_node: Array


def stochastic_muzero_policy(
    params: Any,
    rng_key: Array,
    root: RootFnOutput,
    decision_recurrent_fn: DecisionRecurrentFn,
    chance_recurrent_fn: ChanceRecurrentFn,
    num_simulations: int,
    invalid_actions: Array | None = None,
    max_depth: int | None = None,
    loop_fn: LoopFn = jax.lax.fori_loop,
    *,
    qtransform: QTransform = qtransform_by_parent_and_siblings,
    dirichlet_fraction: ArrayLike = 0.25,
    dirichlet_alpha: ArrayLike = 0.3,
    pb_c_init: ArrayLike = 1.25,
    pb_c_base: ArrayLike = 19652,
    temperature: ArrayLike = 1.0,
) -> PolicyOutput:
    """PUCT at decision nodes; at chance nodes the outcome furthest behind its probability."""
    num_actions = root.prior_logits.shape[-1]
    rng_key, for_noise, for_search = keys.split(rng_key, 3)
    logits = mctx.masked_logits(
        mctx.noisy_logits(for_noise, root.prior_logits, dirichlet_fraction, dirichlet_alpha), invalid_actions
    )
    batch = logits.shape[0]
    known, afterstate = decision_recurrent_fn(params, rng_key, jnp.zeros(batch, jnp.int32), root.embedding)
    num_outcomes = known.chance_logits.shape[-1]
    state = StochasticRecurrentState(root.embedding, afterstate, jnp.ones(batch, bool))
    inside = partial(
        _select,
        num_actions=num_actions,
        decide=partial(puct.select, pb_c_base=pb_c_base, pb_c_init=pb_c_init, qtransform=qtransform),
    )
    model = partial(
        _model, decide=decision_recurrent_fn, draw=chance_recurrent_fn, actions=num_actions, outcomes=num_outcomes
    )
    found = mctx.grow(
        params,
        for_search,
        root.replace(prior_logits=_right_padded(logits, num_outcomes), embedding=state),
        model,
        inside,
        inside,
        draws.noise(for_search, num_actions),
        num_simulations,
        max_depth=max_depth,
        invalid_actions=invalid_actions,
        loop_fn=loop_fn,
    )
    return mctx.drawn_by_visits(rng_key, _decisions(found, num_actions), temperature)


def _model(params: Any, key: Array, action: Array, state: Any, *, decide: Any, draw: Any, actions: int, outcomes: int):
    """Both models on every element, and of each the one that its node asks for."""
    decided, afterstate = decide(params, key, action, state.state_embedding)
    drawn, after = draw(params, key, action - actions, state.afterstate_embedding)
    value = decided.afterstate_value
    if_decision = RecurrentFnOutput(
        prior_logits=_left_padded(decided.chance_logits, actions),
        value=value,
        reward=jnp.zeros_like(value),
        discount=jnp.ones_like(value),
    )
    if_chance = RecurrentFnOutput(
        prior_logits=_right_padded(drawn.action_logits, outcomes),
        value=drawn.value,
        reward=drawn.reward,
        discount=drawn.discount,
    )

    def choose(one: Array, other: Array) -> Array:
        return jnp.where(state.is_decision_node.reshape(-1, *[1] * (one.ndim - 1)), one, other)

    output = jax.tree.map(choose, if_decision, if_chance)
    return output, StochasticRecurrentState(after, afterstate, ~state.is_decision_node)


def _select(noise: Array, tree: Any, node: Array, depth: ArrayLike, *, num_actions: int, decide: Any) -> Array:
    outcomes = tree.part(slice(num_actions, None))
    chances = jax.nn.softmax(outcomes.children_prior_logits[node])
    outcome = jnp.argmax(chances / (outcomes.children_visits[node] + 1), axis=-1).astype(jnp.int32) + num_actions
    decision = decide(noise, tree.part(slice(num_actions)), node, depth)
    return jnp.where(tree.embeddings.is_decision_node[node], decision, outcome)


def _decisions(found: Tree, num_actions: int) -> Tree:
    """The tree without its chance outcomes, as it is handed out."""
    names = ("index", "prior_logits", "visits", "rewards", "discounts", "values")
    parts = {f"children_{name}": getattr(found, f"children_{name}")[..., :num_actions] for name in names}
    return found.replace(**parts, root_invalid_actions=found.root_invalid_actions[..., :num_actions])


def _left_padded(logits: Array, count: int) -> Array:
    return jnp.concatenate([jnp.full([logits.shape[0], count], fill_value=-jnp.inf), logits], axis=-1)


def _right_padded(logits: Array, count: int) -> Array:
    return jnp.concatenate([logits, jnp.full([logits.shape[0], count], fill_value=-jnp.inf)], axis=-1)
