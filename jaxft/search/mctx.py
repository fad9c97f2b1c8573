"""mctx's functions and types on this package's search: same names, arguments, and results to the bit.

    from jaxft import search as mctx

As in mctx, the tree grows by one node a simulation, a leaf that `max_depth` cuts is evaluated again, and invalid
actions are known at the root only. `jaxft.search.tree_search` does better where results may differ from mctx's.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxft.search import draws, expand, keys, puct, tree
from jaxft.search.backup import backup
from jaxft.search.dirichlet import dirichlet
from jaxft.search.draws import Draws, OfKeys
from jaxft.search.expand import Outcome
from jaxft.search.gumbel import (
    GumbelMuZeroExtraData,
    gumbel_muzero_interior_action_selection,
    gumbel_muzero_root_action_selection,
    halving_scores,
)
from jaxft.search.once import once
from jaxft.search.outputs import (
    InteriorActionSelectionFn,
    LoopFn,
    PolicyOutput,
    RecurrentFn,
    RootActionSelectionFn,
    RootFnOutput,
    Tree,
)
from jaxft.search.puct import QTransform, masked_argmax
from jaxft.search.qtransforms import qtransform_by_parent_and_siblings, qtransform_completed_by_mix_value
from jaxft.search.select import Select, descend
from jaxft.search.tree import NONE, ROOT, Here, Nodes, View

SelectOne = Callable[[Any, View, Array, Any], Array]
"""(drawn, one element's tree, node, depth) -> action."""


# --- the search ------------------------------------------------------------------------------------------------------


def search(
    params: Any,
    rng_key: Array,
    *,
    root: RootFnOutput,
    recurrent_fn: RecurrentFn,
    root_action_selection_fn: RootActionSelectionFn,
    interior_action_selection_fn: InteriorActionSelectionFn,
    num_simulations: int,
    max_depth: int | None = None,
    invalid_actions: Array | None = None,
    extra_data: Any = None,
    loop_fn: LoopFn = jax.lax.fori_loop,
) -> Tree:
    """Runs `num_simulations` simulations from each of the roots.

    root_action_selection_fn(key, tree, node) and interior_action_selection_fn(key, tree, node, depth) select an action
    in one element's tree (tree.View). invalid_actions [B, A]: nonzero where invalid, at the root. max_depth: edges from
    the root to a leaf; none: no limit.
    """

    def at_root(drawn: Array, tree: View, node: Array, depth: Array) -> Array:
        return root_action_selection_fn(drawn, tree, node)

    return grow(
        params,
        rng_key,
        root,
        recurrent_fn,
        at_root,
        interior_action_selection_fn,
        OfKeys(),
        num_simulations,
        max_depth=max_depth,
        invalid_actions=invalid_actions,
        extra_data=extra_data,
        loop_fn=loop_fn,
    )


def grow(
    params: Any,
    rng_key: Array,
    root: RootFnOutput,
    recurrent_fn: RecurrentFn,
    at_root: SelectOne,
    inside: SelectOne,
    drawing: Draws | None,
    num_simulations: int,
    *,
    max_depth: int | None = None,
    invalid_actions: Array | None = None,
    extra_data: Any = None,
    loop_fn: LoopFn = jax.lax.fori_loop,
) -> Tree:
    """`search` with selections that get what `drawing` draws for a level, one element's part of it each."""
    invalid = jnp.zeros_like(root.prior_logits) if invalid_actions is None else invalid_actions
    max_depth = num_simulations if max_depth is None else max_depth
    elements = jnp.arange(root.value.shape[0], dtype=jnp.int32)

    def of_each(select: SelectOne, nodes: Nodes) -> Select:
        def batched(here: Here, drawn: Any, depth: Array | int) -> Array:
            def one(drawn: Any, element: Array, invalid: Array, extra: Any, here: Here) -> Array:
                return select(drawn, View(nodes, element, invalid, extra, here), here.node, depth)

            return jax.vmap(one)(drawn, elements, invalid, extra_data, here)

        return batched

    def level(for_descent: Array, after: Array) -> Any:
        return None if drawing is None else drawing.first(for_descent, elements.size, after)

    def simulation(number: Array, carried: tuple[Any, Nodes]) -> tuple[Any, Nodes]:
        (upcoming, for_model, drawn), nodes = carried
        leaf = descend(nodes, drawn, of_each(at_root, nodes), of_each(inside, nodes), drawing, max_depth)
        step, states = recurrent_fn(params, for_model, leaf.action, expand.states_at(nodes, leaf.parent))
        made = jnp.where(leaf.child == NONE, number + 1, leaf.child)
        visits = jnp.full_like(made, 1) * jnp.minimum(
            leaf.deepest, 1
        )  # 1; written before the descent has read the others, it would cost a copy
        again = max_depth < num_simulations  # a leaf that was cut may have been here before
        if again:
            visits += tree.take(nodes.visits, nodes.rows(made))
        else:
            made = jnp.full_like(made, 1) + number
        outcome = Outcome(states, step.reward, step.discount, step.prior_logits, step.value)
        nodes = expand.add(nodes, leaf, made, outcome, visits, same=not again)
        nodes, _ = backup(nodes, made, leaf.deepest, step.value, step.value)
        return (keys.split(upcoming[0], 3), upcoming[2], level(upcoming[1], leaf.deepest)), nodes

    # Carried are the keys that the next simulation's was split into, and what is drawn of this one's.
    nodes = tree.empty(root.prior_logits, root.value, root.embedding, num_simulations + 1)
    first, upcoming = keys.split_twice(rng_key, 3)
    drawn = upcoming, first[2], level(first[1], nodes.visits[0])
    _, nodes = loop_fn(0, num_simulations, simulation, (drawn, nodes))
    return _laid_out(nodes, invalid, extra_data)


def _laid_out(nodes: Nodes, invalid: Array, extra_data: Any) -> Tree:
    """Batch first, and each edge's reward, discount and value at its parent."""

    elements = jnp.arange(nodes.batch, dtype=jnp.int32)
    every = jnp.arange(nodes.num_nodes, dtype=jnp.int32) * nodes.batch + elements[:, None]

    def batch_first(x: Array) -> Array:
        return tree.take(x, every)  # a transpose does the same, and takes much longer to compile

    children = batch_first(nodes.children)
    rows = jnp.maximum(children, ROOT) * nodes.batch + elements[:, None, None]

    def by_parent(x: Array) -> Array:
        found = tree.take(x, rows)
        return jnp.where(children == NONE, jnp.zeros_like(found), found)

    return Tree(
        node_visits=batch_first(nodes.visits),
        raw_values=batch_first(nodes.raw_values),
        node_values=batch_first(nodes.values),
        parents=batch_first(nodes.parents),
        action_from_parent=batch_first(nodes.actions),
        children_index=children,
        children_prior_logits=batch_first(nodes.logits),
        children_visits=batch_first(nodes.child_visits),
        children_rewards=by_parent(nodes.rewards),
        children_discounts=by_parent(nodes.discounts),
        children_values=by_parent(nodes.values),
        embeddings=jax.tree.map(batch_first, nodes.states),
        root_invalid_actions=invalid,
        extra_data=extra_data,
    )


# --- policies --------------------------------------------------------------------------------------------------------


def muzero_policy(
    params: Any,
    rng_key: Array,
    root: RootFnOutput,
    recurrent_fn: RecurrentFn,
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
    """PUCT with Dirichlet noise at the root; the action is drawn by visits ** (1 / temperature)."""
    rng_key, for_noise, for_search = keys.split(rng_key, 3)
    root = root.replace(
        prior_logits=masked_logits(
            noisy_logits(for_noise, root.prior_logits, dirichlet_fraction, dirichlet_alpha), invalid_actions
        )
    )
    select = partial(puct.select, pb_c_base=pb_c_base, pb_c_init=pb_c_init, qtransform=qtransform)
    found = grow(
        params,
        for_search,
        root,
        recurrent_fn,
        select,
        select,
        draws.noise(for_search, root.prior_logits.shape[-1]),
        num_simulations,
        max_depth=max_depth,
        invalid_actions=invalid_actions,
        loop_fn=loop_fn,
    )
    return drawn_by_visits(rng_key, found, temperature)


def gumbel_muzero_policy(
    params: Any,
    rng_key: Array,
    root: RootFnOutput,
    recurrent_fn: RecurrentFn,
    num_simulations: int,
    invalid_actions: Array | None = None,
    max_depth: int | None = None,
    loop_fn: LoopFn = jax.lax.fori_loop,
    *,
    qtransform: QTransform = qtransform_completed_by_mix_value,
    max_num_considered_actions: int = 16,
    gumbel_scale: ArrayLike = 1.0,
) -> PolicyOutput:
    """Sequential halving over actions drawn without replacement; the best by gumbel + logits + q of the most visited.

    gumbel_scale: 0 draws nothing, for play in games of perfect information.
    """
    root = root.replace(prior_logits=masked_logits(root.prior_logits, invalid_actions))
    rng_key, for_gumbel = keys.split(rng_key, 2)
    logits = root.prior_logits
    gumbel: Any = gumbel_scale * jax.random.gumbel(keys.straight(for_gumbel), shape=logits.shape, dtype=logits.dtype)
    at_root = partial(
        gumbel_muzero_root_action_selection,
        num_simulations=num_simulations,
        max_num_considered_actions=max_num_considered_actions,
        qtransform=qtransform,
    )
    inside = partial(gumbel_muzero_interior_action_selection, qtransform=qtransform)
    found = grow(
        params,
        rng_key,
        root,
        recurrent_fn,
        lambda _, tree, node, depth: at_root(None, tree, node),
        lambda _, tree, node, depth: inside(None, tree, node, depth),
        None,
        num_simulations,
        max_depth=max_depth,
        invalid_actions=invalid_actions,
        extra_data=GumbelMuZeroExtraData(root_gumbel=gumbel),
        loop_fn=loop_fn,
    )

    def result(found: Tree) -> tuple[Array, Array]:
        visits = found.summary().visit_counts
        q = jax.vmap(qtransform, in_axes=(0, None))(found, ROOT)
        scores = halving_scores(jnp.max(visits, axis=-1, keepdims=True), gumbel, logits, q, visits)
        weights = jax.nn.softmax(masked_logits(logits + q, invalid_actions))
        return masked_argmax(scores, invalid_actions), weights

    action, weights = once(found.node_visits[0, ROOT] > 0, result, found)
    return PolicyOutput(action, weights, found)


def drawn_by_visits(key: Array, found: Tree, temperature: ArrayLike) -> PolicyOutput:
    """An action drawn by visits ** (1 / temperature), and the visits' shares as weights."""
    weights = found.summary().visit_probs
    logits = _log(weights)
    logits = logits - jnp.max(logits, keepdims=True, axis=-1)  # no overflow at temperature 0
    logits = logits / jnp.maximum(jnp.finfo(logits.dtype).tiny, temperature)
    return PolicyOutput(_categorical(key, logits, found.node_visits[0, ROOT] > 0), weights, found)


def _categorical(key: Array, logits: Array, sure: Array) -> Array:
    """As `jax.random.categorical`. sure: true, which the compiler cannot know."""
    if not keys.is_plain(key):
        return jax.random.categorical(key, logits)
    noise = once(sure, lambda key: jax.random.gumbel(keys.straight(key), logits.shape, logits.dtype), key)
    return jnp.argmax(noise + logits, axis=-1)


def masked_logits(logits: Array, invalid: Array | None) -> Array:
    """Logits with the least finite number where invalid: a softmax is no NaN even if all are."""
    if invalid is None:
        return logits
    logits = logits - jnp.max(logits, axis=-1, keepdims=True)
    return jnp.where(invalid, jnp.finfo(logits.dtype).min, logits)


def noisy_logits(key: Array, logits: Array, fraction: ArrayLike, alpha: ArrayLike) -> Array:
    """Logits [B, A] of (1 - fraction) · softmax + fraction · Dirichlet(alpha)."""
    prior: Any = jax.nn.softmax(logits)
    noise = dirichlet(key, alpha, prior.shape)
    mixed: Any = (1 - fraction) * prior + fraction * noise
    return _log(mixed)


def _log(probabilities: Array) -> Array:
    return jnp.log(jnp.maximum(probabilities, jnp.finfo(probabilities.dtype).tiny))
