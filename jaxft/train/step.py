"""One optimiser step as a pure function of (state, batch), and its executables, one a batch shape.

The loss is the sum over targets divided once by the step's number of targets (by the sum of their class weights, where
there are any), so accumulation changes nothing but the order of additions.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
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


class Info(NamedTuple):
    """What a step tells. loss: mean over targets. grad_norm: before clipping. finite: bool [M, B, S or L], whether each
    loss is a number."""

    loss: Array
    grad_norm: Array
    finite: Array


class Constants(NamedTuple):
    """What a step reads and leaves: frozen parameters, the words of the dropout stream, class weights [C] or none."""

    frozen: Flat
    dropout_key: Array
    class_weights: Array | None


StepFn = Callable[[State, dict[str, Array], Array, Constants], tuple[State, Info]]


def init(trainable: Flat, optimiser: optax.GradientTransformation) -> State:
    """The state before the first step. `trainable` is copied: steps donate their state."""
    trainable = jax.tree.map(jnp.array, trainable)
    return State(trainable, jax.jit(optimiser.init)(trainable), jnp.int32(0))


def make(
    model: Bert, task: Task, optimiser: optax.GradientTransformation, partition: Partition, label_smoothing: float
) -> StepFn:
    """step(state, batch [M, B, L] arrays, epoch uint32 [], constants) -> (state, info)."""

    def loss_sum(trainable: Flat, batch: dict[str, Array], epoch: Array, constants: Constants, scale: Array):
        params = partition.join(trainable, constants.frozen)
        logits = model.apply({"params": params}, batch, constants.dropout_key, epoch)
        losses, _ = task.loss(
            logits, batch["targets"], label_smoothing=label_smoothing, class_weights=constants.class_weights
        )
        return losses.sum() * scale, jnp.isfinite(losses)

    gradient = jax.value_and_grad(loss_sum, has_aux=True)

    def step(state: State, batch: dict[str, Array], epoch: Array, constants: Constants) -> tuple[State, Info]:
        scale = 1.0 / jnp.maximum(_total_weight(task, batch["targets"], model.num_labels, constants), 1e-8)

        def one(micro: dict[str, Array]):
            (loss, finite), grads = gradient(state.trainable, micro, epoch, constants, scale)
            return (loss, grads), finite

        (loss, grads), finite = _sum_over_micro_batches(one, batch)
        with jax.named_scope("optimiser"):
            norm = optax.tree.norm(grads)
            updates, optimiser_state = optimiser.update(grads, state.optimiser, state.trainable)
            trainable: Any = optax.apply_updates(state.trainable, updates)
        return State(trainable, optimiser_state, state.step + 1), Info(loss, norm, finite)

    return step


def _total_weight(task: Task, targets: Array, num_labels: int, constants: Constants) -> Array:
    """Sum of the weights of a whole step's targets. They do not depend on the logits, so any will do; XLA drops the
    rest.

    Known before the backward pass, it scales the loss there; dividing the gradients afterwards would read them all
    again.
    """
    many = jnp.issubdtype(targets.dtype, jnp.floating)
    logits = jnp.zeros(targets.shape if many else (*targets.shape, num_labels), jnp.float32)
    _, weights = task.loss(logits, targets, label_smoothing=0.0, class_weights=constants.class_weights)
    return weights.sum()


def _sum_over_micro_batches(one: Callable, batch: dict[str, Array]):
    """Adds up `one` of each micro-batch, in their order; `finite` is stacked."""
    if batch["tokens"].shape[0] == 1:
        total, finite = one({name: values[0] for name, values in batch.items()})
        return total, finite[None]

    def add(total, micro):
        part, finite = one(micro)
        return jax.tree.map(jnp.add, total, part), finite

    shapes, _ = jax.eval_shape(one, {name: values[0] for name, values in batch.items()})
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    return jax.lax.scan(add, zeros, batch)


class Compiled:
    """Runs a step with one executable a batch shape, so that compilation is seen, timed and counted.

    compile_s: seconds spent compiling. shapes: those compiled so far, in order.
    """

    def __init__(self, step: StepFn, on_compile: Callable[[str], None] = lambda what: None) -> None:
        self._jitted = jax.jit(step, donate_argnums=0)
        self._on_compile = on_compile
        self._programs: dict[tuple, Any] = {}
        self.compile_s = 0.0

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        return tuple(shape for shape, *_ in self._programs)

    def text(self, shape: tuple[int, ...]) -> str:
        """The optimised HLO of the program for batches [M, B, L] of that shape; KeyError if there is none yet."""
        return {key[0]: program for key, program in self._programs.items()}[shape].as_text()

    def __call__(self, state: State, batch: dict[str, Array], epoch: Array, constants: Constants) -> tuple[State, Info]:
        key = (batch["tokens"].shape, batch["targets"].shape)
        if key not in self._programs:
            self._on_compile("{} micro-batch(es) of {} rows x {} tokens".format(*key[0]))
            start = time.perf_counter()
            self._programs[key] = self._jitted.lower(state, batch, epoch, constants).compile()
            self.compile_s += time.perf_counter() - start
        return self._programs[key](state, batch, epoch, constants)
