"""Optimisers and schedules, against the formulas written out in NumPy, f64."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxft.recipe import Optim
from jaxft.train import optim

pytestmark = pytest.mark.usefixtures("promotion_for_optax")

STEPS = 12
PATHS = {("layer", "kernel"): (4, 3), ("layer", "bias"): (3,), ("norm", "scale"): (4,), ("word",): (5, 4)}
DECAYING = {("layer", "kernel"), ("word",)}


def draw(seed: int, scale: float = 1.0) -> dict:
    rng = np.random.default_rng(seed)
    return {path: (scale * rng.standard_normal(shape)).astype(np.float32) for path, shape in PATHS.items()}


def gradients() -> list[dict]:
    """Norms on both sides of 1, so that clipping sometimes happens."""
    return [draw(100 + step, scale=0.02 * 2**step) for step in range(STEPS)]


def take_steps(chosen: Optim) -> dict:
    """Parameters after STEPS steps of the real optimiser."""
    optimiser = optim.make(chosen, STEPS)
    params: Any = jax.tree.map(jnp.asarray, draw(0))
    state, update = optimiser.init(params), jax.jit(optimiser.update)
    for grads in gradients():
        updates, state = update(jax.tree.map(jnp.asarray, grads), state, params)
        params = optax.apply_updates(params, updates)
    return params


def by_formula(chosen: Optim) -> dict:
    """θ ← θ − η·u − ηλθ, λ on kernels and embeddings only; u: Adam's step, or the gradient with momentum."""
    theta = {path: values.astype(np.float64) for path, values in draw(0).items()}
    first, second, trace = ({path: np.zeros(shape) for path, shape in PATHS.items()} for _ in range(3))
    for step, grads in enumerate(gradients()):
        grads = {path: values.astype(np.float64) for path, values in grads.items()}
        norm = np.sqrt(sum((values**2).sum() for values in grads.values()))
        clip = 1.0 if chosen.clip_norm is None else min(1.0, chosen.clip_norm / norm)
        rate = learning_rate(chosen, step)
        for path in PATHS:
            g = clip * grads[path]
            if chosen.name == "adamw":
                first[path] = chosen.b1 * first[path] + (1 - chosen.b1) * g
                second[path] = chosen.b2 * second[path] + (1 - chosen.b2) * g**2
                m, v = first[path] / correction(chosen.b1, step), second[path] / correction(chosen.b2, step)
                u = m / (np.sqrt(v) + chosen.eps)
            else:
                u = trace[path] = g + chosen.momentum * trace[path]
            decay = chosen.weight_decay if path in DECAYING else 0.0
            theta[path] = theta[path] - rate * u - rate * decay * theta[path]
    return theta


def correction(decay: float, step: int) -> float:
    """1 - decay^(step + 1) as optax takes it, in f32: with 0.999 it is 6e-5 off at first, which moves u by 3e-5."""
    return float(np.float32(1) - np.float32(decay) ** np.float32(step + 1))


def learning_rate(chosen: Optim, step: int) -> float:
    """Linear warm-up from 0, then to 0 at STEPS in a line or half a cosine, or constant."""
    warmup = round(chosen.warmup * STEPS)
    if step < warmup:
        return chosen.learning_rate * step / warmup
    done = (step - warmup) / (STEPS - warmup)
    left = {"linear": 1 - done, "cosine": (1 + np.cos(np.pi * done)) / 2, "constant": 1.0}[chosen.schedule]
    return chosen.learning_rate * left


BASE = Optim(learning_rate=0.1, warmup=0.25, weight_decay=0.1, clip_norm=1.0)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"clip_norm": None},
        {"weight_decay": 0.0},
        {"schedule": "cosine"},
        {"schedule": "constant", "warmup": 0.0},
        {"b1": 0.8, "b2": 0.95, "eps": 1e-6},
        {"name": "sgd"},
        {"name": "sgd", "momentum": 0.9},
        {"name": "sgd", "clip_norm": None, "weight_decay": 0.0},
    ],
    ids=str,
)
def test_the_update_is_the_formula(change):
    chosen = dataclasses.replace(BASE, **change)
    found, expected = take_steps(chosen), by_formula(chosen)
    for path in PATHS:
        np.testing.assert_allclose(found[path], expected[path], rtol=2e-6, atol=1e-6, err_msg=str(path))


def test_adamw_is_that_of_optax():
    chosen = dataclasses.replace(BASE, clip_norm=None)
    theirs = optax.adamw(optim.schedule(chosen, STEPS), weight_decay=0.1, mask=optim.decays)
    params: Any = jax.tree.map(jnp.asarray, draw(0))
    state = theirs.init(params)
    for grads in gradients():
        updates, state = theirs.update(jax.tree.map(jnp.asarray, grads), state, params)
        params = optax.apply_updates(params, updates)
    for path, values in take_steps(chosen).items():
        np.testing.assert_allclose(values, params[path], rtol=1e-6, atol=1e-7)


def test_weights_decay_even_where_the_gradient_is_0():
    chosen = Optim(name="sgd", learning_rate=0.5, schedule="constant", warmup=0.0, weight_decay=0.1)
    optimiser, params = optim.make(chosen, 1), jax.tree.map(jnp.asarray, draw(0))
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimiser.update(zeros, optimiser.init(params), params)
    decayed: Any = optax.apply_updates(params, updates)
    for path, values in decayed.items():
        np.testing.assert_allclose(values, params[path] * (0.95 if path in DECAYING else 1.0), rtol=1e-6)


def test_biases_and_layer_norms_do_not_decay():
    assert {path for path, decays in optim.decays(draw(0)).items() if decays} == DECAYING


@pytest.mark.parametrize("name", ["linear", "cosine", "constant"])
@pytest.mark.parametrize("warmup", [0.0, 0.25, 1.0])
def test_schedules(name, warmup):
    chosen = dataclasses.replace(BASE, schedule=name, warmup=warmup)
    schedule: Any = optim.schedule(chosen, STEPS)
    rates = [float(schedule(step)) for step in range(STEPS)]
    np.testing.assert_allclose(rates, [learning_rate(chosen, step) for step in range(STEPS)], rtol=1e-6, atol=1e-9)
    assert rates[0] == pytest.approx(0.1 if warmup == 0 else 0.0)


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_the_rate_reaches_0_at_the_end(name):
    chosen = dataclasses.replace(BASE, schedule=name)
    schedule: Any = optim.schedule(chosen, STEPS)
    assert float(schedule(STEPS)) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(("norm", "expected"), [(0.5, 0.5), (1.0, 1.0), (8.0, 1.0), (0.0, 0.0)])
def test_clipping_leaves_no_more_than_the_limit(norm, expected):
    grads = {("a",): jnp.asarray([norm * 0.6, 0.0], jnp.float32), ("b",): jnp.asarray([norm * 0.8], jnp.float32)}
    clip = optim.clip(1.0)
    clipped, _ = clip.update(grads, clip.init(grads), grads)
    assert float(optax.tree.norm(clipped)) == pytest.approx(expected, rel=1e-6)
