"""Axes in another order: the same values, to the bit."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft.kernels.layout import permuted


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.int32])
@pytest.mark.parametrize(
    ("shape", "axes"),
    [((1, 3), (1, 0)), ((5, 4), (1, 0)), ((3, 5, 7), (2, 0, 1)), ((2, 3, 8, 6), (2, 0, 3, 1)), ((3, 4), (0, 1))],
)
def test_permuted_is_a_transpose(shape, axes, dtype):
    x = jnp.asarray(np.random.default_rng(0).normal(scale=9, size=shape), dtype)
    found = jax.jit(permuted, static_argnums=1)(x, axes)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, np.transpose(np.asarray(x), axes))


def test_every_bit_is_kept():
    """Also those of NaNs and of numbers too small to be normal."""
    bits = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    x = jax.lax.bitcast_convert_type(jnp.asarray(bits), jnp.bfloat16)
    found = jax.lax.bitcast_convert_type(jax.jit(permuted, static_argnums=1)(x, (1, 0)), jnp.uint16)
    np.testing.assert_array_equal(found, bits.T)
