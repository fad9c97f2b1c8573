"""The training loop: what it logs, when it stops, which parameters come out, and that it repeats to the bit."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from jaxft.errors import UserError
from jaxft.recipe import Optim
from jaxft.report.progress import Progress
from jaxft.report.run_folder import RunFolder
from jaxft.train import optim
from jaxft.train.clock import Clock
from jaxft.train.hashes import params_sha256
from jaxft.train.loop import Evaluator, Fitted, fit
from jaxft.train.partition import flatten
from jaxft.train.setup import Setup

pytestmark = pytest.mark.usefixtures("promotion_for_optax")


class Scripted:
    """In place of an Evaluator: gives the scores of a list, and keeps the parameters that it was shown."""

    def __init__(self, scores: list[float], metric: str = "accuracy", on_scores: Callable = lambda: None) -> None:
        self._scores, self._metric, self._on_scores = scores, metric, on_scores
        self.seen: list[dict[str, Any]] = []

    has_dev = True

    def scores(self, split: str, params: Any) -> dict[str, float]:
        assert split == "dev"
        self._on_scores()
        self.seen.append(jax.tree.map(np.array, params))
        return {self._metric: self._scores[len(self.seen) - 1]}


class NoDev(Scripted):
    has_dev = False


@pytest.fixture
def fit_on(tmp_path, promotion_for_optax) -> Callable[..., tuple[Fitted, RunFolder]]:
    """Trains a setup; its result and its run folder."""

    def run(setup: Setup, evaluator: Any) -> tuple[Fitted, RunFolder]:
        folder = RunFolder(tmp_path / "run").create(overwrite=True)
        with Progress(setup.num_steps, quiet=True) as progress:
            return fit(setup, folder, progress, evaluator, Clock()), folder

    return run


@pytest.fixture(scope="module")
def setup(set_up_on) -> Setup:
    """8 steps of 40 examples in 2 epochs, an evaluation every 2 steps."""
    return set_up_on(batch_size=40, epochs=2, eval_every=2, log_every=3, packing=False, row_tokens=64)


def with_train(setup: Setup, **train: Any) -> Setup:
    """The same, with other keys of `Train`."""
    return dataclasses.replace(
        setup, recipe=dataclasses.replace(setup.recipe, train=dataclasses.replace(setup.recipe.train, **train))
    )


def with_word(setup: Setup, token: int, value: float) -> Setup:
    """The same, with one word's embedding set to a value."""
    word = setup.params["encoder"]["embeddings"]["word"].copy()
    word[token] = value
    embeddings = {**setup.params["encoder"]["embeddings"], "word": word}
    encoder = {**setup.params["encoder"], "embeddings": embeddings}
    return dataclasses.replace(setup, params={**setup.params, "encoder": encoder})


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    a, b = flatten(one), flatten(other)
    return a.keys() == b.keys() and all(np.array_equal(a[path], b[path]) for path in a)


# --- records ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_evaluation_and_every_third_step_is_in_metrics_jsonl(setup, fit_on):
    fitted, folder = fit_on(setup, Scripted([0.5, 0.7, 0.6, 0.65]))
    records = folder.records()
    train = [record for record in records if record["kind"] == "train"]
    assert [record["step"] for record in train] == [1, 3, 6, 8]  # first, every third, last
    assert [record["epoch"] for record in train] == [0, 0, 1, 1]
    rates: Any = optim.schedule(setup.recipe.optim, setup.num_steps)
    assert [record["learning_rate"] for record in train] == [float(rates(record["step"] - 1)) for record in train]
    assert all(np.isfinite([record["loss"], record["grad_norm"]]).all() for record in train)
    assert all(record["real_tokens"] > 0 for record in train)
    evaluations = [record for record in records if record["kind"] == "eval"]
    assert [(record["step"], record["best"]) for record in evaluations] == [
        (2, True),
        (4, True),
        (6, False),
        (8, False),
    ]
    assert [record["scores"] for record in evaluations] == [{"accuracy": s} for s in (0.5, 0.7, 0.6, 0.65)]
    assert len(records) == 8 and fitted.steps == 8


def test_tokens_are_counted(setup, fit_on):
    clock = fit_on(setup, NoDev([]))[0].clock
    assert clock.real_tokens == 2 * setup.datasets["train"].encoded.piece_lengths.sum()
    assert clock.real_tokens + clock.padded_tokens == 8 * 40 * 64
    assert 0 < clock.train_s < clock.wall_s and 0 < clock.first_step_s < clock.wall_s


# --- which parameters come out ---------------------------------------------------------------------------------------


def test_the_best_parameters_come_out_not_the_last(setup, fit_on):
    evaluator = Scripted([0.5, 0.9, 0.4, 0.6])
    fitted, _ = fit_on(setup, evaluator)
    assert (fitted.steps, fitted.best_step, fitted.stopped_early) == (8, 4, False)
    assert same(fitted.params, evaluator.seen[1]) and not same(evaluator.seen[1], evaluator.seen[3])


def test_patience_stops_the_run_and_restores_the_best(setup, fit_on):
    evaluator = Scripted([0.9, 0.5, 0.6, 1.0])
    fitted, folder = fit_on(with_train(setup, patience=2), evaluator)
    assert (fitted.steps, fitted.best_step, fitted.stopped_early) == (6, 2, True)
    assert same(fitted.params, evaluator.seen[0]) and len(evaluator.seen) == 3
    assert folder.records()[-1]["step"] == 6


def test_loss_may_be_the_metric(setup, fit_on):
    evaluator = Scripted([0.9, 0.3, 0.5, 0.4], metric="loss")
    fitted, _ = fit_on(with_train(setup, stop_metric="loss"), evaluator)
    assert fitted.best_step == 4 and same(fitted.params, evaluator.seen[1])


@pytest.mark.slow
def test_without_dev_the_last_parameters_come_out(setup, fit_on):
    last = Scripted([0.1, 0.2, 0.3, 0.4])
    fit_on(setup, last)
    fitted, _ = fit_on(setup, NoDev([]))
    assert fitted.best_step is None and same(fitted.params, last.seen[-1])


@pytest.mark.slow
def test_frozen_layers_come_back_in_their_place(set_up_on, fit_on):
    setup = set_up_on(batch_size=40, steps=2, freeze="layers:1")
    before, after = flatten(setup.params), flatten(fit_on(setup, NoDev([]))[0].params)
    assert {path: leaf.shape for path, leaf in after.items()} == {path: leaf.shape for path, leaf in before.items()}
    kernel = ("encoder", "layers", "up", "kernel")
    np.testing.assert_array_equal(after[kernel][0], before[kernel][0])
    assert not np.array_equal(after[kernel][1], before[kernel][1])


# --- the same again --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_second_run_gives_the_same_hash_and_another_seed_another(setup, fit_on):
    def sha256(**seeds: int) -> str:
        recipe = dataclasses.replace(setup.recipe, seeds=dataclasses.replace(setup.recipe.seeds, **seeds))
        return params_sha256(fit_on(dataclasses.replace(setup, recipe=recipe), NoDev([]))[0].params)

    hashes = [sha256(), sha256(), sha256(dropout=1), sha256(order=1)]
    assert hashes[0] == hashes[1] and len(set(hashes)) == 3


def test_the_hash_sees_names_shapes_types_and_bits():
    base = {"a": {"b": np.zeros((2, 3), np.float32)}, "c": np.ones(2, np.float32)}
    others = [
        {"a": {"x": np.zeros((2, 3), np.float32)}, "c": np.ones(2, np.float32)},
        {"a": {"b": np.zeros((3, 2), np.float32)}, "c": np.ones(2, np.float32)},
        {"a": {"b": np.zeros((2, 3), np.int32)}, "c": np.ones(2, np.float32)},
        {"a": {"b": -np.zeros((2, 3), np.float32)}, "c": np.ones(2, np.float32)},
    ]
    assert params_sha256(base) == params_sha256({"c": base["c"], "a": base["a"]})
    assert len({params_sha256(tree) for tree in (base, *others)}) == 5


# --- compilation -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_compiles_nothing_after_its_first_epoch(set_up_on, fit_on, compilations):
    """Real batches, real evaluations on a dev set; counted at each evaluation by JAX itself."""
    setup = set_up_on(batch_size=40, epochs=3, data={"dev": 0.25})
    real, counts = Evaluator(setup), []

    class Counting(Evaluator):
        def scores(self, split: str, params: Any) -> dict[str, float]:
            found = real.scores(split, params)
            counts.append(len(compilations))
            return found

    fitted, _ = fit_on(setup, Counting(setup))
    assert len(counts) == 3 and counts[0] > 0
    assert counts[1:] == [counts[0]] * 2
    assert len(fitted.shapes) == len(set(fitted.shapes)) >= 1 and fitted.compile_s > 0


# --- no number -------------------------------------------------------------------------------------------------------


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_line(setup, fit_on, files):
    """One text has a word whose embedding is NaN: step and line of that text are told, and of no other."""
    encoded, order = setup.datasets["train"].encoded, setup.order
    step = 2
    tokens, counts = np.unique(encoded.tokens, return_counts=True)
    example_of = np.repeat(encoded.example, encoded.piece_lengths)
    alone = {int(example_of[encoded.tokens == token][0]): int(token) for token in tokens[counts == 1]}
    example = next(int(number) for number in order.examples(step) if int(number) in alone)
    with pytest.raises(UserError) as caught:
        fit_on(with_word(setup, alone[example], np.nan), NoDev([]))
    (problem,) = caught.value.problems
    assert problem.where == f"step {step + 1}"
    assert f"{files['classify']}:{line_of(files['classify'], example)} (examples [{example}])" in problem.what
    assert problem.what.startswith("the loss of 1 of 40 examples is not a number")
    assert "learning_rate" in problem.fix


def line_of(path: Path, example: int) -> int:
    """Line on which a CSV record begins; texts may hold line feeds."""
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        for _ in range(example + 1):
            next(reader)
        return reader.line_num + 1


def test_where_every_loss_is_no_number_the_first_five_are_named(setup, fit_on):
    with pytest.raises(UserError, match=r"^step 1: the loss of 40 of 40 examples is not a number: ") as caught:
        fit_on(with_word(setup, setup.tokenizer.cls_token_id, np.nan), NoDev([]))
    lines, numbers = caught.value.problems[0].what.split(": ", 1)[1].split(" (examples ")
    assert lines.count("messages.csv:") == 5 and lines.endswith(" ...") and numbers.count(",") == 4


# --- real weights ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_minilm_learns_to_tell_spam(set_up_on, fit_on, minilm, sms_spam, tmp_path):
    """12 steps of 32 messages, all layers: from a guess to over 93 % of 150 unseen messages (86 % are ham)."""
    with open(sms_spam, encoding="utf-8", newline="") as file:
        rows = [row for row, _ in zip(csv.reader(file), range(551), strict=False)]
    with open(tmp_path / "some.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    setup = set_up_on(
        model=minilm,
        data={"train": str(tmp_path / "some.csv"), "dev": 150 / 550, "max_tokens": 64},
        batch_size=32,
        steps=12,
        eval_every=12,
        optim=Optim(learning_rate=5e-4),
    )
    evaluator = Evaluator(setup)
    fitted, folder = fit_on(setup, evaluator)
    losses = [record["loss"] for record in folder.records() if record["kind"] == "train"]
    scores = folder.records()[-1]["scores"]
    assert losses[-1] < 0.5 * losses[0] and scores["accuracy"] > 0.93
    assert evaluator.scores("dev", fitted.params)["accuracy"] == scores["accuracy"]
