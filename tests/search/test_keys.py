"""Random numbers of a search: those of `jax.random`, whatever the key."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft.search import draws, keys
from jaxft.search.dirichlet import dirichlet

KEYS = {
    "typed": lambda: jax.random.split(jax.random.key(3), 7),
    "words": lambda: jax.random.split(jax.random.PRNGKey(3), 7),
    "another generator": lambda: jax.random.split(jax.random.key(3, impl="rbg"), 7),
}


def words(key: jax.Array) -> np.ndarray:
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(key) if typed else key)


@pytest.mark.slow
@pytest.mark.parametrize("partitionable", [True, False])
@pytest.mark.parametrize("kind", KEYS)
def test_they_are_those_of_jax(kind, partitionable):
    with jax.threefry_partitionable(partitionable):
        each = KEYS[kind]()
        expected = jax.vmap(jax.random.split)(each)
        first, second = keys.split_each(each, jnp.int32(1))
        np.testing.assert_array_equal(words(first), words(expected[:, 0]))
        np.testing.assert_array_equal(words(second), words(expected[:, 1]))
        numbers = jnp.arange(7, dtype=jnp.uint32) + jnp.uint32(2**31)
        folded = jax.vmap(jax.random.fold_in)(each, numbers)
        np.testing.assert_array_equal(words(keys.fold_in_each(each, numbers)), words(folded))
        for count in (1, 2, 5, 33):
            drawn = jax.vmap(lambda key, count=count: keys.uniform(key, count))(each)
            np.testing.assert_array_equal(drawn, jax.vmap(lambda key, n=count: jax.random.uniform(key, (n,)))(each))
        plain, straight = (jax.vmap(jax.random.normal)(x) for x in (each, keys.straight(each)))
        np.testing.assert_array_equal(straight, plain)
        first, second = keys.split_twice(each[0], 3)
        np.testing.assert_array_equal(words(first), words(jax.random.split(each[0], 3)))
        np.testing.assert_array_equal(words(second), words(jax.random.split(first[0], 3)))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KEYS)
def test_levels_of_a_descent_draw_what_splitting_a_key_at_each_gives(kind):
    key, batch, sure = KEYS[kind]()[0], 4, jnp.int32(1)
    drawing = draws.noise(key, 3), draws.OfKeys()
    states = [one.first(key, batch, sure) for one in drawing]
    each = jax.random.split(key, batch)
    for _ in range(4):
        both = jax.vmap(jax.random.split)(each)
        each, now = both[:, 0], both[:, 1]
        noise, drawn = (one.drawn(state) for one, state in zip(drawing, states, strict=True))
        np.testing.assert_array_equal(noise, jax.vmap(lambda key: jax.random.uniform(key, (3,)))(now))
        np.testing.assert_array_equal(words(drawn), words(now))
        states = [one.following(state, sure) for one, state in zip(drawing, states, strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(3, 5), (600, 8)])
def test_dirichlet_noise_is_that_of_jax(shape):
    ours = jax.jit(lambda key: dirichlet(key, 0.3, shape))
    theirs = jax.jit(lambda key: jax.random.dirichlet(key, jnp.full(shape[1:], 0.3), shape[:1]))
    for key in KEYS["typed"]():
        np.testing.assert_array_equal(ours(key), theirs(key))


@pytest.mark.slow
def test_dirichlet_noise_takes_a_parameter_for_each_action():
    key, alpha = jax.random.key(1), jnp.array([0.1, 0.9, 1.0, 7.0])
    expected = jax.random.dirichlet(key, alpha, (40,))
    np.testing.assert_allclose(dirichlet(key, alpha, (40, 4)), expected, rtol=1e-5, atol=1e-30)
