"""One step: its loss, gradient and update, accumulation, freezing, and how often it compiles."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxft import prng
from jaxft.data.batches import TrainBatches
from jaxft.recipe import Optim
from jaxft.train import layers, optim, step
from jaxft.train.compiled import Compiled
from jaxft.train.partition import Flat, flatten, nest
from jaxft.train.setup import Setup

pytestmark = pytest.mark.usefixtures("promotion_for_optax")

KEY = prng.device_words(prng.stream("dropout", 0))
ONE_A_ROW = {"packing": False, "row_tokens": 64, "dropout": 0.1}
"""Every step then has one shape."""
STEPS = (0, 1, 3)
"""Of 160 examples in batches of 53; the last step of an epoch has one example, so most micro-batches are empty."""


class Trainer:
    """A step on a setup. unroll: of the layers; 1 compiles faster."""

    def __init__(self, setup: Setup, unroll: int = 1) -> None:
        self.setup, self.optimiser = setup, optim.make(setup.recipe.optim, setup.num_steps)
        self.initial, frozen = setup.split()
        weights = setup.class_weights()
        self.model = setup.model(training=True).clone(unroll=unroll)
        smoothing = setup.recipe.train.label_smoothing
        self.made = step.make(self.model, setup.task, self.optimiser, setup.partition, smoothing)
        self.compiled = Compiled(self.made)
        self.constants = self.compiled.place(step.Constants(frozen, KEY, weights))

    def state(self) -> step.State:
        return self.compiled.place(step.init(self.initial, self.optimiser))

    def batch(self, number: int) -> tuple[dict[str, np.ndarray], int]:
        """Arrays and epoch of a step."""
        batch = self.setup.batches().make(number)
        return batch.arrays, batch.epoch

    def take(self, numbers: Iterable[int] = STEPS) -> Taken:
        """The steps of those numbers, from the initial state."""
        state, infos = self.state(), []
        for number in numbers:
            state, info = self.compiled(state, *self.batch(number), self.constants)
            infos.append(info)
        moved = self.moved(layers.to_host(state.trainable))
        return Taken(state, moved, [info.loss.item() for info in infos], [float(info.grad_norm) for info in infos])

    def moved(self, params: Flat) -> Flat:
        """How far parameters are from the initial ones, f64."""
        return {path: np.asarray(leaf, np.float64) - self.initial[path] for path, leaf in params.items()}


class Taken(NamedTuple):
    """What steps left behind."""

    state: step.State
    moved: Flat
    losses: list[float]
    norms: list[float]


class ByHand(NamedTuple):
    """The same steps straight from model, task and optimiser. logits, targets: of the first one."""

    moved: Flat
    norms: list[float]
    logits: np.ndarray
    targets: np.ndarray


def steps_by_hand(trainer: Trainer) -> ByHand:
    setup, first = trainer.setup, None
    smoothing, weights = setup.recipe.train.label_smoothing, trainer.constants.class_weights

    def loss(params: dict, rows: dict[str, jax.Array], epoch: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits: Any = trainer.model.apply({"params": params}, rows, KEY, epoch)
        losses, weight = setup.task.loss(logits, rows["targets"], label_smoothing=smoothing, class_weights=weights)
        return losses.sum() / weight.sum(), logits

    differentiate, update = jax.jit(jax.grad(loss, has_aux=True)), jax.jit(trainer.optimiser.update)
    params: Any = jax.tree.map(jnp.asarray, trainer.initial)
    norms: list[float] = []
    state = trainer.optimiser.init(params)
    for number in STEPS:
        batch, epoch = trainer.batch(number)
        rows = {name: jnp.asarray(values[0]) for name, values in batch.items()}
        tree, logits = differentiate(setup.partition.join(params, {}), rows, jnp.uint32(epoch))
        gradient = flatten(tree)
        first = first or (np.asarray(logits), np.asarray(rows["targets"]))
        norms.append(float(optax.tree.norm(gradient)))
        updates, state = update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    assert first is not None
    return ByHand(trainer.moved(params), norms, *first)


def distance(one: Flat, other: Flat) -> float:
    """Euclidean norm of the difference over that of `other`, all parameters as one vector."""
    squares = [(((one[path] - other[path]) ** 2).sum(), (other[path] ** 2).sum()) for path in other]
    return float(np.sqrt(sum(d for d, _ in squares) / sum(n for _, n in squares)))


@pytest.fixture(scope="module", params=["classify", "tag"])
def trainers(request, set_up_on, promotion_for_optax) -> tuple[Trainer, Trainer]:
    """The same run in 1 and in 4 micro-batches: classify plain with SGD, tag with all the trimmings and AdamW."""
    how = {**ONE_A_ROW, "batch_size": 53, "epochs": 1}
    if request.param == "classify":
        how["optim"] = Optim(name="sgd", learning_rate=0.1, momentum=0.9, clip_norm=0.5, warmup=0.0)
    else:
        how |= {"class_weights": "balanced", "label_smoothing": 0.2}
        how["optim"] = Optim(learning_rate=0.01, eps=1e-3, clip_norm=0.5, warmup=0.0)
    return Trainer(set_up_on(request.param, **how)), Trainer(set_up_on(request.param, micro_batches=4, **how))


@pytest.fixture(scope="module")
def one(trainers) -> Taken:
    return trainers[0].take()


@pytest.fixture(scope="module")
def by_hand(trainers) -> ByHand:
    return steps_by_hand(trainers[0])


# --- loss, gradient, update ------------------------------------------------------------------------------------------


def test_the_loss_is_the_mean_over_the_targets_of_the_step(trainers, one, by_hand):
    """By the formula, from the logits: the sum over the targets, divided once by the sum of their weights."""
    smoothing, by_class = trainers[0].setup.recipe.train.label_smoothing, trainers[0].setup.class_weights()
    logits = by_hand.logits.astype(np.float64)
    minus_log = np.log(np.exp(logits).sum(-1, keepdims=True)) - logits
    w = np.ones(logits.shape[-1]) if by_class is None else by_class.astype(np.float64)
    total = weight = 0.0
    for at in zip(*np.nonzero(by_hand.targets >= 0), strict=True):
        gold = by_hand.targets[at]
        total += (1 - smoothing) * w[gold] * minus_log[at][gold] + smoothing * (w * minus_log[at]).mean()
        weight += w[gold]
    assert one.losses[0] == pytest.approx(total / weight, rel=2e-6)


def test_steps_apply_the_optimiser_to_the_gradient_of_that_loss(one, by_hand):
    """Each from the parameters and the optimiser's state that the last one left; test_optim has the formulas."""
    assert distance(one.moved, by_hand.moved) < 2e-5
    np.testing.assert_allclose(one.norms, by_hand.norms, rtol=1e-5)
    assert int(one.state.step) == len(STEPS)


def test_straight_line_code_with_its_layers_apart_takes_the_same_steps(trainers, one):
    trainer = Trainer(trainers[0].setup, unroll=2)
    straight = trainer.take()
    assert trainer.made.by_layer and not trainers[0].made.by_layer
    np.testing.assert_allclose(straight.losses, one.losses, rtol=2e-6)
    np.testing.assert_allclose(straight.norms, one.norms, rtol=1e-5)
    assert distance(straight.moved, one.moved) < 2e-5


def test_class_weights_balance_the_classes(set_up_on):
    setup = set_up_on(class_weights="balanced")
    counts = np.bincount(setup.datasets["train"].targets)
    weights = setup.class_weights()
    assert weights is not None
    np.testing.assert_allclose(weights * counts, np.full(2, 80.0), rtol=1e-6)  # 160 messages, 2 classes


# --- accumulation ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_micro_batches_change_nothing_but_the_order_of_additions(trainers, one):
    """The normaliser is the whole step's; every micro-batch has another number (and weight) of targets of its own."""
    four = trainers[1].take()
    np.testing.assert_allclose(four.losses, one.losses, rtol=1e-6)
    np.testing.assert_allclose(four.norms, one.norms, rtol=1e-5)
    assert distance(four.moved, one.moved) < 1e-5


# --- dropout ---------------------------------------------------------------------------------------------------------


def test_a_step_repeats_to_the_bit_and_hangs_on_epoch_and_key(trainers):
    trainer, (batch, _) = trainers[0], trainers[0].batch(0)

    def loss(epoch: int, key: jax.Array) -> float:
        constants = trainer.constants._replace(dropout_key=trainer.compiled.place(key))
        return trainer.compiled(trainer.state(), batch, epoch, constants)[1].loss.item()

    other_key = prng.device_words(prng.stream("dropout", 1))
    assert loss(0, KEY) == loss(0, KEY)
    assert len({loss(0, KEY), loss(1, KEY), loss(0, other_key)}) == 3


# --- freezing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("freeze", ["encoder", "layers:1", "re:embeddings"])
def test_frozen_parameters_have_no_optimiser_state(set_up_on, freeze):
    trainer = Trainer(set_up_on(freeze=freeze))
    moments = sum(leaf.size for leaf in jax.tree.leaves(trainer.state().optimiser) if leaf.ndim)
    assert moments == 2 * sum(leaf.size for leaf in trainer.initial.values())  # of AdamW
    assert trainer.constants.frozen and not trainer.constants.frozen.keys() & trainer.initial.keys()


@pytest.mark.slow
def test_frozen_parameters_keep_their_bits(set_up_on):
    trainer = Trainer(set_up_on(freeze="layers:1", optim=Optim(learning_rate=0.01, weight_decay=0.5), **ONE_A_ROW))
    partition = trainer.setup.partition
    before = flatten(trainer.setup.params)
    after = flatten(partition.whole(trainer.take((0, 1, 2)).state.trainable, trainer.constants.frozen))
    for path in before:
        first = before[path][:1] if path[:2] == ("encoder", "layers") else before[path]
        same = np.array_equal(after[path][: len(first)], first)
        assert same == (path[:2] in (("encoder", "layers"), ("encoder", "embeddings"))), path
    assert not np.array_equal(
        after["encoder", "layers", "up", "kernel"][1], before["encoder", "layers", "up", "kernel"][1]
    )
    assert jax.tree.structure(nest(after)) == jax.tree.structure(trainer.setup.params)


def test_frozen_layers_cost_no_backward_pass(set_up_on):
    def flops(freeze: str) -> float:
        trainer = Trainer(set_up_on(freeze=freeze, **ONE_A_ROW), unroll=2)  # straight-line code: every layer counts
        batch, epoch = trainer.batch(0)
        micro = {name: values[0] for name, values in batch.items()}
        arguments = (trainer.initial, micro, np.uint32(epoch), trainer.constants, np.float32(1))
        analysis: Any = jax.jit(trainer.made.gradient).lower(*arguments).cost_analysis()
        return analysis["flops"]

    everything, one_layer, head_alone = (flops(freeze) for freeze in ("none", "layers:1", "encoder"))
    assert head_alone < 0.5 * everything and head_alone < one_layer < 0.85 * everything


# --- compilation -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_nothing_compiles_after_the_first_step_of_each_shape(set_up_on, compilations):
    """Three epochs of real batches in two or more shapes: one trace, compilation and call of `on_compile` for each."""
    setup = set_up_on("tag", epochs=3, batch_size=24, optim=Optim(name="sgd", weight_decay=0.0, clip_norm=None))
    widths = {"micro_batches": 1, "widths": (32, 64), "shape_cost": 700.0}
    batches = TrainBatches(setup.datasets["train"], setup.order, setup.num_steps, **widths)
    trainer, told = Trainer(setup), []
    steps = [batches.make(number) for number in range(setup.num_steps)]
    shapes = {batch.shape for batch in steps}
    assert 2 <= len(shapes) <= 3 and len(steps) == 21
    chex.clear_trace_counter()
    counted: Any = chex.assert_max_traces(trainer.made.gradient, n=len(shapes))
    compiled = Compiled(trainer.made._replace(gradient=counted), on_compile=told.append)
    state, before, counts = trainer.state(), len(compilations), []
    for batch in steps:
        state, _ = compiled(state, batch.arrays, batch.epoch, trainer.constants)
        counts.append(len(compilations) - before)
    assert counts == [len({batch.shape for batch in steps[: number + 1]}) for number in range(len(steps))]
    assert counts[-1] == len(told) == len(compiled.shapes) and set(compiled.shapes) == shapes
    assert compiled.compile_s > 0
