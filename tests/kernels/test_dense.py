"""Dense layers: value and gradients against f64, and which units a bf16 program uses."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft.kernels.dense import api
from jaxft.kernels.dense.cases import CASES, Case, make

IMPLEMENTATIONS = ("xla",)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(("dtype", "bound"), [(jnp.float32, 1e-5), (jnp.bfloat16, 0.02)], ids=["f32", "bf16"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_value_and_gradients_against_float64(case: Case, dtype, bound, implementation):
    x, w, bias, gradient = make(case)

    def both(x, w, bias, gradient):
        y, back = jax.vjp(lambda x, w, bias: api.dense(x, w, bias, dtype, implementation=implementation), x, w, bias)
        return y, *back(gradient)

    wide = x.astype(np.float64), w.astype(np.float64), gradient.astype(np.float64)
    flat_x, flat_gradient = (part.reshape(-1, part.shape[-1]) for part in (wide[0], wide[2]))
    expected = wide[0] @ wide[1] + bias, wide[2] @ wide[1].T, flat_x.T @ flat_gradient, flat_gradient.sum(0)
    for found, right in zip(jax.jit(both)(x, w, bias, gradient), expected, strict=True):
        assert found.dtype == jnp.float32 and found.shape == right.shape
        assert np.abs(found - right).max() <= bound * np.abs(right).max()


def test_bf16_products_are_of_bf16_operands():
    """All three products read bf16 as they are: none was widened to f32, which on CPU is three times as slow."""
    x, w, bias, gradient = make(CASES[2])

    def back(x, w, bias, gradient):
        return jax.vjp(lambda x, w, bias: api.dense(x, w, bias, jnp.bfloat16), x, w, bias)[1](gradient)

    text = jax.jit(back).lower(x, w, bias, gradient).as_text()
    dots = [line for line in text.splitlines() if "dot_general" in line]
    assert len(dots) == 2 and all(line.count("xbf16>") == 2 and "xf32>" in line for line in dots)


def test_bad_calls_are_refused():
    with pytest.raises(ValueError, match=r"no dense layer of x \(2, 3\), w \(4, 5\), bias \(5,\)"):
        api.dense(jnp.zeros((2, 3)), jnp.zeros((4, 5)), jnp.zeros(5), jnp.float32)
    with pytest.raises(NotImplementedError, match="pallas"):
        api.choose("pallas")
