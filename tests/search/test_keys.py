"""Random numbers of a search: those of `jax.random`, whatever the key."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft.search import keys

KEYS = {
    "typed": lambda: jax.random.split(jax.random.key(3), 7),
    "words": lambda: jax.random.split(jax.random.PRNGKey(3), 7),
    "another generator": lambda: jax.random.split(jax.random.key(3, impl="rbg"), 7),
}


def words(key: jax.Array) -> np.ndarray:
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(key) if typed else key)


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
