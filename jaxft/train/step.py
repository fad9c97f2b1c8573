"""One optimiser step as pure functions: the gradient of a micro-batch, and the update from the step's gradient.

The loss is the sum over targets divided once by the step's number of targets (by the sum of their class weights, where
there are any), so accumulation changes nothing but the order of additions. How the functions are put together, compiled
and spread over devices is the business of train/compiled.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jaxft.model.heads import Bert
from jaxft.tasks.base import Task
from jaxft.train import layers
from jaxft.train.parametric import Hyper, Moments, Parametric, Window
from jaxft.train.partition import Flat, Partition


class State(NamedTuple):
    """What a step changes. trainable: path -> f32 array. optimiser: optax state, or `Moments`. step: int32 []."""

    trainable: Flat
    optimiser: Any
    step: Array


class Part(NamedTuple):
    """What micro-batches add up. loss: f32 [1], its share of the step's mean loss. gradient: path -> f32 array."""

    loss: Array
    gradient: Flat


class Constants(NamedTuple):
    """What a step reads and leaves: frozen parameters, the words of the dropout stream, class weights [C] or none, the
    strategy's numbers where the run has segments."""

    frozen: Flat
    dropout_key: Array
    class_weights: Array | np.ndarray | None
    hyper: Hyper | None = None


class Initial(Protocol):
    """An optimiser, as far as `init` goes."""

    def init(self, params: Any, /) -> Any:
        """Its state before the first step."""
        ...


def init(trainable: Flat, optimiser: Initial) -> State:
    """The state before the first step. `trainable` is copied: steps donate their state."""
    trainable = jax.tree.map(jnp.array, trainable)
    return State(trainable, jax.jit(optimiser.init)(trainable), jnp.int32(0))


class Step(NamedTuple):
    """by_layer: whether state and frozen parameters have `layers.Layers` for the layers' kernels (see train/layers.py).
    total_weight(targets, constants) -> f32 []: of all targets of a step.
    gradient(trainable, micro-batch [B, L] arrays, epoch uint32 [], constants, total weight) -> (part, bool [B, S or L],
    whether each loss is a number).
    update(state, part of the whole step, constants) -> (state, norm of the gradient before clipping)."""

    by_layer: bool
    total_weight: Callable[[Array, Constants], Array]
    gradient: Callable[[Flat, dict[str, Array], Array, Constants, Array], tuple[Part, Array]]
    update: Callable[[State, Part, Constants], tuple[State, Array]]


def make(
    model: Bert, task: Task, optimiser: optax.GradientTransformation, partition: Partition, label_smoothing: float
) -> Step:
    """The functions of a run's steps."""
    loss = _Loss(model, task)

    def gradient(trainable: Flat, micro: dict[str, Array], epoch: Array, constants: Constants, weight: Array):
        def share(trainable: Flat) -> tuple[Array, Array]:
            params = partition.join(layers.together(trainable), layers.together(constants.frozen))
            return loss.share(params, micro, epoch, constants, weight, label_smoothing)

        (value, finite), grads = jax.value_and_grad(share, has_aux=True)(trainable)
        return Part(value[None], grads), finite

    @jax.named_scope("optimiser")
    def update(state: State, part: Part, constants: Constants) -> tuple[State, Array]:
        norm = optax.tree.norm(part.gradient)
        updates, optimiser_state = optimiser.update(part.gradient, state.optimiser, state.trainable)
        trainable: Any = optax.apply_updates(state.trainable, updates)
        return State(trainable, optimiser_state, state.step + 1), norm

    return Step(model.is_straight, loss.total_weight, gradient, update)


def make_parametric(model: Bert, task: Task, optimiser: Parametric, window: Window) -> Step:
    """The functions of steps under a strategy: `model` and `window` freeze and drop out as it says; its numbers come
    with the constants. The gradient is that of the moving part."""
    loss = _Loss(model, task)

    def gradient(trainable: Flat, micro: dict[str, Array], epoch: Array, constants: Constants, weight: Array):
        smoothing = constants.hyper.label_smoothing  # type: ignore[union-attr]

        def share(moving: Flat) -> tuple[Array, Array]:
            params = window.params(moving, trainable, constants.frozen)
            return loss.share(params, micro, epoch, constants, weight, smoothing)

        (value, finite), grads = jax.value_and_grad(share, has_aux=True)(window.moving(trainable))
        return Part(value[None], grads), finite

    @jax.named_scope("optimiser")
    def update(state: State, part: Part, constants: Constants) -> tuple[State, Array]:
        norm = optax.tree.norm(part.gradient)
        moments = Moments(*(window.moving(leaves) for leaves in state.optimiser))
        params = window.moving(state.trainable)
        new, moved = optimiser.update(part.gradient, moments, params, state.step, constants.hyper)  # type: ignore[arg-type]
        kept = Moments(*(window.back(old, now) for old, now in zip(state.optimiser, moved, strict=True)))
        return State(window.back(state.trainable, new), kept, state.step + 1), norm

    return Step(False, loss.total_weight, gradient, update)


class _Loss(NamedTuple):
    """What a model is trained on."""

    model: Bert
    task: Task

    def total_weight(self, targets: Array, constants: Constants) -> Array:
        """Known before the backward pass, it scales the loss there; dividing the gradients afterwards would read them
        all again. Weights do not depend on the logits, so any will do; XLA drops the rest."""
        many = jnp.issubdtype(targets.dtype, jnp.floating)
        logits = jnp.zeros(targets.shape if many else (*targets.shape, self.model.num_labels), jnp.float32)
        _, weights = self.task.loss(logits, targets, label_smoothing=0.0, class_weights=constants.class_weights)
        return weights.sum()

    def share(
        self, params: Any, micro: dict[str, Array], epoch: Array, constants: Constants, weight: Array, smoothing: Any
    ) -> tuple[Array, Array]:
        """(a micro-batch's share of the step's mean loss, whether each loss is a number)."""
        logits = self.model.apply({"params": params}, micro, constants.dropout_key, epoch)
        losses, _ = self.task.loss(
            logits, micro["targets"], label_smoothing=smoothing, class_weights=constants.class_weights
        )
        scale = 1.0 / jnp.maximum(weight, 1e-8)
        return losses.sum() * scale, jnp.isfinite(losses)


def digest(tree: Any) -> Array:
    """uint32 []: the bit patterns of all numbers, added up (modulo 2**32) with an odd factor a leaf. One changed bit
    anywhere changes it; values that change places within a leaf do not, nor does how stacked layers lie."""
    leaves = jax.tree.leaves(tree, is_leaf=layers.is_layers)
    sums = [_sum_of_words(leaf) * np.uint32(2 * at + 1) for at, leaf in enumerate(leaves)]
    return jnp.stack(sums).sum(dtype=jnp.uint32)


def _sum_of_words(leaf: Array | layers.Layers) -> Array:
    """The bits of 32-bit numbers as uint32, added up: each row by itself first, for XLA:CPU shares only rows out."""
    if isinstance(leaf, layers.Layers):
        return jnp.stack([_sum_of_words(part) for part in leaf.parts]).sum(dtype=jnp.uint32)
    words = jax.lax.bitcast_convert_type(leaf, jnp.uint32)
    return jnp.atleast_1d(words).sum(-1, dtype=jnp.uint32).sum(dtype=jnp.uint32)
