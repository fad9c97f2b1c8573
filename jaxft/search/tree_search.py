"""The native search: a simulation selects a leaf, evaluates it once and for all, and backs its value up.

Against mctx: actions may be invalid in any state; a finished episode, a node that `max_depth` cuts and a solved subtree
are met again without being evaluated again; a node's randomness hangs on the path to it and on nothing else, so that a
search in several calls, or one that computes evicted states again, grows the same tree. A search costs one call of
`env.expand` a step, for all elements and leaves of the step at once.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxft.search import keys
from jaxft.search import store as stores
from jaxft.search.backup import backup, take_off
from jaxft.search.env import Env, Root, Step
from jaxft.search.grown import NOISE, TIE, Cost, Grown, keys_of_roots, noise, planted, with_room
from jaxft.search.mctx import masked_logits
from jaxft.search.once import once
from jaxft.search.policies import Policy
from jaxft.search.select import Leaf, descend
from jaxft.search.solve import solve
from jaxft.search.store import Full, Slots
from jaxft.search.tree import NONE, ROOT, Here, Nodes, View, add, put, take

FULL = Full()


class Found(NamedTuple):
    """action [B] to play; weights [B, A] to train a policy on; value [B] of the roots; q, visits [B, A] of their
    actions; the tree; what all of it has cost."""

    action: Array
    weights: Array
    value: Array
    q: Array
    visits: Array
    tree: Grown
    cost: Cost


def tree_search(
    key: Array,
    root: Root,
    env: Env,
    policy: Policy,
    num_simulations: int,
    *,
    max_depth: int | None = None,
    capacity: int | None = None,
    leaf_batch: int = 1,
    store: Full | Slots = FULL,
    tree: Grown | None = None,
    tie_noise: float = TIE,
) -> Found:
    """Searches from each root; everything is traced, so call it under `jax.jit`.

    key: a typed key. max_depth: edges from the root to a leaf; none: no limit. capacity: nodes there is room for; none:
    one a simulation. leaf_batch: leaves evaluated at once, selected one after the other with those before them counted
    as visits under way. tree: goes on with an earlier search's, as `reroot` gives it or as it was; its roots must be
    `root`'s. tie_noise: added to logits, at most; at 0 the first of equal actions is taken, as mctx's Gumbel search
    does. Raises ValueError for settings that make no sense.
    """
    if num_simulations < 1 or leaf_batch < 1 or num_simulations % leaf_batch:
        raise ValueError(f"{num_simulations} simulations cannot be done {leaf_batch} at a time")
    if max_depth is not None and max_depth < 1:
        raise ValueError(f"max_depth: expected at least 1, got {max_depth}")
    batch, actions = root.logits.shape
    for_noise = keys.fold_in_each(jnp.broadcast_to(key, (2,)), jnp.full(2, NOISE, jnp.uint32))
    for_root, for_choice = keys.fold_in_each(for_noise, jnp.arange(2))
    valid = jnp.ones((batch, actions), bool) if root.valid is None else root.valid
    impl = str(jax.random.key_impl(key))
    each = keys_of_roots(key, batch) if tree is None else jax.random.wrap_key_data(tree.nodes.keys[:batch], impl=impl)
    logits, extra = policy.prepare(for_root, masked_logits(root.logits + noise(each, root.logits, tie_noise), ~valid))
    room = capacity or (0 if tree is None else tree.nodes.num_nodes) + num_simulations + (tree is None)
    grown = (
        planted(each, root, logits, valid, store, room) if tree is None else with_room(tree, root, logits, room, store)
    )
    run = Run(env, policy, store, extra, num_simulations, max_depth or 2**30, leaf_batch, impl, tie_noise)
    grown = jax.lax.fori_loop(0, num_simulations // leaf_batch, lambda _, now: run.step(now), grown)
    return _result(for_choice, grown, policy, extra)


# --- before and after ------------------------------------------------------------------------------------------------


def _result(key: Array, grown: Grown, policy: Policy, extra: Array) -> Found:
    nodes = grown.nodes
    elements = jnp.arange(nodes.batch, dtype=jnp.int32)

    def choose(key: Array, element: Array, extra: Array) -> tuple[Array, Array]:
        return policy.choose(key, View(nodes, element, None, extra))

    each = keys.fold_in_each(jnp.broadcast_to(key, (nodes.batch,)), elements)
    action, weights = jax.vmap(choose)(each, elements, extra)
    roots = slice(0, nodes.batch)
    return Found(
        action, weights, nodes.values[roots], nodes.child_q[roots], nodes.child_visits[roots], grown, grown.cost
    )


# --- one step --------------------------------------------------------------------------------------------------------


class Picked(NamedTuple):
    """Leaves of a step: [K, B]. node: where the simulation ends. fresh: it is new, and to be evaluated. counts: it is a
    simulation at all; from a root that is solved there is none."""

    node: Array
    fresh: Array
    counts: Array


class Run(NamedTuple):
    """A search's settings."""

    env: Env
    policy: Policy
    store: Full | Slots
    extra: Array
    num_simulations: int
    max_depth: int
    leaf_batch: int
    impl: str
    """Of the keys."""
    tie_noise: float

    def step(self, now: Grown) -> Grown:
        """Selects, evaluates and backs up `leaf_batch` leaves of each element."""
        if self.leaf_batch == 1:
            now, picked = self._pick(now, now.used)
            now = self._evaluate(now, picked)
            nodes, _ = self._credit(now.nodes, picked, None)
            return now.replace(nodes=nodes)
        now, flying, picked = self._pick_several(now)
        if isinstance(self.store, Full):
            now = self._evaluate_together(now, picked)
        else:
            now = jax.lax.fori_loop(
                0, self.leaf_batch, lambda k, now: self._evaluate(now, jax.tree.map(lambda x: x[k], picked)), now
            )

        def credit(k: Array, carried: tuple[Nodes, Any]) -> tuple[Nodes, Any]:
            return self._credit(carried[0], jax.tree.map(lambda x: x[k], picked), carried[1])

        nodes, _ = jax.lax.fori_loop(0, self.leaf_batch, credit, (now.nodes, flying))
        return now.replace(nodes=nodes)

    def _selected(self, nodes: Nodes, pending: Array) -> Leaf:
        elements = jnp.arange(nodes.batch, dtype=jnp.int32)

        def at_root(here: Here, drawn: Array, depth: Any) -> Array:
            def one(element: Array, extra: Array, rows: dict[str, Array]) -> Array:
                return self.policy.at_root(View(nodes, element, None, extra, Here(ROOT, rows)), self.num_simulations)

            return jax.vmap(one)(elements, self.extra, here.rows)

        def inside(here: Here, drawn: Array, depth: Any) -> Array:
            def one(element: Array, extra: Array, here: Here) -> Array:
                return self.policy.inside(View(nodes, element, None, extra, here), here.node)

            return jax.vmap(one)(elements, self.extra, here)

        def ends(here: Here) -> Array:
            return _ends(nodes.at(here, "solved"), here.node, pending)

        return descend(nodes, None, at_root, inside, None, self.max_depth, ends)

    def _pick(self, now: Grown, pending: Array) -> tuple[Grown, Picked]:
        """One descent, whose action gets a node if it has none. Nodes from `pending` [B] on have no value yet."""
        nodes = now.nodes
        counts = ~_ends(nodes.solved[: nodes.batch], jnp.full(nodes.batch, ROOT, jnp.int32), pending)
        leaf = self._selected(nodes, pending)
        untried = counts & (leaf.child == NONE)
        fresh = untried & (now.used < nodes.num_nodes)
        refused = untried & ~fresh
        node = jnp.where(fresh, now.used, jnp.where(refused, leaf.parent, leaf.child))
        node = jnp.where(counts, node, ROOT)
        rows, above = nodes.rows(node, fresh), nodes.rows(leaf.parent, fresh)
        parent = nodes.rows(leaf.parent)
        words = take(nodes.keys, parent)
        key = keys.fold_in_each(jax.random.wrap_key_data(words, impl=self.impl), leaf.action)
        nodes = nodes.replace(
            parents=put(nodes.parents, rows, leaf.parent),
            actions=put(nodes.actions, rows, leaf.action),
            children=put(nodes.children, (above, leaf.action), node),
            depths=put(nodes.depths, rows, leaf.depth),
            keys=put(nodes.keys, rows, jax.random.key_data(key)),
        )
        cost = now.cost.replace(
            expansions=now.cost.expansions + fresh,
            revisits=now.cost.revisits + (counts & ~untried),
            refused=now.cost.refused + refused,
        )
        return now.replace(nodes=nodes, used=now.used + fresh, cost=cost), Picked(node, fresh, counts)

    def _pick_several(self, now: Grown) -> tuple[Grown, Array, Picked]:
        """Descents one after the other; each counts as a visit at once, its value is to come."""

        pending = now.used

        def pick(k: Array, carried: tuple[Grown, Array, Picked]) -> tuple[Grown, Array, Picked]:
            now, flying, picked = carried
            now, one = self._pick(now, pending)
            nodes, flying = take_off(now.nodes, one.node, one.counts, flying)
            return now.replace(nodes=nodes), flying, jax.tree.map(lambda all, x: all.at[k].set(x), picked, one)

        shape = (self.leaf_batch, now.nodes.batch)
        none = Picked(jnp.zeros(shape, jnp.int32), jnp.zeros(shape, bool), jnp.zeros(shape, bool))
        return jax.lax.fori_loop(0, self.leaf_batch, pick, (now, jnp.zeros_like(now.nodes.visits), none))

    # --- evaluation --------------------------------------------------------------------------------------------------

    def _evaluate(self, now: Grown, picked: Picked) -> Grown:
        """Calls the environment for the fresh leaves [B], if there are any."""
        if isinstance(self.store, Slots):
            return self._evaluate_by_replay(now, picked)
        return self._noted(now, picked, once(jnp.any(picked.fresh), self._outcome, *self._before(now, picked.node)))

    def _evaluate_together(self, now: Grown, picked: Picked) -> Grown:
        """All leaves [K, B] in one call of the environment."""
        before = jax.tree.map(_flat, jax.vmap(partial(self._before, now))(picked.node))
        step = once(jnp.any(picked.fresh), self._outcome, *before)
        step = jax.tree.map(lambda x: x.reshape(*picked.node.shape, *x.shape[1:]), step)
        for k in range(self.leaf_batch):
            now = self._noted(now, *jax.tree.map(lambda x, k=k: x[k], (picked, step)))
        return now

    def _before(self, now: Grown, node: Array) -> tuple[Any, Array, Array]:
        """State of the parents of nodes [B], the actions that lead to them, and the words of their keys."""
        nodes = now.nodes
        rows = nodes.rows(node)
        state = stores.read(self.store, now.kept, nodes, jnp.maximum(take(nodes.parents, rows), ROOT))
        return state, jnp.maximum(take(nodes.actions, rows), 0), take(nodes.keys, rows)

    def _evaluate_by_replay(self, now: Grown, picked: Picked) -> Grown:
        """From the nearest ancestor whose state is kept down to the leaf: one call of the environment a level.

        Replayed steps and the last one, which is new, are the same compiled code, so their bits are too.
        """
        nodes, goal = now.nodes, picked.node
        above = jnp.maximum(take(nodes.parents, nodes.rows(goal)), ROOT)
        begin = jax.lax.while_loop(
            lambda at: jnp.any(~stores.holds(now.kept, nodes, at)),
            lambda at: jnp.where(stores.holds(now.kept, nodes, at), at, take(nodes.parents, nodes.rows(at))),
            jnp.where(picked.fresh, above, ROOT),
        )
        time = now.used + now.cost.replays  # grows with each write
        kept = stores.touch(now.kept, nodes, begin, picked.fresh, time)
        state = stores.read(self.store, kept, nodes, begin)

        def down(carried: tuple[Grown, Array, Any]) -> tuple[Grown, Array, Any]:
            now, at, state = carried
            moves = picked.fresh & (at != goal)
            following = jax.lax.while_loop(
                lambda node: jnp.any(moves & (take(nodes.parents, nodes.rows(node)) != at)),
                lambda node: jnp.where(
                    moves & (take(nodes.parents, nodes.rows(node)) != at), take(nodes.parents, nodes.rows(node)), node
                ),
                goal,
            )
            rows = nodes.rows(following)
            step = self._outcome(state, jnp.maximum(take(nodes.actions, rows), 0), take(nodes.keys, rows))
            last = moves & (following == goal)
            now = self._noted(now, picked._replace(fresh=last), step)
            passed = moves & ~last
            now = now.replace(cost=now.cost.replace(replays=now.cost.replays + passed))
            asked = passed & (following == above)  # only what was asked for is kept; it may be asked for again
            kept = stores.write(
                self.store, now.kept, now.nodes, following, step.state, asked, now.used + now.cost.replays
            )
            state = jax.tree.map(partial(_where, moves), step.state, state)
            return now.replace(kept=kept), jnp.where(moves, following, at), state

        now, _, _ = jax.lax.while_loop(
            lambda carried: jnp.any(picked.fresh & (carried[1] != goal)), down, (now.replace(kept=kept), begin, state)
        )
        return now

    def _outcome(self, state: Any, action: Array, words: Array) -> Step:
        step = Step(*self.env.expand(state, action, jax.random.wrap_key_data(words, impl=self.impl)))
        return step._replace(discount=step.discount * self._sign(state, step.state))

    def _sign(self, before: Any, after: Any) -> Array | float:
        player = getattr(self.env, "player", None)
        return 1.0 if player is None else jnp.where(player(before) == player(after), 1.0, -1.0)

    def _noted(self, now: Grown, picked: Picked, step: Step) -> Grown:
        """Fresh nodes get what the environment says of them; their states are kept if they can be expanded."""
        nodes = now.nodes
        rows = nodes.rows(picked.node, picked.fresh)
        key = jax.random.wrap_key_data(take(nodes.keys, nodes.rows(picked.node)), impl=self.impl)
        value = jnp.where(step.done, jnp.zeros_like(step.value), step.value)
        logits = masked_logits(step.logits + noise(key, step.logits, self.tie_noise), ~step.valid)
        nodes = nodes.replace(
            values=put(nodes.values, rows, value),
            raw_values=put(nodes.raw_values, rows, value),
            rewards=put(nodes.rewards, rows, step.reward),
            discounts=put(nodes.discounts, rows, step.discount),
            logits=put(nodes.logits, rows, logits),
            priors=put(nodes.priors, rows, jax.nn.softmax(logits)),
            done=put(nodes.done, rows, step.done),
            valid=put(nodes.valid, rows, step.valid),
            solved=put(nodes.solved, rows, step.done),
        )
        depth = take(nodes.depths, nodes.rows(picked.node))
        keep = picked.fresh & ~step.done & (depth < self.max_depth)
        time = now.used + now.cost.replays
        kept = stores.write(self.store, now.kept, nodes, picked.node, step.state, keep, time)
        return now.replace(nodes=nodes, kept=kept)

    # --- backup ------------------------------------------------------------------------------------------------------

    def _credit(self, nodes: Nodes, picked: Picked, flying: Array | None) -> tuple[Nodes, Array | None]:
        """Counts the visit of each leaf [B] and backs its value up."""
        row, to = nodes.rows(picked.node), nodes.rows(picked.node, picked.counts)
        if flying is None:
            nodes = nodes.replace(visits=add(nodes.visits, to, 1))
        else:
            flying = add(flying, to, -1)
        value = take(nodes.values, row)  # of a leaf: as evaluated, or exact; its mean is itself
        nodes, flying = backup(nodes, picked.node, jnp.max(take(nodes.depths, row)), value, value, flying)
        return solve(nodes, picked.node, getattr(self.env, "bound", None)), flying


def _ends(solved: Array, at: Array, pending: Array) -> Array:
    """Nothing is to be learnt below nodes [B]: their value is exact, or still to come."""
    return solved | (at >= pending)


def _flat(x: Array) -> Array:
    return x.reshape(-1, *x.shape[2:])


def _where(condition: Array, yes: Array, no: Array) -> Array:
    return jnp.where(condition.reshape(-1, *[1] * (yes.ndim - 1)), yes, no)
