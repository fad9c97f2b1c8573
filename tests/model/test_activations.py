from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import ndtr

from jaxft.model.activations import ACTIVATIONS, gelu


def test_gelu_is_x_times_the_normal_distribution_function():
    x = np.linspace(-12, 12, 4001, dtype=np.float32)
    expected = x.astype(np.float64) * ndtr(x.astype(np.float64))
    np.testing.assert_allclose(gelu(x), expected, atol=1e-6)


def test_gelu_gradient():
    x = np.linspace(-12, 12, 4001, dtype=np.float32)
    wide = x.astype(np.float64)
    expected = ndtr(wide) + wide * np.exp(-0.5 * wide**2) / np.sqrt(2 * np.pi)
    np.testing.assert_allclose(jax.vmap(jax.grad(gelu))(jnp.asarray(x)), expected, atol=1e-6)


@pytest.mark.torch
@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_same_as_transformers(name):
    import torch
    from transformers.activations import ACT2FN

    x = np.linspace(-6, 6, 1001, dtype=np.float32)
    theirs = ACT2FN[name](torch.tensor(x)).numpy()
    np.testing.assert_allclose(ACTIVATIONS[name](jnp.asarray(x)), theirs, atol=1e-6)
