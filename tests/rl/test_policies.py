"""Policies give the probabilities of their definitions, and draws from them are frequent accordingly."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxft import draws
from jaxft.rl import policies
from jaxft.rl.policies import POLICIES

RNG = np.random.default_rng(0)
VALUES = RNG.normal(size=(40, 5)).astype(np.float32)
VALID = RNG.random((40, 5)) < 0.6
VALID[np.arange(40), RNG.integers(5, size=40)] = True
choose = jax.jit(policies.choose)
WORDS = draws.fold_in(jax.random.key_data(jax.random.key(1)), jnp.arange(20_000))


def probabilities(name: str, level: float, values=VALUES, valid=VALID) -> np.ndarray:
    return np.exp(np.asarray(POLICIES[name](jnp.asarray(values), jnp.float32(level), jnp.asarray(valid)), np.float64))


def best_of(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    return np.eye(values.shape[-1])[np.where(valid, values, -np.inf).argmax(-1)]


def test_these_are_the_policies():
    assert set(POLICIES) == {"random", "greedy", "epsilon_greedy", "boltzmann"}


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
def test_probabilities_are_those_of_the_definition(name, level):
    anyone, best = VALID / VALID.sum(-1, keepdims=True), best_of(VALUES, VALID)
    weights = np.where(VALID, np.exp((VALUES - VALUES.max()) / max(level, 1e-3)), 0)
    expected = {
        "random": anyone,
        "greedy": best,
        "epsilon_greedy": level * anyone + (1 - level) * best,
        "boltzmann": weights / np.maximum(weights.sum(-1, keepdims=True), 1e-300) if level else best,
    }[name]
    found = probabilities(name, level)
    np.testing.assert_allclose(found, expected, atol=3e-6)
    assert (found[~VALID] == 0).all()
    np.testing.assert_allclose(found.sum(-1), 1, atol=3e-6)


def test_a_cold_boltzmann_policy_is_greedy_and_a_hot_one_random():
    np.testing.assert_array_equal(probabilities("boltzmann", 0.0), probabilities("greedy", 0.0))
    np.testing.assert_allclose(probabilities("boltzmann", 1e-5), best_of(VALUES, VALID), atol=1e-12)
    np.testing.assert_allclose(probabilities("boltzmann", 1e7), probabilities("random", 0.0), atol=1e-6)
    shifted = probabilities("boltzmann", 0.5, VALUES + 1e4)  # large values overflow nothing
    np.testing.assert_allclose(shifted, probabilities("boltzmann", 0.5), atol=3e-3)


@pytest.mark.parametrize("name", POLICIES)
def test_a_single_valid_action_is_certain_whatever_the_values(name):
    values = np.array([[3.0, np.inf, -5.0]], np.float32)
    np.testing.assert_array_equal(probabilities(name, 0.5, values, np.array([[False, False, True]])), [[0, 0, 1]])


def test_entropy_is_minus_sum_p_log_p():
    for name in POLICIES:
        logs = POLICIES[name](jnp.asarray(VALUES), jnp.float32(0.4), jnp.asarray(VALID))
        expected = stats.entropy(np.exp(np.asarray(logs, np.float64)), axis=-1)
        np.testing.assert_allclose(policies.entropy(logs), expected, atol=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", POLICIES)
def test_choices_are_as_frequent_as_they_are_probable(name):
    values, valid = jnp.asarray(VALUES[0]), jnp.array([True, True, False, True, True])
    logs = POLICIES[name](values, jnp.float32(0.7), valid)
    many = jnp.broadcast_to(logs, (len(WORDS), 5))
    choice = choose(WORDS, many)
    expected = np.exp(np.asarray(logs, np.float64))
    counts = np.bincount(np.asarray(choice.action), minlength=5)
    assert (counts[expected == 0] == 0).all()
    likely = expected > 0
    if likely.sum() > 1:
        share = expected[likely] / expected[likely].sum()
        assert stats.chisquare(counts[likely], share * counts.sum()).pvalue > 1e-4
    np.testing.assert_array_equal(choice.log_prob, logs[choice.action])
    np.testing.assert_allclose(choice.entropy, float(policies.entropy(logs)), rtol=1e-6)
    best = np.asarray(logs)[choice.action] == np.asarray(logs).max()
    np.testing.assert_array_equal(choice.greedy, best)
    one = choose(WORDS[11], logs)
    assert int(one.action) == int(choice.action[11])


@pytest.mark.slow
def test_the_greedy_share_of_epsilon_greedy_is_1_minus_epsilon_and_its_part_of_the_rest():
    logs = POLICIES["epsilon_greedy"](jnp.asarray(VALUES[:1]), jnp.float32(0.4), jnp.ones((1, 5), jnp.bool_))
    choice = choose(WORDS, jnp.broadcast_to(logs, (len(WORDS), 5)))
    greedy = int(choice.greedy.sum())
    assert stats.binomtest(greedy, len(WORDS), 0.6 + 0.4 / 5).pvalue > 1e-4


def test_gaussian_density_entropy_and_draws_are_those_of_scipy():
    mean, log_std = np.array([0.5, -1.0, 2.0], np.float32), np.array([-0.5, 0.0, 0.7], np.float32)
    many = jnp.broadcast_to(mean, (len(WORDS), 3))
    choice = jax.jit(policies.gaussian)(WORDS, many, jnp.broadcast_to(log_std, many.shape))
    normal = {"loc": mean, "scale": np.exp(log_std)}
    density = stats.norm.logpdf(choice.action, **normal).sum(-1)
    np.testing.assert_allclose(choice.log_prob, density, rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(choice.entropy, stats.norm.entropy(**normal).sum(), rtol=1e-6)
    standard = (np.asarray(choice.action) - mean) / np.exp(log_std)
    assert stats.kstest(standard.ravel(), "norm").pvalue > 1e-4
    assert not choice.greedy.any()
