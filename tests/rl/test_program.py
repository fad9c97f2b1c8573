"""A run's bits hang on its recipe alone: not on devices, on other seeds, on the order of exploration."""

from __future__ import annotations

import os
from typing import Any

import jax
import numpy as np
import pytest

from jaxft.rl import crowd, rollout
from jaxft.rl.crowd import Apart, Together
from jaxft.rl.envs import grid
from jaxft.rl.loop import nested
from jaxft.rl.setup import Setup, set_up
from jaxft.train.hashes import params_sha256
from tests.rl.worlds import recipe_of

pytestmark = pytest.mark.usefixtures("walk")
ITERATIONS = 6
DEVICES = (1, 2, 4, 8) if os.environ.get("JAXFT_TEST_ALL_DEVICES") else (1, 8)
"""Each number of them is a compilation of a quarter of a minute."""


def sha256(state: Any) -> str:
    """Of all that a seed's run consists of but its memory."""
    leaves = jax.tree.leaves((state.learner.optimiser, state.groups.actors))
    rest = {f"rest_{at}": np.asarray(leaf).reshape(-1) for at, leaf in enumerate(leaves)}
    return params_sha256({"params": nested(state.learner.trainable), **rest})


def trained(setup: Setup) -> dict[int, str]:
    """Seed -> hash after some iterations."""
    runs = crowd.of(setup)
    reports = runs.advance(setup.seeds, ITERATIONS)
    assert all(int(report.updates) > 0 and np.isfinite(report.learned["loss"]) for report in reports.values())
    return {seed: sha256(runs.to_host(seed)) for seed in setup.seeds}


@pytest.mark.slow
@pytest.mark.parametrize("agent", ["dqn", "ppo"])
def test_any_number_of_devices_gives_the_same_bits(agent):
    """1 and 8; with JAXFT_TEST_ALL_DEVICES=1 also 2 and 4."""
    hashes = {}
    for devices in DEVICES:
        setup = set_up(recipe_of(agent=agent, train__micro_batches=8, mesh__data=devices))
        assert setup.program().mesh.size == devices
        hashes[devices] = trained(setup)[0]
    assert len(set(hashes.values())) == 1, hashes


@pytest.mark.slow
def test_a_seed_gives_the_same_bits_alone_and_among_others():
    among = trained(set_up(recipe_of(seeds=3)))
    assert len(set(among.values())) == 3
    assert trained(set_up(recipe_of(seed=2))) == {2: among[2]}


@pytest.mark.slow
def test_going_on_from_a_copy_on_the_host_is_the_same_as_not_having_stopped():
    setup = set_up(recipe_of(seeds=3))
    straight, halted = Apart(setup), Apart(setup)
    straight.advance([1], ITERATIONS)
    halted.advance([1], 2)
    copy = halted.to_host(1)
    other = Apart(setup)
    other.advance([1], 5)  # what was there before leaves no trace
    other.put(1, copy)
    other.advance([1], ITERATIONS - 2)
    assert sha256(other.to_host(1)) == sha256(straight.to_host(1))
    assert sha256(other.to_host(0)) == sha256(straight.to_host(0))  # a seed that was not asked for stays


@pytest.mark.slow
def test_each_program_is_compiled_once_for_all_seeds_and_rounds():
    compiled = []
    runs = Apart(set_up(recipe_of(seeds=3)), compiled.append)
    for number in range(3):
        runs.advance([0, 1, 2], number + 1)
        runs.score([0, 2], number)
    assert compiled == ["the beginning", "collecting and learning", "evaluation"]
    assert runs.compile_s > 0


@pytest.mark.slow
def test_all_seeds_in_one_vectorised_program_differ_by_rounding_alone():
    setup, fast = (set_up(recipe_of(seeds=3, numerics=numerics)) for numerics in ("canonical", "fast"))
    apart, together = crowd.of(setup), crowd.of(fast)
    assert (type(apart), type(together)) == (Apart, Together)
    for runs in (apart, together):
        runs.advance(range(3), 3)
    for seed in range(3):
        one, two = apart.to_host(seed), together.to_host(seed)
        np.testing.assert_array_equal(one.groups.actors.number, two.groups.actors.number)
        for path, leaf in one.learner.trainable.items():
            np.testing.assert_allclose(leaf, two.learner.trainable[path], atol=1e-4)
    state = together.to_host(2)
    together.put(0, state)
    assert sha256(together.to_host(0)) == sha256(state) != sha256(together.to_host(1))


@pytest.mark.slow
def test_the_stream_of_exploration_moves_no_other_draw():
    usual, other = (set_up(recipe_of(seeds__explore=explore)) for explore in (None, 9))
    one, two = usual.words(0), other.words(0)
    np.testing.assert_array_equal(np.stack(one[1:]), np.stack(two[1:]))  # order, environment, evaluation
    assert (np.asarray(one.explore) != np.asarray(two.explore)).any()
    jax.tree.map(np.testing.assert_array_equal, usual.parameters(0), other.parameters(0))
    states = [Apart(setup).to_host(0) for setup in (usual, other)]
    jax.tree.map(np.testing.assert_array_equal, *states)  # resets, parameters, optimiser
    streams = [set_up(recipe_of(seeds__environment=7)).words(0), one]
    differ = [bool((np.asarray(a) != np.asarray(b)).any()) for a, b in zip(*streams, strict=True)]
    assert dict(zip(rollout.Words._fields, differ, strict=True)) == {
        "explore": False, "order": False, "environment": True, "evaluation": True,
    }  # fmt: skip


@pytest.mark.slow
def test_environments_have_the_same_numbers_and_starts_in_any_number_of_groups():
    one, eight = (Apart(set_up(recipe_of(train__micro_batches=groups))).to_host(0).groups for groups in (1, 8))
    assert one.actors.number.shape == (1, 8) and eight.actors.number.shape == (8, 1)
    flat = [groups.actors._replace(steps=np.zeros((1, 8))) for groups in (one, eight)]
    flat = [jax.tree.map(lambda x: x.reshape(8, *x.shape[2:]), actors) for actors in flat]
    jax.tree.map(np.testing.assert_array_equal, *flat)
    assert one.memory.added.shape == (1,) and eight.memory.data.action.shape == (8, 256 // 8)


# --- a table: exact solutions ----------------------------------------------------------------------------------------


def table(slip: float, iterations: int, learning_rate: float) -> tuple[np.ndarray, grid.Gridworld]:
    """Q-learning on gridworld, as recipes/rl/gridworld.yaml has it, but shorter."""
    explore = {"policy": "boltzmann", "schedule": "constant", "start": 0.5}
    steps = {"num_envs": 1024, "rollout": 32, "steps": 1024 * 32 * iterations, "options": f"slip={slip}"}
    optim = {"optim__name": "sgd", "optim__learning_rate": learning_rate, "optim__schedule": "linear"}
    recipe = recipe_of(env="gridworld", agent="q_learning", discount=0.95, explore=explore, **steps, **optim)
    setup = set_up(recipe)
    runs = Apart(setup)
    runs.advance([0], setup.iterations)
    env = setup.env
    assert isinstance(env, grid.Gridworld)
    return runs.to_host(0).learner.trainable[("table",)], env


@pytest.mark.slow
def test_q_learning_finds_the_exact_values_of_a_world_without_chance():
    Q, env = table(0.0, 60, 1.0)
    best = grid.value_iteration(env.P, env.R, 0.95, 1e-12)
    going_on = ~grid._ENDS
    np.testing.assert_allclose(Q[going_on], best[going_on], atol=1e-3)
    np.testing.assert_array_equal(Q[~going_on], 0)


@pytest.mark.slow
def test_q_learning_reaches_the_optimal_value_of_a_slippery_world():
    Q, env = table(0.2, 100, 0.4)
    best = grid.value_iteration(env.P, env.R, 0.95, 1e-12)
    # what the learned policy is worth, exactly
    policy = Q.argmax(axis=1)
    rows = np.arange(len(policy))
    worth = np.linalg.solve(np.eye(len(policy)) - 0.95 * env.P[rows, policy], env.R[rows, policy])
    going_on = ~grid._ENDS
    np.testing.assert_allclose(worth[going_on], best.max(axis=1)[going_on], atol=1e-3)
    # The values themselves have the sampling noise of 3,300,000 steps; the recipe's 400,000,000 leave 0.0006.
    np.testing.assert_allclose(Q.max(axis=1)[going_on], best.max(axis=1)[going_on], atol=0.02)
