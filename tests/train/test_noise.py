"""Noise in a whole run: what it reaches, what it leaves alone, what the report says of it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from jaxft.data.batches import Dataset
from jaxft.errors import UserError
from jaxft.recipe import Noise, Optim, Seeds
from jaxft.report.run_folder import RunFolder
from jaxft.train.run import run
from jaxft.train.setup import Setup, set_up

ALL = Noise(label=0.1, token_drop=0.1, token_swap=0.1, token_mask=0.1, token_replace=0.1, typo=0.2)
SPLITS = {"dev": 0.2, "test": 0.2}


@pytest.fixture
def noisy_on(set_up_on, tmp_path, monkeypatch) -> Callable[..., Setup]:
    """As `set_up_on`, with noise."""

    def make(task: str = "classify", noise: Noise = ALL, seeds: Seeds | None = None, **how) -> Setup:
        chosen = set_up_on(task, **how).recipe
        monkeypatch.setenv("JAXFT_CACHE", str(tmp_path))
        return set_up(dataclasses.replace(chosen, noise=noise, seeds=seeds or Seeds()))

    return make


def assert_same(one: Dataset, other: Dataset) -> None:
    np.testing.assert_array_equal(one.targets, other.targets)
    for name, values in vars(one.encoded).items():
        np.testing.assert_array_equal(getattr(other.encoded, name), values, err_msg=name)


@pytest.mark.parametrize("overflow", ["truncate", "window"])
@pytest.mark.parametrize("task", ["classify", "tag"])
def test_every_noisy_batch_has_a_planned_shape(task: str, overflow: str, noisy_on):
    setup = noisy_on(task, data={"overflow": overflow, "max_tokens": 40}, epochs=3, micro_batches=2)
    batches = setup.batches()
    planned = {(2, shape.rows, shape.tokens) for shape in batches.shapes}
    made = [batches.make(step) for step in range(setup.num_steps)]
    assert {batch.shape for batch in made} == planned and setup.vocabulary is None
    epochs = [np.sort(np.concatenate([b.examples for b in made if b.epoch == epoch])) for epoch in range(3)]
    assert all(epoch.tolist() == list(range(setup.order.num_examples)) for epoch in epochs)
    tokens = [sum(batch.real_tokens for batch in made if batch.epoch == epoch) for epoch in range(3)]
    assert len(set(tokens)) == 3  # each epoch has noise of its own
    again = setup.batches().make(setup.num_steps - 1)  # and by its number alone
    for name, values in made[-1].arrays.items():
        np.testing.assert_array_equal(again.arrays[name], values, err_msg=name)


@pytest.mark.parametrize("task", ["classify", "tag"])
def test_noise_and_its_seed_change_training_data_alone(task: str, noisy_on, set_up_on):
    plain = set_up_on(task, data=SPLITS)
    noisy = [noisy_on(task, data=SPLITS, seeds=seeds) for seeds in (Seeds(), Seeds(noise=5))]
    for setup in noisy:
        assert setup.datasets.keys() == plain.datasets.keys() == {"train", "dev", "test"}
        for split, data in setup.datasets.items():
            assert_same(data, plain.datasets[split])
        for one, other in zip(setup.split()[0].values(), setup.partition.split(plain.params)[0].values(), strict=True):
            np.testing.assert_array_equal(one, other)
    batches = [setup.batches().make(3) for setup in (plain, *noisy)]
    assert all(batch.examples.tolist() == batches[0].examples.tolist() for batch in batches)
    assert len({batch.arrays["tokens"].tobytes() for batch in batches}) == 3
    assert plain.noise is None and plain.noise_counts(3) == {}


def test_words_that_no_text_holds_are_trained_where_noise_may_bring_them(noisy_on):
    quiet = Noise(label=0.1, token_drop=0.1, token_swap=0.1)
    for rates in ({"token_mask": 0.1}, {"token_replace": 0.1}, {"typo": 0.1}):
        assert noisy_on(noise=dataclasses.replace(quiet, **rates)).vocabulary is None
    setup = noisy_on(noise=quiet)
    vocabulary, noise = setup.vocabulary, setup.noise
    assert vocabulary is not None and noise is not None
    batch = setup.batches().make(setup.steps_per_epoch).arrays  # the first of epoch 1
    met = noise.dataset(1).encoded
    for example in np.unique(batch["example"][batch["segments"] > 0])[:10]:
        at = (batch["example"] == example) & (batch["segments"] > 0)
        held = vocabulary.ids[batch["tokens"][at]][np.argsort(batch["positions"][at])]
        np.testing.assert_array_equal(held, met.tokens[met.offsets[example] : met.offsets[example + 1]])


@pytest.mark.slow
def test_a_report_says_what_was_changed(noisy_on, tmp_path: Path, promotion_for_optax: None):
    """One and a half epochs, with a confusion matrix that turns all spam into ham and changes nothing else."""
    matrix = tmp_path / "confusion.csv"
    matrix.write_text(",ham,spam\nham,1,0\nspam,1,0\n")
    noise = Noise(label_confusion=str(matrix), token_mask=0.1)
    optim = Optim(name="sgd", learning_rate=1e-3)
    setup = noisy_on(noise=noise, data={"dev": 0.2}, steps=12, eval_every=12, optim=optim)  # 8 an epoch
    chosen = dataclasses.replace(setup.recipe, out=str(tmp_path / "run"))
    result = run(chosen, quiet=True)
    batches = setup.batches()
    steps = [batches.make(step) for step in range(12)]
    clean = setup.datasets["train"].targets
    of = sum(len(step.examples) for step in steps)
    spam = sum(int(clean[step.examples].sum()) for step in steps)
    masked = sum(int((step.arrays["tokens"] == setup.tokenizer.mask_token_id).sum()) for step in steps)
    tokens = sum(step.real_tokens for step in steps) - 2 * of
    assert not any((step.arrays["targets"] == 1).any() for step in steps) and 0 < spam < of
    counts = {"labels": {"changed": spam, "of": of}, "masked": {"changed": masked, "of": tokens}}
    folder = RunFolder(chosen.out)
    assert result.noise == json.loads(folder.report_json.read_text())["noise"] == counts
    line = f"{spam:,} of {of:,} labels changed; {masked:,} of {tokens:,} tokens masked."
    assert f"Noise in the training data, over all steps taken: {line}" in folder.report_md.read_text()


def test_a_matrix_of_other_labels_is_refused_before_training(noisy_on, tmp_path: Path):
    matrix = tmp_path / "confusion.csv"
    matrix.write_text(",ham,eggs\nham,1,0\neggs,1,0\n")
    with pytest.raises(UserError, match="lacks 'spam'") as caught:
        noisy_on(noise=Noise(label_confusion=str(matrix)))
    assert {problem.fix for problem in caught.value.problems} == {"the labels are ham, spam"}
    assert len(caught.value.problems) == 4  # missing and extra, in the first row and in the first column
