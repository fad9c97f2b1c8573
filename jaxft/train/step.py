"""One optimiser step as pure functions: the gradient of a micro-batch, and the update from the step's gradient.

The loss is the sum over targets divided once by the step's number of targets (by the sum of their class weights, where
there are any), so accumulation changes nothing but the order of additions. How the functions are put together, compiled
and spread over devices is the business of train/compiled.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jaxft.model.heads import Bert
from jaxft.tasks.base import Task
from jaxft.train.partition import Flat, Partition


class State(NamedTuple):
    """What a step changes. trainable: path -> f32 array. optimiser: optax state. step: int32 []."""

    trainable: Flat
    optimiser: Any
    step: Array


class Part(NamedTuple):
    """What micro-batches add up. loss: f32 [1], its share of the step's mean loss. gradient: path -> f32 array."""

    loss: Array
    gradient: Flat


class Constants(NamedTuple):
    """What a step reads and leaves: frozen parameters, the words of the dropout stream, class weights [C] or none."""

    frozen: Flat
    dropout_key: Array
    class_weights: Array | np.ndarray | None


def init(trainable: Flat, optimiser: optax.GradientTransformation) -> State:
    """The state before the first step. `trainable` is copied: steps donate their state."""
    trainable = jax.tree.map(jnp.array, trainable)
    return State(trainable, jax.jit(optimiser.init)(trainable), jnp.int32(0))


class Step(NamedTuple):
    """total_weight(targets, constants) -> f32 []: of all targets of a step.
    gradient(trainable, micro-batch [B, L] arrays, epoch uint32 [], constants, total weight) -> (part, bool [B, S or L],
    whether each loss is a number).
    update(state, part of the whole step) -> (state, norm of the gradient before clipping)."""

    total_weight: Callable[[Array, Constants], Array]
    gradient: Callable[[Flat, dict[str, Array], Array, Constants, Array], tuple[Part, Array]]
    update: Callable[[State, Part], tuple[State, Array]]


def make(
    model: Bert, task: Task, optimiser: optax.GradientTransformation, partition: Partition, label_smoothing: float
) -> Step:
    """The functions of a run's steps."""

    def total_weight(targets: Array, constants: Constants) -> Array:
        """Known before the backward pass, it scales the loss there; dividing the gradients afterwards would read them
        all again. Weights do not depend on the logits, so any will do; XLA drops the rest."""
        many = jnp.issubdtype(targets.dtype, jnp.floating)
        logits = jnp.zeros(targets.shape if many else (*targets.shape, model.num_labels), jnp.float32)
        _, weights = task.loss(logits, targets, label_smoothing=0.0, class_weights=constants.class_weights)
        return weights.sum()

    def loss_share(trainable: Flat, micro: dict[str, Array], epoch: Array, constants: Constants, weight: Array):
        params = partition.join(trainable, constants.frozen)
        logits = model.apply({"params": params}, micro, constants.dropout_key, epoch)
        losses, _ = task.loss(
            logits, micro["targets"], label_smoothing=label_smoothing, class_weights=constants.class_weights
        )
        scale = 1.0 / jnp.maximum(weight, 1e-8)
        return losses.sum() * scale, jnp.isfinite(losses)

    def gradient(trainable: Flat, micro: dict[str, Array], epoch: Array, constants: Constants, weight: Array):
        differentiate = jax.value_and_grad(loss_share, has_aux=True)
        (loss, finite), grads = differentiate(trainable, micro, epoch, constants, weight)
        return Part(loss[None], grads), finite

    @jax.named_scope("optimiser")
    def update(state: State, part: Part) -> tuple[State, Array]:
        norm = optax.tree.norm(part.gradient)
        updates, optimiser_state = optimiser.update(part.gradient, state.optimiser, state.trainable)
        trainable: Any = optax.apply_updates(state.trainable, updates)
        return State(trainable, optimiser_state, state.step + 1), norm

    return Step(total_weight, gradient, update)


def digest(tree: Any) -> Array:
    """uint32 []: the bit patterns of all numbers, added up (modulo 2**32) with an odd factor a leaf. One changed bit
    anywhere changes it; values that change places within a leaf do not."""
    leaves = jax.tree.leaves(tree)
    sums = [_sum_of_words(leaf) * np.uint32(2 * at + 1) for at, leaf in enumerate(leaves)]
    return jnp.stack(sums).sum(dtype=jnp.uint32)


def _sum_of_words(leaf: Array) -> Array:
    """The bits of 32-bit numbers as uint32, added up: each row by itself first, for XLA:CPU shares only rows out."""
    words = jax.lax.bitcast_convert_type(leaf, jnp.uint32)
    return jnp.atleast_1d(words).sum(-1, dtype=jnp.uint32).sum(dtype=jnp.uint32)
