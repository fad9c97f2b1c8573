"""Numbers drawn on the device: jax.random's fold_in, the right distributions, each a function of its own address."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxft import draws

WORDS = jax.random.key_data(jax.random.key(3, impl="threefry2x32"))
MANY = draws.fold_in(WORDS, jnp.arange(500))
DRAWS = {
    "bits": draws.bits,
    "uniform": draws.uniform,
    "normal": draws.normal,
    "gumbel": draws.gumbel,
    "integers": lambda words, count: draws.integers(words, count, 7),
}


def test_fold_in_is_that_of_jax_random():
    numbers = jnp.array([0, 1, 7, 2**31, 2**32 - 1], jnp.uint32)
    expected = [jax.random.key_data(jax.random.fold_in(jax.random.wrap_key_data(WORDS), n)) for n in numbers]
    np.testing.assert_array_equal(draws.fold_in(WORDS, numbers), expected)
    typed = jax.vmap(jax.random.fold_in)(draws.keys(draws.fold_in(WORDS, numbers)), numbers[::-1])
    words = draws.fold_in(draws.fold_in(WORDS, numbers), numbers[::-1])
    np.testing.assert_array_equal(words, jax.random.key_data(typed))


def test_words_and_numbers_broadcast_together():
    grid = draws.fold_in(MANY[:3], jnp.arange(4)[:, None])
    assert grid.shape == (4, 3, 2)
    np.testing.assert_array_equal(grid[2, 1], draws.fold_in(MANY[1], 2))


@pytest.mark.slow
@pytest.mark.parametrize("name", DRAWS)
def test_a_number_depends_on_its_words_and_place_alone(name):
    draw = DRAWS[name]
    many = draw(MANY, 9)
    assert many.shape == (500, 9)
    np.testing.assert_array_equal(many[:, :4], draw(MANY, 4))
    np.testing.assert_array_equal(many[17], draw(MANY[17], 9))
    np.testing.assert_array_equal(many[5:7], jax.jit(draw, static_argnums=1)(MANY[5:7], 9))


def test_uniform_numbers_are_uniform_in_0_to_1_without_1():
    numbers = np.asarray(draws.uniform(MANY, 200))
    assert numbers.dtype == np.float32 and numbers.min() >= 0 and numbers.max() < 1
    assert stats.kstest(numbers.ravel(), "uniform").pvalue > 1e-4
    low = np.asarray(draws.bits(MANY, 200)) & 0xFF
    assert stats.chisquare(np.bincount(low.ravel(), minlength=256)).pvalue > 1e-4


@pytest.mark.parametrize(("name", "distribution"), [("normal", "norm"), ("gumbel", "gumbel_r")])
def test_normal_and_gumbel_numbers_have_their_distribution(name, distribution):
    numbers = np.asarray(DRAWS[name](MANY, 200))
    assert numbers.dtype == np.float32 and np.isfinite(numbers).all()
    assert stats.kstest(numbers.ravel(), distribution).pvalue > 1e-4
    before, after = numbers[:, :-1].ravel(), numbers[:, 1:].ravel()
    assert abs(np.corrcoef(before, after)[0, 1]) < 3.9 / np.sqrt(len(before))  # 1e-4, both sides together


def test_the_extremes_of_the_generator_stay_finite(monkeypatch):
    ends = jnp.array([[0, 2**32 - 1]], jnp.uint32)
    monkeypatch.setattr(draws, "bits", lambda words, count: ends)
    np.testing.assert_array_equal(draws.uniform(WORDS, 2), [[0.0, 1 - 2.0**-23]])
    assert np.isfinite(draws.normal(WORDS, 2)).all() and np.isfinite(draws.gumbel(WORDS, 2)).all()


@pytest.mark.parametrize("below", [1, 2, 7, 1000])
def test_integers_are_all_alike_likely(below):
    numbers = np.asarray(draws.integers(MANY, 200, below))
    assert numbers.dtype == np.int32 and numbers.min() >= 0 and numbers.max() < below
    counts = np.bincount(numbers.ravel(), minlength=below)
    assert below == 1 or stats.chisquare(counts).pvalue > 1e-4
    np.testing.assert_array_equal(numbers, draws.integers(MANY, 200, jnp.int32(below)))


@pytest.mark.parametrize("count", [1, 2, 5, 512])
def test_a_permutation_holds_each_number_once_and_any_place_alike(count):
    words = jnp.asarray(np.random.default_rng(0).integers(0, 2**32, (2_000, 2), dtype=np.uint32))
    orders = np.asarray(jax.jit(jax.vmap(lambda one: draws.permutation(one, count)))(words))
    assert orders.dtype == np.int32
    assert (np.sort(orders, axis=1) == np.arange(count)).all()
    if 1 < count < 10:  # where the first number goes
        placed = np.argwhere(orders == 0)[:, 1]
        assert stats.chisquare(np.bincount(placed, minlength=count)).pvalue > 1e-4
