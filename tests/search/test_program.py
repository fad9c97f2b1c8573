"""What the compiler makes of a search: no loop copies an array of the tree's size, or shares it out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from jaxft import search
from jaxft.search.policies import Gumbel, Puct
from jaxft.search.store import Full, Slots
from jaxft.search.tree_search import tree_search
from tests.search.worlds import Hashed

POLICIES = {"puct": Puct(), "gumbel": Gumbel()}


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("store", [Full(), Slots(3)], ids=["full", "slots"])
@pytest.mark.parametrize("policy", POLICIES)
def test_no_loop_copies_a_tree(policy, store, batch):
    """Rows are read and written.

    Of a single tree XLA copies one number a node, the mean returns, on its way out of a loop that it has put into a
    function of its own.
    """
    simulations = 512
    grow = partial(tree_search, jax.random.key(5), policy=POLICIES[policy], num_simulations=simulations, store=store)
    world = Hashed(4, ends=11)
    copies = whole_copies(compiled(lambda root: grow(root, world), world.root(batch)), batch * 513)
    assert [line for line in copies if batch > 1 or f"f32[{simulations + 1}]" not in line] == []


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["muzero", "gumbel"])
def test_mctxs_policies_neither_copy_a_tree_nor_share_out_the_reading_of_its_rows(equality, policy):
    shape = equality.Shape(64, 8, 512, None, False)
    text = equality.run(search, policy, shape).lower(*equality.setting(0, shape)).compile().as_text() or ""
    assert whole_copies(text, 64 * 513) == []
    rows = [line for line in in_loops(text) if "[64" in line.split("(")[0] and "gather" in line.split("(")[0]]
    assert rows and shared(rows) == []


# --- what is looked for ----------------------------------------------------------------------------------------------


def test_a_copy_would_be_seen():
    """In a loop that rewrites a tree."""

    def rewritten(tree: jax.Array) -> jax.Array:
        return jax.lax.while_loop(lambda x: x.sum() < 5, lambda x: jnp.where(x > x.max() / 2, x, x[::-1] + 1), tree)

    assert whole_copies(compiled(rewritten, jnp.zeros(1539)), 1539)


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="with one core XLA shares nothing out")
def test_sharing_would_be_seen():
    """In a loop that reads rows of a large array as they are."""

    def read(x: jax.Array) -> jax.Array:
        def turn(at: jax.Array) -> jax.Array:
            return jnp.argmax(x[at], axis=-1).astype(jnp.int32) + at

        return jax.lax.while_loop(lambda at: at.sum() < 9, turn, jnp.arange(64, dtype=jnp.int32))

    assert shared(list(in_loops(compiled(read, jnp.zeros((2**15, 8))))))


def compiled(function: Any, argument: Any) -> str:
    """The compiled program."""
    return jax.jit(function).lower(argument).compile().as_text() or ""


def in_loops(text: str) -> Iterator[str]:
    """Lines of loop bodies, and of what they call."""
    inside = False
    for line in text.splitlines():
        if line and not line.startswith(" "):
            inside = "region" in line or "body" in line or "cond" in line
        if inside and "=" in line:
            yield line.strip()


def whole_copies(text: str, rows: int) -> list[str]:
    """Lines that copy or select an array of so many rows."""

    def heavy(line: str) -> bool:
        made = line.split("=")[1].split("(")[0]
        return any(f" {op}(" in line for op in ("copy", "select", "concatenate", "transpose")) and (
            f"[{rows}]" in made or f"[{rows}," in made
        )

    return [line for line in in_loops(text) if heavy(line)]


def shared(lines: list[str]) -> list[str]:
    """Those that run on several threads; scatters are marked so too, but never do."""
    return [line for line in lines if "outer_dimension_partitions" in line and "scatter" not in line.split("(")[0]]
