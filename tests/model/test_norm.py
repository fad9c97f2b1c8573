from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxft.model.norm import layer_norm

EPS = 1e-12


def inputs(seed: int, mean: float = 0.0):
    rng = np.random.default_rng(seed)
    x = rng.normal(mean, 2, (3, 5, 24))
    return x, rng.normal(1, 0.3, 24), rng.normal(0, 0.3, 24)


def plain(x, scale, bias):
    variance = jnp.square(x - x.mean(-1, keepdims=True)).mean(-1, keepdims=True)
    y = (x - x.mean(-1, keepdims=True)) / jnp.sqrt(variance + EPS)
    return y * jnp.broadcast_to(scale, x.shape) + jnp.broadcast_to(bias, x.shape)


def test_forward_against_f64():
    for mean in (0.0, 1000.0):
        x, scale, bias = inputs(0, mean)
        x = x.astype(np.float32)
        wide = x.astype(np.float64)
        expected = (wide - wide.mean(-1, keepdims=True)) / wide.std(-1, keepdims=True) * scale + bias
        came = layer_norm(jnp.asarray(x), jnp.float32(scale), jnp.float32(bias), EPS)
        # At 1000 the mean of 24 numbers is itself rounded to 6e-5.
        np.testing.assert_allclose(came, expected, atol=1e-5 if mean == 0 else 2e-4)


def test_gradients_against_the_derived_ones():
    x, scale, bias = (jnp.float32(part) for part in inputs(1))
    weight = jnp.float32(inputs(2)[0])
    ours = jax.grad(lambda x, s, b: (layer_norm(x, s, b, EPS) * weight).sum(), argnums=(0, 1, 2))(x, scale, bias)
    derived = jax.grad(lambda x, s, b: (plain(x, s, b) * weight).sum(), argnums=(0, 1, 2))(x, scale, bias)
    for came, expected in zip(ours, derived, strict=True):
        np.testing.assert_allclose(came, expected, atol=1e-5)


def test_a_constant_token_gives_the_bias():
    x = jnp.full((1, 1, 24), 3.0)
    _, scale, bias = (jnp.float32(part) for part in inputs(3))
    np.testing.assert_array_equal(layer_norm(x, scale, bias, EPS)[0, 0], bias)
