"""mctx's names on this search: the same trees as mctx grows, to the bit, and mctx's own tests."""

from __future__ import annotations

import importlib
import inspect
import unittest
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import mctx
import pytest

from jaxft import search

# --- the same results ------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("policy", "shape"),
    [("muzero", (3, 5, 24, None, True)), ("gumbel", (1, 2, 17, 4, False)), ("stochastic", (2, 3, 16, 5, True))],
)
def test_trees_are_mctxs_to_the_bit(equality, policy, shape):
    """A sample; the script runs hundreds of settings."""
    shape = equality.Shape(*shape)
    both = [equality.run(module, policy, shape) for module in (search, mctx)]
    for seed in range(4):
        ours, theirs = (one(*equality.setting(seed, shape)) for one in both)
        assert equality.differences(ours, theirs) == []


@pytest.mark.slow
def test_a_function_of_ones_own_is_called_as_by_mctx(equality):
    """Selection by a user's own function of the tree, through `search` itself."""

    def inside(key, tree, node, depth):
        seen = tree.children_visits[node] + 2 * (tree.children_index[node] == tree.UNVISITED)
        return jnp.argmax(tree.qvalues(node) - seen + 0.1 * jax.random.uniform(key, (tree.num_actions,)) + depth)

    def searched(module: Any) -> Any:
        key, state, logits, value, discount, _ = equality.setting(3, equality.Shape(4, 3, 20, 5, False))
        root = module.RootFnOutput(prior_logits=logits, value=value, embedding=state)

        def step(*args):
            out, state = equality.hashed(3, discount, noise=1.0)(*args)
            return module.RecurrentFnOutput(**out), state

        grow = partial(module.search, (), key, root=root, recurrent_fn=step, num_simulations=20, max_depth=5)
        return grow(root_action_selection_fn=partial(inside, depth=0), interior_action_selection_fn=inside)

    ours, theirs = searched(search), searched(mctx)
    assert [f for f in equality.FIELDS if not equality.same(getattr(ours, f), getattr(theirs, f))] == []


@pytest.mark.slow
def test_keys_of_the_old_kind_and_of_another_generator_do(equality):
    shape = equality.Shape(2, 3, 9, None, False)
    for key in (jax.random.PRNGKey(7), jax.random.key(7, impl="rbg")):
        both = [equality.run(module, "muzero", shape) for module in (search, mctx)]
        ours, theirs = (one(key, *equality.setting(1, shape)[1:]) for one in both)
        assert equality.differences(ours, theirs) == []


# --- names -----------------------------------------------------------------------------------------------------------


def test_every_public_name_is_there_with_its_parameters():
    assert set(mctx.__all__) <= set(search.__all__)
    for name in mctx.__all__:
        theirs = getattr(mctx, name)
        if inspect.isfunction(theirs):
            expected = {n: p.kind for n, p in inspect.signature(theirs).parameters.items()}
            assert {n: p.kind for n, p in inspect.signature(getattr(search, name)).parameters.items()} == expected
    shown = {name for name in dir(mctx.Tree) if not name.startswith("_")} - set(dir(mctx.RootFnOutput))
    assert shown <= {*dir(search.Tree), *search.Tree.__dataclass_fields__}


# --- mctx's own tests ------------------------------------------------------------------------------------------------

CASES = ("tree_test", "policies_test", "mctx_test")


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_mctxs_own_tests_pass(name, monkeypatch):
    """The tests that mctx installs, with this package in mctx's place wherever they use its public names."""
    before = jax.config.jax_threefry_partitionable  # type: ignore[attr-defined]
    try:
        cases = importlib.import_module(f"mctx._src.tests.{name}")
        jax.config.update("jax_threefry_partitionable", False)  # as their stored trees were made
        monkeypatch.setattr(cases, "mctx", search)
        monkeypatch.chdir(Path(mctx.__file__).parent)  # where their data is looked for
        result = unittest.TestResult()
        unittest.defaultTestLoader.loadTestsFromModule(cases).run(result)
    finally:
        jax.config.update("jax_threefry_partitionable", before)
    assert result.testsRun > 0 and not result.skipped
    assert [text for _, text in (*result.errors, *result.failures)] == []
