"""Schedules of exploration: pure functions of the step and of the returns, with the right ends, monotone between."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft.rl import schedules
from jaxft.rl.program import _with_returns  # the running mean that adaptive exploration goes by
from jaxft.rl.recipe import Explore

STEPS = 1000


def levels(explore: Explore, close: float = 0.0) -> np.ndarray:
    """At every tenth step."""
    at = jnp.arange(0, STEPS + 1, 10, dtype=jnp.int32)
    done = schedules.progress(explore, at, STEPS)
    return np.asarray(schedules.level(explore, done, jnp.full_like(done, close)), np.float64)


def test_these_are_the_schedules():
    assert set(schedules.LEVELS) == {"constant", "linear", "exponential", "adaptive"}


@pytest.mark.parametrize("schedule", ["linear", "exponential"])
@pytest.mark.parametrize(("start", "end"), [(1.0, 0.05), (0.1, 2.0)])
def test_levels_go_from_start_to_end_without_turning_and_stay_there(schedule, start, end):
    found = levels(Explore(schedule=schedule, start=start, end=end, over=0.4))
    np.testing.assert_allclose(found[[0, 40]], [start, end], rtol=1e-6)
    np.testing.assert_allclose(found[40:], end, rtol=1e-6)
    assert (np.sign(end - start) * np.diff(found[:41]) > 0).all()
    middle = (start + end) / 2 if schedule == "linear" else np.sqrt(start * end)
    np.testing.assert_allclose(found[20], middle, rtol=1e-5)


def test_a_constant_level_is_its_start():
    np.testing.assert_array_equal(levels(Explore(schedule="constant", start=0.25, end=3.0), close=0.5), 0.25)


def test_a_level_is_a_function_of_the_step_alone():
    explore = Explore(schedule="linear", over=0.3)
    alone = [float(schedules.level(explore, schedules.progress(explore, jnp.int32(n), STEPS), jnp.float32(0)))
             for n in range(0, 101, 10)]  # fmt: skip
    np.testing.assert_array_equal(levels(explore)[:11], np.array(alone, np.float32))
    jitted = jax.jit(lambda n: schedules.level(explore, schedules.progress(explore, n, STEPS), jnp.float32(0)))
    np.testing.assert_allclose(float(jitted(jnp.int32(50))), alone[5], rtol=1e-6)


def test_adaptive_exploration_follows_the_returns_there_and_back():
    explore = Explore(schedule="adaptive", start=1.0, end=0.1)
    returns = jnp.array([20.0, 65.0, 110.0, 65.0, 5.0, 300.0])
    close = schedules.closeness(returns, jnp.float32(20.0), 110.0)
    np.testing.assert_allclose(close, [0, 0.5, 1, 0.5, 0, 1], atol=1e-6)
    found = schedules.level(explore, jnp.zeros_like(close), close)
    np.testing.assert_allclose(found, [1.0, 0.55, 0.1, 0.55, 1.0, 0.1], atol=1e-6)
    assert levels(explore)[0] == levels(explore)[-1] == 1.0  # time alone moves nothing


def test_whoever_begins_at_the_threshold_has_nothing_left_to_find():
    np.testing.assert_array_equal(schedules.closeness(jnp.array([7.0, 9.0]), jnp.float32(9.0), 7.0), [1.0, 1.0])


def test_returns_of_finished_episodes_are_smoothed_each_with_the_same_weight():
    from jaxft.rl.agents.base import Learner
    from jaxft.rl.rollout import Told

    nan, zero = jnp.float32(jnp.nan), jnp.float32(0)
    learner = Learner({}, {}, (), (), jnp.int32(0), jnp.int32(0), nan, nan)

    def after(learner: Learner, mean: float, episodes: int) -> Learner:
        told = Told(jnp.float32(mean * episodes), zero, jnp.float32(episodes), zero, zero, zero, jnp.uint32(0))
        return _with_returns(learner, told)

    assert np.isnan(after(learner, 0.0, 0).mean_return)
    learner = after(learner, 20.0, 3)
    assert float(learner.mean_return) == float(learner.first_return) == 20.0
    at_once, one_by_one = after(learner, 50.0, 4), learner
    for _ in range(4):
        one_by_one = after(one_by_one, 50.0, 1)
    np.testing.assert_allclose(at_once.mean_return, one_by_one.mean_return, rtol=1e-6)
    np.testing.assert_allclose(at_once.mean_return, 50 - 30 * (1 - schedules.SMOOTHING) ** 4, rtol=1e-6)
    assert float(at_once.first_return) == 20.0
