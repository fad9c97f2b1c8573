"""Words that no training text holds: left out of training, and back again with what decay made of them."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from jaxft import prng
from jaxft.recipe import Optim
from jaxft.train import optim, step
from jaxft.train.compiled import Compiled
from jaxft.train.partition import Flat
from jaxft.train.setup import Setup
from jaxft.train.vocabulary import WORD, Vocabulary

pytestmark = pytest.mark.usefixtures("promotion_for_optax")

STEPS = 5


def trained(setup: Setup) -> tuple[Flat, int]:
    """All trainable parameters after a few steps, and the numbers that optimiser and parameters hold."""
    trainable, frozen = setup.split()
    optimiser = optim.make(setup.recipe.optim, setup.num_steps)
    made = step.make(setup.model(training=True).clone(unroll=1), setup.task, optimiser, setup.partition, 0.0)
    compiled, batches = Compiled(made), setup.batches()
    state = compiled.place(step.init(trainable, optimiser))
    held = sum(leaf.size for leaf in jax.tree.leaves(state))
    constants = compiled.place(step.Constants(frozen, prng.device_words(prng.stream("dropout", 0)), None))
    for number in range(STEPS):
        batch = batches.make(number)
        state, _ = compiled(state, batch.arrays, batch.epoch, constants)
    return {path: np.asarray(leaf) for path, leaf in setup.widen(state.trainable, STEPS).items()}, held


@pytest.mark.slow
@pytest.mark.parametrize(
    "chosen",
    [Optim(learning_rate=1e-3, weight_decay=0.1), Optim("sgd", learning_rate=0.05, momentum=0.9, weight_decay=0.1)],
    ids=["adamw", "sgd with momentum"],
)
def test_training_on_the_words_in_use_is_training_on_all(set_up_on, chosen):
    setup = set_up_on("tag", optim=chosen, row_tokens=64, packing=False)
    assert setup.vocabulary is not None and len(setup.vocabulary.ids) < 2000
    narrow, held = trained(setup)
    wide, held_by_all = trained(dataclasses.replace(setup, vocabulary=None))
    assert held < 0.2 * held_by_all
    assert narrow.keys() == wide.keys()
    for path, leaf in wide.items():
        np.testing.assert_allclose(narrow[path], leaf, rtol=1e-5, atol=1e-6 * np.abs(leaf).max(), err_msg=str(path))
    unused = np.setdiff1d(np.arange(len(wide[WORD])), setup.vocabulary.ids)
    before = setup.params["encoder"]["embeddings"]["word"]
    assert len(unused) > 28_000 and not np.array_equal(narrow[WORD][unused], before[unused])
    np.testing.assert_allclose(narrow[WORD][unused], wide[WORD][unused], rtol=2e-6)


def test_narrow_widen_and_renumber_are_each_others_inverse(set_up_on):
    encoded = set_up_on().datasets["train"].encoded
    table = np.random.default_rng(0).normal(size=(30522, 4)).astype(np.float32)
    words = Vocabulary.of(encoded, table)
    assert words.ids[0] == 0  # padding's
    narrow = words.narrow({WORD: table, ("other",): 1})
    assert narrow["other",] == 1
    np.testing.assert_array_equal(narrow[WORD][words.renumber(encoded).tokens], table[encoded.tokens])
    np.testing.assert_array_equal(words.widen(narrow, 1.0)[WORD], table)
    assert not np.shares_memory(words.widen(narrow, 1.0)[WORD], table)


@pytest.mark.parametrize("freeze", ["encoder", "layers:1", "re:embeddings/word"])
def test_frozen_words_stay_as_they_are(set_up_on, freeze):
    setup = set_up_on(freeze=freeze)
    assert setup.vocabulary is None and WORD not in setup.split()[0]
    assert setup.model(training=True).config == setup.config


def test_decay_factor_is_the_product_over_the_steps():
    chosen = Optim(learning_rate=0.5, weight_decay=0.1, warmup=0.5, schedule="constant")
    rates = optim.rates(chosen, 4)
    assert optim.decay_factor(rates[:0], np.zeros(0)) == 1.0
    decays = np.full(3, chosen.weight_decay)
    assert optim.decay_factor(rates[:3], decays) == pytest.approx((1 - 0.0) * (1 - 0.025) * (1 - 0.05))
