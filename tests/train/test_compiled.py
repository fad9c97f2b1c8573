"""One answer: the same bits on any number of devices; and what that costs in memory."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from jaxft.mesh import devices
from jaxft.recipe import Noise, Optim
from jaxft.train import optim, step
from jaxft.train.compiled import Compiled
from jaxft.train.setup import Setup
from jaxft.train.stepper import constants_of

pytestmark = pytest.mark.usefixtures("promotion_for_optax")

NOISE = Noise(label=0.1, token_drop=0.05, token_swap=0.05, token_mask=0.05, token_replace=0.05, typo=0.05)


@pytest.fixture(scope="module")
def short_minilm(minilm, tmp_path_factory) -> Path:
    """The bottom 2 layers of the real MiniLM."""
    path = tmp_path_factory.mktemp("minilm") / "model"
    shutil.copytree(minilm, path)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 2}))
    return path


def take(setup: Setup, size: int, steps: int, numerics: Any = "canonical") -> tuple[str, list[Any]]:
    """Trains on so many devices; the hash of parameters and optimiser, and what the steps told."""
    optimiser = optim.make(setup.recipe.optim, setup.num_steps)
    trainable, frozen = setup.split()
    functions = step.make(setup.model(training=True).clone(unroll=1), setup.task, optimiser, setup.partition, 0.0)
    micro_batches = setup.recipe.train.micro_batches
    compiled = Compiled(functions, devices.choose(size, micro_batches), numerics=numerics)
    state = compiled.place(step.init(trainable, optimiser))
    constants, batches, told = compiled.place(constants_of(setup, frozen)), setup.batches(), []
    for number in range(steps):
        batch = batches.make(number)
        state, info = compiled(state, batch.arrays, batch.epoch, constants)
        told.append((info.loss.item(), float(info.grad_norm), compiled.digest(state)))
        assert info.all_finite().shape[0] == micro_batches
    leaves = jax.tree.leaves(state)
    copies = [b"".join(np.asarray(leaf.addressable_data(n)).tobytes() for leaf in leaves) for n in range(size)]
    assert copies == copies[:1] * size  # every device holds the same
    return hashlib.sha256(copies[0]).hexdigest(), told


@pytest.fixture(scope="module")
def setup_of(set_up_on, short_minilm) -> Callable[[str, int], Setup]:
    """Real weights, packed rows, dropout and all kinds of noise."""

    def make(task: str, micro_batches: int) -> Setup:
        train = {"micro_batches": micro_batches, "batch_size": 32, "steps": 20, "row_tokens": 64}
        return set_up_on(task, model=short_minilm, noise=NOISE, **train)

    return make


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "micro_batches", "steps", "sizes"), [("tag", 8, 6, (2, 4, 8)), ("classify", 16, 2, (8,))]
)
def test_one_answer_on_any_number_of_devices(setup_of, task, micro_batches, steps, sizes):
    """benchmarks/one_answer.py does the same with whole processes, all layers, and more of them."""
    setup = setup_of(task, micro_batches)
    one, told = take(setup, 1, steps)
    for size in sizes:
        other, told_there = take(setup, size, steps)
        assert told_there == told and other == one, f"{size} devices"


@pytest.mark.slow
def test_fast_numerics_agree_within_rounding_on_any_number_of_devices(set_up_on):
    setup = set_up_on(micro_batches=4, batch_size=32, optim=Optim(name="sgd", learning_rate=0.1))
    losses_and_norms = [np.array([told[:2] for told in take(setup, size, 3, "fast")[1]]) for size in (1, 2, 4)]
    np.testing.assert_allclose(losses_and_norms[1], losses_and_norms[0], rtol=1e-5)
    np.testing.assert_allclose(losses_and_norms[2], losses_and_norms[0], rtol=1e-5)


# --- memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("micro_batches", [2, 8])
def test_no_more_than_log2_m_gradients_wait(set_up_on, micro_batches, monkeypatch):
    """Arrays alive after each program that adds, beside state and constants: the sums that wait and the newest part."""
    setup = set_up_on(micro_batches=micro_batches, batch_size=32, row_tokens=64, packing=False)
    trainable, frozen = setup.split()
    size = sum(leaf.nbytes for leaf in trainable.values())
    optimiser = optim.make(setup.recipe.optim, setup.num_steps)
    functions = step.make(setup.model(training=True).clone(unroll=1), setup.task, optimiser, setup.partition, 0.0)
    compiled = Compiled(functions, devices.choose(1, micro_batches))
    state, constants = compiled.place(step.init(trainable, optimiser)), compiled.place(constants_of(setup, frozen))
    batch, alive = setup.batches().make(0), []
    live_before = live_bytes()
    run = compiled._run

    def watched(name: str, *arguments: Any) -> Any:
        alive.append((live_bytes() - live_before) / size)
        return run(name, *arguments)

    monkeypatch.setattr(compiled, "_run", watched)
    compiled(state, batch.arrays, batch.epoch, constants)
    plain = 2  # accumulation in order: the sum and the newest part
    assert len(alive) == micro_batches  # additions, update
    assert plain <= max(alive) + 0.05 and max(alive) <= plain + math.log2(micro_batches) + 0.05


def live_bytes() -> int:
    return sum(array.nbytes for array in jax.live_arrays())
