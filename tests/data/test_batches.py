"""Batches: every example once, by step number alone, with each target on its token."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxft import prng
from jaxft.data import pack
from jaxft.data.batches import Dataset, Epochs, TrainBatches, evaluation_batches
from jaxft.data.encode import Encoded
from jaxft.data.order import Order

WORDS = prng.stream("order", 0)
LENGTHS = (9, 30, 4, 17, 50, 8, 8, 25, 60, 12, 3, 41, 5)


@pytest.fixture
def data(encoded) -> Dataset:
    """13 examples; the target of example e is 100 + e."""
    return Dataset.of(encoded(LENGTHS), [100 + number for number in range(len(LENGTHS))], per_token=False)


def batches(data: Dataset, batch_size: int = 4, epochs: int = 3, **how) -> TrainBatches:
    order = Order(data.encoded.num_examples, batch_size, WORDS)
    how = {"micro_batches": 1, "widths": (32, 64), **how}
    return TrainBatches(data, order, epochs * order.steps_per_epoch, **how)


def examples_of(arrays: dict[str, np.ndarray]) -> list[int]:
    """The examples that a batch holds, by their targets."""
    return sorted(int(target) - 100 for target in arrays["targets"].ravel() if target >= 0)


# --- training --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("micro_batches", [1, 3])
@pytest.mark.parametrize("packing", [True, False])
def test_an_epoch_meets_every_example_once(data, packing, micro_batches):
    made = batches(data, packing=packing, micro_batches=micro_batches)
    for epoch in range(3):
        steps = [made.make(step) for step in range(4 * epoch, 4 * epoch + 4)]
        assert [step.epoch for step in steps] == [epoch] * 4
        assert sorted(e for step in steps for e in examples_of(step.arrays)) == list(range(13))
        assert [len(step.examples) for step in steps] == [4, 4, 4, 1]  # the last one is short, not dropped


def test_a_batch_holds_the_examples_that_it_names(data):
    made = batches(data, micro_batches=2)
    for step in range(12):
        batch = made.make(step)
        assert examples_of(batch.arrays) == sorted(batch.examples.tolist())


def test_a_batch_is_a_function_of_its_number(data):
    made = batches(data)
    alone = made.make(7)
    for step in (11, 0, 6, 8):
        made.make(step)
    for again in (made.make(7), batches(data).make(7)):
        assert again.step == 7 and again.examples.tolist() == alone.examples.tolist()
        for name, values in alone.arrays.items():
            np.testing.assert_array_equal(again.arrays[name], values, err_msg=name)


def test_packing_and_width_change_rows_but_no_example(data):
    made = [batches(data, packing=True), batches(data, packing=False), batches(data, widths=(128,))]
    for step in range(12):
        held = [examples_of(one.make(step).arrays) for one in made]
        assert held[0] == held[1] == held[2]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 64), min_size=1, max_size=50), st.integers(1, 16), st.integers(1, 4))
def test_micro_batches_have_one_shape_and_lose_no_token(encoded, lengths, batch_size, micro_batches):
    data = Dataset.of(encoded(lengths), [100] * len(lengths), per_token=False)
    made = batches(data, batch_size, epochs=1, micro_batches=micro_batches)
    total = 0
    for step in range(-(-len(lengths) // batch_size)):
        batch = made.make(step)
        count, rows, width = batch.shape
        assert count == micro_batches and all(values.shape[:2] == (count, rows) for values in batch.arrays.values())
        real = int((batch.arrays["segments"] > 0).sum())
        assert (batch.real_tokens, batch.padded_tokens) == (real, count * rows * width - real)
        total += real
    assert total == sum(lengths)


@pytest.mark.parametrize("shape_cost", [0.0, 1e9])
def test_steps_have_planned_shapes(data, shape_cost):
    made = batches(data, shape_cost=shape_cost)
    planned = {(1, shape.rows, shape.tokens) for shape in made.shapes}
    assert {made.make(step).shape for step in range(12)} == planned
    assert len(planned) == 1 or shape_cost == 0


@pytest.mark.parametrize("shape_cost", [0.0, 60.0])
def test_a_step_takes_the_cheapest_planned_shape_that_holds_it(data, shape_cost):
    made = batches(data, widths=(16, 32, 48, 64), shape_cost=shape_cost)
    assert len(made.shapes) > 2
    for batch in map(made.make, range(12)):
        lengths = data.encoded.piece_lengths[batch.examples]
        holding = [
            shape
            for shape in made.shapes
            if shape.tokens >= lengths.max() and pack.place(lengths, shape.tokens).num_rows <= shape.rows
        ]
        assert batch.shape == (1, *min(holding, key=pack.row_cost)[:2])


def test_a_long_text_in_a_step_that_was_not_planned_still_finds_a_row(encoded):
    """Long runs are planned from some of their steps; the one long text may be in another one."""
    lengths = [8] * 4000
    order = Order(len(lengths), 1, WORDS)
    lengths[int(order.examples(2000)[0])] = 60  # planned are steps 0, 3, 6, ...
    data = Dataset.of(encoded(lengths), [0] * len(lengths), per_token=False)
    made = TrainBatches(data, order, 4000, micro_batches=1, widths=(32, 64))
    found = [step for step in (1999, 2000, 2001) if made.make(step).real_tokens == 60]
    assert found == [2000]


def test_a_text_that_no_row_holds_is_refused(data):
    with pytest.raises(ValueError, match="no row width"):
        batches(data, widths=(16, 32))


def test_each_epoch_has_its_own_data(encoded):
    """Epoch e has examples of e + 3 tokens, the first of them in two pieces in epoch 1; shapes hold all of them."""

    def make(epoch: int) -> Dataset:
        windows = [2, 1, 1] if epoch == 1 else None
        lengths = [epoch + 3] * (4 if windows else 3)
        return Dataset.of(encoded(lengths, windows=windows), [100, 101, 102], per_token=False)

    order = Order(3, 2, WORDS)
    made = TrainBatches(Epochs(make), order, 6, micro_batches=1, widths=(4, 8), packing=False)
    steps = [made.make(step) for step in (5, 0, 2, 1, 3, 4)]
    assert {step.epoch: step.real_tokens for step in steps if len(step.examples) == 1}.keys() == {0, 1, 2}
    tokens = [sum(step.real_tokens for step in steps if step.epoch == epoch) for epoch in range(3)]
    assert tokens == [9, 16, 15]
    assert {step.shape for step in steps} == {(1, shape.rows, shape.tokens) for shape in made.shapes}
    for step in steps:
        assert set(examples_of(step.arrays)) == set(step.examples.tolist())


def test_data_of_an_epoch_is_made_once_and_the_last_are_kept():
    made: list[int] = []

    def make(epoch: int) -> Any:
        made.append(epoch)
        return object()

    epochs = Epochs(make)
    with ThreadPoolExecutor(8) as pool:
        first = list(pool.map(epochs.at, [0] * 100))
    assert made == [0] and all(one is first[0] for one in first)
    last = [epochs.at(epoch) for epoch in (1, 0, 1, 2, 1, 2)]
    assert made == [0, 1, 2] and last[3] is last[5] and last[0] is last[4]
    assert epochs.at(0) is not first[0]


def test_only_what_the_device_reads_is_sent(data):
    arrays = batches(data).make(0).arrays
    names = {"tokens", "types", "positions", "segments", "example", "occurrence", "firsts", "targets"}
    assert set(arrays) == names
    assert {values.dtype.name for values in arrays.values()} == {"int32", "uint32"}


# --- targets ---------------------------------------------------------------------------------------------------------


def test_a_class_stands_at_its_example(data):
    """The example number beside each segment's first token is the one whose target stands there."""
    for step in range(4):
        batch = batches(data, micro_batches=2).make(step).arrays
        example = np.take_along_axis(batch["example"], batch["firsts"], axis=-1)
        present = batch["targets"] >= 0
        np.testing.assert_array_equal(batch["targets"][present], 100 + example[present].astype(int))
        segments = np.take_along_axis(batch["segments"], batch["firsts"], axis=-1)
        numbers = np.broadcast_to(np.arange(1, present.shape[-1] + 1), present.shape)
        np.testing.assert_array_equal(segments[present], numbers[present])


def test_many_labels_stand_at_their_example(encoded):
    vectors = [np.array([number % 2, number // 2, 1], np.float32) for number in range(4)]
    batch = batches(Dataset.of(encoded([5, 6, 7, 8]), vectors, per_token=False)).make(0).arrays
    example = np.take_along_axis(batch["example"], batch["firsts"], axis=-1)
    present = batch["targets"][..., 0] >= 0
    assert batch["targets"].dtype == np.float32 and present.sum() == 4
    for vector, number in zip(batch["targets"][present], example[present], strict=True):
        np.testing.assert_array_equal(vector, vectors[number])
    assert (batch["targets"][~present] == -1).all()


@pytest.fixture
def tagged(encoded) -> Dataset:
    """4 examples; each of their words w begins at token 1 + 2 w and has the target 10 · example + w."""
    lengths = (8, 5, 12, 10)
    data = encoded(lengths)
    words = [(length - 2) // 2 for length in lengths]
    for start, count in zip(data.offsets, words, strict=False):
        data.words_at[start + 1 + 2 * np.arange(count)] = np.arange(count)
    return Dataset.of(
        data, [10 * e + np.arange(count, dtype=np.int32) for e, count in enumerate(words)], per_token=True
    )


@pytest.mark.parametrize("packing", [True, False])
def test_a_tag_stands_at_the_first_token_of_its_word(tagged, packing):
    batch = batches(tagged, packing=packing).make(0).arrays
    present = batch["targets"] >= 0
    inside = batch["positions"][present]
    expected = 10 * batch["example"][present].astype(int) + (inside - 1) // 2
    assert (inside % 2 == 1).all() and present.sum() == 3 + 1 + 5 + 4
    np.testing.assert_array_equal(batch["targets"][present], expected)


def test_windows_share_an_example_and_are_told_apart(encoded):
    """Example 1 has three windows: one example number, occurrences 0, 1, 2, one target each."""
    data = Dataset.of(encoded([10, 20, 20, 7, 5], windows=[1, 3, 1]), [100, 101, 102], per_token=False)
    batch = batches(data, batch_size=3, epochs=1).make(0)
    assert sorted(batch.examples.tolist()) == [0, 1, 2] and batch.real_tokens == 62
    assert examples_of(batch.arrays) == [0, 1, 1, 1, 2]
    arrays = {name: values[0] for name, values in batch.arrays.items()}
    windows = [
        (int(arrays["example"][r, at]), int(arrays["occurrence"][r, at]), int((arrays["segments"][r] == s + 1).sum()))
        for r, s in zip(*np.nonzero(arrays["targets"] >= 0), strict=True)
        for at in [arrays["firsts"][r, s]]
    ]
    assert sorted(windows) == [(0, 0, 10), (1, 0, 20), (1, 1, 20), (1, 2, 7), (2, 0, 5)]


# --- evaluation ------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 128), min_size=1, max_size=80), st.sampled_from([64, 256, 2048]))
def test_evaluation_covers_every_piece_once(encoded, lengths, tokens_a_batch):
    data = Dataset.of(encoded(lengths), [0] * len(lengths), per_token=False)
    met, shapes = np.zeros(len(lengths), int), {}
    for pieces, arrays in evaluation_batches(data, (32, 64, 128), tokens_a_batch):
        held = arrays["pieces"][arrays["pieces"] >= 0]
        np.testing.assert_array_equal(np.sort(held), np.sort(pieces))
        met[held] += 1
        rows, width = arrays["tokens"].shape
        assert shapes.setdefault(width, rows) == rows  # one shape a row width
        assert rows * width <= max(tokens_a_batch, width)
    assert (met == 1).all()


def test_evaluation_of_nothing_is_nothing(encoded):
    one = encoded([5])
    none = {name: values[: 1 if name == "offsets" else 0] for name, values in vars(one).items()}
    empty = Dataset.of(Encoded(**none), [], per_token=False)
    assert list(evaluation_batches(empty, (32,), 64)) == []


# --- real sentences --------------------------------------------------------------------------------------------------


def test_packed_rows_of_real_sentences_are_nearly_full(encoded, conll2003):
    """Lengths in words of the first 3,000 CoNLL sentences stand in for tokens."""
    blocks = conll2003["train"].read_text("utf-8").split("\n\n")[:3000]
    lengths = [min(64, len(block.splitlines()) + 2) for block in blocks if not block.startswith("-DOCSTART-")]
    data = Dataset.of(encoded(lengths), [0] * len(lengths), per_token=False)
    made = batches(data, 32, epochs=1, widths=(64,))
    real, padded = np.sum([(b.real_tokens, b.padded_tokens) for b in map(made.make, range(80))], axis=0)
    assert real / (real + padded) > 0.9
