"""Losses against PyTorch, against their formulas, and blind to absent targets."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft import tasks
from jaxft.tasks import losses

RNG = np.random.default_rng(0)
C = 5
LOGITS = (3 * RNG.normal(size=(4, 6, C))).astype(np.float32)
TARGETS = RNG.integers(-1, C, size=(4, 6)).astype(np.int32)
VECTORS = np.where(TARGETS[..., None] < 0, -1, RNG.integers(0, 2, size=(4, 6, C))).astype(np.float32)
WEIGHTS = RNG.uniform(0.2, 3, size=C).astype(np.float32)


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.4])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_cross_entropy_is_torchs(smoothing, weights):
    import torch

    logits = torch.tensor(LOGITS.reshape(-1, C), requires_grad=True)
    kwargs = {
        "weight": None if weights is None else torch.tensor(weights),
        "label_smoothing": smoothing,
        "ignore_index": -1,
    }
    targets = torch.tensor(TARGETS.reshape(-1), dtype=torch.long)
    total = torch.nn.functional.cross_entropy(logits, targets, reduction="sum", **kwargs)
    mean = torch.nn.functional.cross_entropy(logits, targets, reduction="mean", **kwargs)
    mean.backward()

    def ours(x):
        values, counts = losses.cross_entropy(x, jnp.asarray(TARGETS), label_smoothing=smoothing, class_weights=weights)
        return values.sum() / counts.sum(), (values.sum(), values)

    (value, (summed, values)), gradient = jax.value_and_grad(ours, has_aux=True)(jnp.asarray(LOGITS))
    assert values.dtype == jnp.float32 and values.shape == TARGETS.shape
    np.testing.assert_allclose(summed, total.item(), rtol=2e-6)
    np.testing.assert_allclose(value, mean.item(), rtol=2e-6)
    assert logits.grad is not None
    np.testing.assert_allclose(gradient, logits.grad.numpy().reshape(LOGITS.shape), atol=1e-7)


@pytest.mark.torch
def test_binary_cross_entropy_is_torchs():
    import torch

    present = TARGETS >= 0
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        torch.tensor(LOGITS[present]), torch.tensor(VECTORS[present])
    )
    values, counts = losses.binary_cross_entropy(LOGITS, VECTORS)
    np.testing.assert_allclose(values.sum() / counts.sum(), expected.item(), rtol=2e-6)
    np.testing.assert_array_equal(counts, present)


def test_binary_cross_entropy_smoothing_and_weights():
    x, y, s = LOGITS.astype(np.float64), VECTORS.astype(np.float64), 0.2
    p = 1 / (1 + np.exp(-x))
    soft = (1 - s) * y + s / 2
    expected = (WEIGHTS * -(soft * np.log(p) + (1 - soft) * np.log(1 - p))).mean(-1) * (TARGETS >= 0)
    values, counts = losses.binary_cross_entropy(LOGITS, VECTORS, label_smoothing=s, class_weights=WEIGHTS)
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    np.testing.assert_allclose(counts, WEIGHTS.mean() * (TARGETS >= 0), rtol=1e-6)


def test_binary_cross_entropy_is_stable():
    logits = np.array([[200.0, -200.0, 20.0]], np.float32)
    right, _ = losses.binary_cross_entropy(logits, np.array([[1, 0, 1]], np.float32))
    wrong, _ = losses.binary_cross_entropy(logits, np.array([[0, 1, 0]], np.float32))
    np.testing.assert_allclose(right, np.exp(-20) / 3, rtol=1e-4)
    np.testing.assert_allclose(wrong, 420 / 3, rtol=1e-6)


@pytest.mark.parametrize(("loss", "targets"), [(losses.cross_entropy, TARGETS), (losses.binary_cross_entropy, VECTORS)])
def test_absent_targets_leave_no_trace(loss, targets):
    """Not even infinities at absent places reach the loss or its gradient, and the last class is not chosen by -1."""
    absent = TARGETS < 0
    logits = np.where(absent[..., None], np.inf, LOGITS).astype(np.float32)

    def total(x):
        values, counts = loss(x, jnp.asarray(targets), label_smoothing=0.1, class_weights=WEIGHTS)
        return values.sum(), (values, counts)

    (_, (values, counts)), gradient = jax.value_and_grad(total, has_aux=True)(jnp.asarray(logits))
    assert np.isfinite(values).all() and np.isfinite(gradient).all()
    assert (np.asarray(values)[absent] == 0).all() and (np.asarray(counts)[absent] == 0).all()
    assert (np.asarray(gradient)[absent] == 0).all() and (np.asarray(counts)[~absent] > 0).all()


def test_bf16_logits_give_f32_losses():
    values, counts = losses.cross_entropy(jnp.asarray(LOGITS, jnp.bfloat16), jnp.asarray(TARGETS))
    assert values.dtype == counts.dtype == jnp.float32


def test_tasks_choose_the_loss():
    classify, tag = tasks.get("classify"), tasks.get("tag")
    single, multi = losses.cross_entropy(LOGITS, TARGETS)[0], losses.binary_cross_entropy(LOGITS, VECTORS)[0]
    np.testing.assert_array_equal(classify.loss(LOGITS, TARGETS)[0], single)
    np.testing.assert_array_equal(classify.loss(LOGITS, VECTORS)[0], multi)
    np.testing.assert_array_equal(tag.loss(LOGITS, TARGETS)[0], single)


def test_probabilities():
    classify = tasks.get("classify")
    np.testing.assert_allclose(classify.probabilities(LOGITS).sum(-1), 1, rtol=1e-6)
    np.testing.assert_allclose(classify.probabilities(LOGITS, multi_label=True), 1 / (1 + np.exp(-LOGITS)), rtol=1e-5)
    np.testing.assert_array_equal(tasks.get("tag").probabilities(LOGITS), classify.probabilities(LOGITS))


def test_balanced_weights():
    weights = losses.balanced_weights([0, 0, 0, 1], 3)
    np.testing.assert_allclose(weights, [4 / (2 * 3), 4 / (2 * 1), 1])  # the third class never occurs
    np.testing.assert_allclose(weights[[0, 0, 0, 1]].mean(), 1)
    by_word = [np.array([0, 0], np.int32), np.array([0, 1], np.int32)]
    np.testing.assert_array_equal(losses.balanced_weights(by_word, 3), weights)
    vectors = [np.array([1, 1, 0], np.float32), np.array([1, 0, 0], np.float32), np.array([1, 0, 0], np.float32)]
    np.testing.assert_array_equal(losses.balanced_weights(vectors, 3), weights)
