"""Trees valued anew: against a plain recursive computation, on random trees."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft.search.policies import Expected
from jaxft.search.reanalyse import reanalyse
from jaxft.search.tree import NONE, Nodes, View

BATCH, NUM_NODES, ACTIONS = 4, 12, 3
F = np.float32


@dataclass
class Node:
    expected: np.ndarray
    valid: np.ndarray
    parent: Node | None = None
    action: int = NONE
    reward: np.float32 = F(0)
    discount: np.float32 = F(1)
    solved: bool = False
    value: np.float32 = F(0)
    children: dict[int, Node] = field(default_factory=dict)
    number: int = 0

    def q(self, open_only: bool) -> dict[int, np.float32]:
        """Of the actions that are tried, once values are."""
        return {a: F(one.reward + F(one.discount * one.revalued(open_only))) for a, one in self.children.items()}

    def revalued(self, open_only: bool) -> np.float32:
        """By the definition: of the best action; solved nodes keep what they have."""
        if self.solved:
            return self.value
        q = {a: self.expected[a] for a in range(ACTIONS)} | self.q(open_only)
        counts = [a for a in range(ACTIONS) if self.valid[a] and not (open_only and self.closed(a))]
        return max(q[a] for a in counts) if counts else self.value

    def closed(self, action: int) -> bool:
        return action in self.children and self.children[action].solved


def grown(seed: int) -> list[Node]:
    """A random tree: nodes in the order in which they came, some of them solved, with all below or not."""
    draw = np.random.default_rng(seed)

    def node(**facts: Any) -> Node:
        valid = draw.random(ACTIONS) < 0.7
        valid[draw.integers(ACTIONS)] = True
        return Node(draw.normal(size=ACTIONS).astype(F), valid, value=F(draw.normal()), **facts)

    nodes = [node()]
    for _ in range(int(draw.integers(NUM_NODES))):
        open_ = [(one, a) for one in nodes for a in range(ACTIONS) if one.valid[a] and a not in one.children]
        if not open_:
            break
        parent, action = open_[draw.integers(len(open_))]
        discount = F(draw.choice([0.0, 0.9, 1.0, -1.0]))
        child = node(parent=parent, action=action, reward=F(draw.normal()), discount=discount, number=len(nodes))
        parent.children[action] = child
        nodes.append(child)
    for one in reversed(nodes):
        allowed = np.flatnonzero(one.valid)
        one.solved = (not one.children and draw.random() < 0.5) or all(one.closed(int(a)) for a in allowed)
    return nodes


def arrays(trees: list[list[Node]]) -> tuple[Nodes, np.ndarray]:
    """The trees as the search holds them, with garbage where it holds nothing; what is expected [R, A]."""
    batch, garbage = len(trees), np.random.default_rng(0)
    rows = NUM_NODES * batch

    def some(*shape: int) -> np.ndarray:
        return garbage.normal(size=shape).astype(F)

    f: dict[str, Any] = {name: some(rows) for name in ("values", "raw_values", "rewards", "discounts")}
    f |= {name: np.full(rows, NONE, np.int32) for name in ("parents", "actions")}
    f |= {name: some(rows, ACTIONS) for name in ("child_q", "logits", "priors")}
    f |= {"children": np.full((rows, ACTIONS), NONE, np.int32), "child_visits": np.zeros((rows, ACTIONS), np.int32)}
    f |= {"valid": np.zeros((rows, ACTIONS), bool), "child_solved": np.zeros((rows, ACTIONS), bool)}
    f |= {name: np.zeros(rows, np.int32) for name in ("visits", "depths")}
    f |= {"solved": np.zeros(rows, bool), "done": np.zeros(rows, bool), "keys": np.zeros((rows, 2), np.uint32)}
    expected = some(rows, ACTIONS)
    for element, nodes in enumerate(trees):
        for one in nodes:
            row = one.number * batch + element
            f["valid"][row], expected[row] = one.valid, one.expected
            f["values"][row], f["solved"][row] = one.value, one.solved
            if one.parent is not None:
                above = one.parent.number * batch + element
                f["parents"][row], f["actions"][row] = one.parent.number, one.action
                f["rewards"][row], f["discounts"][row] = one.reward, one.discount
                f["children"][above, one.action] = one.number
                f["child_solved"][above, one.action] = one.solved
    return Nodes(**{name: jnp.asarray(x) for name, x in f.items()}, states=(), batch=batch), expected


@pytest.fixture(scope="module")
def revalue() -> dict[bool, Any]:
    return {
        open_only: jax.jit(lambda nodes, expected, to=open_only: reanalyse(nodes, expected, open_only=to))
        for open_only in (False, True)
    }


@pytest.mark.parametrize("open_only", [False, True])
def test_values_are_those_of_the_definition(revalue, open_only):
    """Of every node, roots included, and of every edge; nothing else changes."""
    solved = inner = 0
    for seed in range(60):
        trees = [grown(BATCH * seed + element) for element in range(BATCH)]
        before, expected = arrays(trees)
        after = revalue[open_only](before, expected)
        values, q = np.asarray(after.values), np.asarray(after.child_q)
        for element, nodes in enumerate(trees):
            for one in nodes:
                row = one.number * BATCH + element
                np.testing.assert_allclose(values[row], one.revalued(open_only), rtol=1e-5, atol=1e-6)
                for action, found in one.q(open_only).items():
                    np.testing.assert_allclose(q[row, action], found, rtol=1e-5, atol=1e-6)
                if one.solved:
                    solved += 1
                    inner += bool(one.children)
                    assert values[row] == one.value, "exact values stay to the bit"
        assert np.array_equal(after.logits, expected)
        for name in ("children", "parents", "actions", "rewards", "discounts", "solved", "child_solved", "visits"):
            assert np.array_equal(getattr(after, name), getattr(before, name)), name
    assert solved > 100 and inner > 10


def test_trees_do_not_see_each_other(revalue):
    trees = [grown(seed) for seed in (7, 8, 9, 11)]
    nodes, expected = arrays(trees)
    together = revalue[True](nodes, expected).values
    others, more = arrays([grown(1), trees[1], grown(2), grown(3)])
    apart = revalue[True](others, more).values
    rows = [one.number * BATCH + 1 for one in trees[1]]
    assert np.array_equal(np.asarray(together)[rows], np.asarray(apart)[rows])


def test_the_policy_takes_the_greatest_return_of_what_is_open(revalue):
    """Never what is not valid, nor what is solved as long as something is open; it plays the best, solved or not."""
    policy = Expected()

    def both(nodes: Nodes, element: Any, number: Any) -> tuple[Any, Any, Any]:
        view = View(nodes, element, None)
        key = jax.random.key(0)
        return policy.inside(view, number), policy.at_root(view, 9), policy.choose(key, view)[0]

    chosen = jax.jit(both)
    checked = 0
    for seed in range(25):
        trees = [grown(BATCH * seed + element) for element in range(BATCH)]
        nodes = revalue[True](*arrays(trees))
        for element, tree in enumerate(trees):
            for one in tree[:3]:
                q = {a: one.expected[a] for a in range(ACTIONS)} | one.q(True)
                valid = np.flatnonzero(one.valid).tolist()
                open_ = [a for a in valid if not one.closed(a)]
                inside, at_root, played = (int(x) for x in chosen(nodes, element, one.number))
                if open_:
                    assert inside == max(open_, key=lambda a, q=q: q[a])
                    checked += len(open_) < len(valid) and max(valid, key=lambda a, q=q: q[a]) not in open_
                if one.parent is None:
                    assert not open_ or at_root == inside
                    assert played == max(valid, key=lambda a, q=q: q[a])
    assert checked > 5
