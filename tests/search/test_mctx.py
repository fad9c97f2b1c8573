"""mctx's names on this search: the same trees as mctx grows, to the bit, and mctx's own tests."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import unittest
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import mctx
import numpy as np
import pytest

from jaxft import search
from tests.search.worlds import mixed, number

FIELDS = [field.name for field in dataclasses.fields(search.Tree) if field.name != "extra_data"]

# --- the same results ------------------------------------------------------------------------------------------------


def model(discount: jax.Array, num_actions: int, params: Any, key: jax.Array, action: jax.Array, state: jax.Array):
    """A recurrent_fn whose reward has noise from its key."""
    state = mixed(state, action)
    step: Any = dict(
        reward=number(state, 1) + jax.random.uniform(key, state.shape),
        discount=jnp.broadcast_to(discount, state.shape),
        prior_logits=jnp.stack([4 * number(state, 20 + a) for a in range(num_actions)], -1),
        value=number(state, 2),
    )
    return step, state


def decision(num_outcomes: int, params: Any, key: jax.Array, action: jax.Array, state: jax.Array):
    state = mixed(state, action)
    chances = jnp.stack([4 * number(state, 40 + c) for c in range(num_outcomes)], -1)
    return dict(chance_logits=chances, afterstate_value=number(state, 3)), state


def chance(model: Any, params: Any, key: jax.Array, outcome: jax.Array, state: jax.Array):
    step, state = model(params, key, outcome + 100, state)
    return {"action_logits" if name == "prior_logits" else name: value for name, value in step.items()}, state


def run(module: Any, policy: str, num_actions: int, num_simulations: int, max_depth: int | None, masked: bool):
    """A jitted search by `module`'s functions: (key, states [B], logits [B, A], value, discount, mask) -> output."""

    def made(function: Any, kind: Any) -> Any:
        def wrapped(*args: Any) -> Any:
            step, state = function(*args)
            return kind(**step), state

        return wrapped

    def searched(key, state, logits, value, discount, invalid):
        root = module.RootFnOutput(prior_logits=logits, value=value, embedding=state)
        settings: Any = dict(num_simulations=num_simulations, max_depth=max_depth)
        settings["invalid_actions"] = invalid if masked else None
        step = partial(model, discount, num_actions)
        if policy == "stochastic":
            return module.stochastic_muzero_policy(
                (),
                key,
                root,
                made(partial(decision, 3), module.DecisionRecurrentFnOutput),
                made(partial(chance, step), module.ChanceRecurrentFnOutput),
                **settings,
            )
        function = {"muzero": module.muzero_policy, "gumbel": module.gumbel_muzero_policy}[policy]
        return function((), key, root, made(step, module.RecurrentFnOutput), **settings)

    return jax.jit(searched)


def setting(seed: int, batch: int, num_actions: int) -> tuple[Any, ...]:
    """Key, roots, a discount of -1, 0, 0.99 or 1, and a mask that leaves an action."""
    rng = np.random.default_rng(seed)
    invalid = rng.random((batch, num_actions)) < 0.4
    invalid[np.arange(batch), rng.integers(0, num_actions, batch)] = False
    return (
        jax.random.key(seed),
        rng.integers(0, 2**32, batch, np.uint32),
        rng.normal(size=(batch, num_actions)).astype(np.float32),
        rng.normal(size=batch).astype(np.float32),
        np.float32((-1, 0, 0.99, 1)[seed % 4]),
        invalid.astype(np.float32),
    )


def differences(ours: Any, theirs: Any) -> list[str]:
    """What is not the same, to the bit."""
    found = [name for name in ("action", "action_weights") if not same(getattr(ours, name), getattr(theirs, name))]
    trees = ours.search_tree, theirs.search_tree
    return found + [name for name in FIELDS if not same(*(getattr(tree, name) for tree in trees))]


def same(one: Any, other: Any) -> bool:
    if dataclasses.is_dataclass(one):  # chex and flax list fields in another order
        return all(same(getattr(one, field.name), getattr(other, field.name)) for field in dataclasses.fields(one))
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(a.dtype == b.dtype and np.array_equal(a, b, equal_nan=True) for a, b in pairs)


@pytest.mark.parametrize(
    ("policy", "batch", "num_actions", "num_simulations", "max_depth", "masked"),
    [("muzero", 3, 5, 24, None, True), ("gumbel", 1, 2, 17, 4, False), ("stochastic", 2, 3, 16, 5, True)],
)
def test_trees_are_mctxs_to_the_bit(policy, batch, num_actions, num_simulations, max_depth, masked):
    """A sample; benchmarks/search_equality.py runs hundreds of settings."""
    both = [run(m, policy, num_actions, num_simulations, max_depth, masked) for m in (search, mctx)]
    for seed in range(4):
        ours, theirs = (one(*setting(seed, batch, num_actions)) for one in both)
        assert differences(ours, theirs) == []


def test_a_function_of_ones_own_is_called_as_by_mctx():
    """Selection by a user's own function of the tree, through `search` itself."""

    def inside(key, tree, node, depth):
        seen = tree.children_visits[node] + 2 * (tree.children_index[node] == tree.UNVISITED)
        return jnp.argmax(tree.qvalues(node) - seen + 0.1 * jax.random.uniform(key, (tree.num_actions,)) + depth)

    def searched(module: Any) -> Any:
        key, state, logits, value, discount, _ = setting(3, 4, 3)
        root = module.RootFnOutput(prior_logits=logits, value=value, embedding=state)

        def step(*args):
            out, state = model(discount, 3, *args)
            return module.RecurrentFnOutput(**out), state

        grow = partial(module.search, (), key, root=root, recurrent_fn=step, num_simulations=20, max_depth=5)
        return grow(root_action_selection_fn=partial(inside, depth=0), interior_action_selection_fn=inside)

    ours, theirs = searched(search), searched(mctx)
    assert [name for name in FIELDS if not same(getattr(ours, name), getattr(theirs, name))] == []


def test_keys_of_the_old_kind_and_of_another_generator_do():
    for key in (jax.random.PRNGKey(7), jax.random.key(7, impl="rbg")):
        both = [run(module, "muzero", 3, 9, None, False) for module in (search, mctx)]
        ours, theirs = (one(key, *setting(1, 2, 3)[1:]) for one in both)
        assert differences(ours, theirs) == []


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
