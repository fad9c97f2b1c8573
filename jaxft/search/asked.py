"""A search whose leaves are evaluated by somebody else: `ask` names the next one, `tell` takes what became of it.

For worlds that are not functions of the device, such as training runs that a host loop steps. One after the other they
grow the tree that `tree_search` grows with the same outcomes, to the bit; the tree itself keeps no states.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxft.search import keys
from jaxft.search.env import Root, Step
from jaxft.search.grown import NOISE, TIE, Grown, keys_of_roots, noise, planted
from jaxft.search.mctx import masked_logits
from jaxft.search.policies import Policy
from jaxft.search.store import Full
from jaxft.search.tree import take
from jaxft.search.tree_search import Picked, Run


class Asked(NamedTuple):
    """A leaf [B]. fresh: it is new, so `tell` wants its outcome; else nothing is left to learn, or there is no room.
    parent, action: where it hangs."""

    picked: Picked
    parent: Array
    action: Array

    @property
    def node(self) -> Array:
        return self.picked.node

    @property
    def fresh(self) -> Array:
        return self.picked.fresh


class Asking:
    """A search for B trees at once, whose methods are traced. capacity: nodes there is room for. num_simulations: that
    are planned, for policies that share them out; none: what there is room for. bound: see `Env`."""

    def __init__(
        self,
        policy: Policy,
        capacity: int,
        *,
        max_depth: int | None = None,
        num_simulations: int | None = None,
        bound: float | None = None,
        tie_noise: float = TIE,
    ) -> None:
        if capacity < 2:
            raise ValueError(f"capacity: expected at least 2, for the root and one more, got {capacity}")
        if max_depth is not None and max_depth < 1:
            raise ValueError(f"max_depth: expected at least 1, got {max_depth}")
        self._policy, self._capacity, self._tie_noise = policy, capacity, tie_noise
        simulations, depth = num_simulations or capacity - 1, max_depth or 2**30
        nothing = jnp.zeros(0)  # `ask` brings what the policy drew
        self._run = Run(_Elsewhere(bound), policy, Full(), nothing, simulations, depth, 1, "threefry2x32", tie_noise)

    def plant(self, key: Array, root: Root) -> tuple[Grown, Array]:
        """(trees of roots alone, what the policy drew for them, which `ask` wants); key: a typed Threefry key. The
        root's state is left out."""
        batch, actions = root.logits.shape
        valid = jnp.ones((batch, actions), bool) if root.valid is None else root.valid
        each = keys_of_roots(key, batch)
        logits = masked_logits(root.logits + noise(each, root.logits, self._tie_noise), ~valid)
        logits, extra = self._policy.prepare(_for_policy(key), logits)
        return planted(each, root._replace(state=()), logits, valid, Full(), self._capacity), extra

    def ask(self, tree: Grown, extra: Array, told: Array | None = None) -> tuple[Grown, Asked]:
        """The leaf that the policy wants to see next, with a node of its own. told: [B] nodes whose outcome has come,
        the others are not gone below; none: all."""
        tree, picked = self._run._replace(extra=extra)._pick(tree, tree.used if told is None else told)
        rows = tree.nodes.rows(picked.node)
        return tree, Asked(picked, take(tree.nodes.parents, rows), take(tree.nodes.actions, rows))

    def tell(self, tree: Grown, asked: Asked, step: Step) -> Grown:
        """Takes a fresh leaf's outcome and counts the visit; of a leaf that is not fresh, the outcome is not read.

        A discount is negative where the turn goes to the other player; `expand` of an environment leaves the sign out.
        """
        tree = self._run._noted(tree, asked.picked, step._replace(state=()))
        nodes, _ = self._run._credit(tree.nodes, asked.picked, None)
        return tree.replace(nodes=nodes)


def _for_policy(key: Array) -> Array:
    """The key that `tree_search` prepares roots with."""
    apart = keys.fold_in_each(key[None], jnp.full(1, NOISE, jnp.uint32))
    return keys.fold_in_each(apart, jnp.zeros(1, jnp.int32))[0]


class _Elsewhere:
    """An environment that is not here."""

    def __init__(self, bound: float | None) -> None:
        if bound is not None:
            self.bound = bound

    def expand(self, state: Any, action: Array, key: Array) -> Step:
        raise NotImplementedError


def outcome(reward: Array, value: Array, logits: Array, done: Array, valid: Array | None = None) -> Step:
    """A step's outcome without a state, undiscounted. reward, value: f [B]; logits [B, A]; done: bool [B]."""
    discount = jnp.where(done, 0.0, jnp.ones_like(value))
    allowed = jnp.ones(logits.shape, bool) if valid is None else valid
    return Step((), reward, discount, logits, value, done, allowed)


def no_root(batch: int, num_actions: int) -> Root:
    """Roots of which nothing is known."""
    return Root((), jnp.zeros((batch, num_actions)), jnp.zeros(batch))


def path_of(tree: Grown, node: int, element: int = 0) -> tuple[int, ...]:
    """Actions from the root to a node, on the host."""
    nodes, path = jax.device_get((tree.nodes.parents, tree.nodes.actions)), []
    while node:
        at = node * tree.nodes.batch + element
        path.append(int(nodes[1][at]))
        node = int(nodes[0][at])
    return tuple(reversed(path))
