"""Scores: right probabilities held against right labels, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from jaxft import tasks
from jaxft.data.examples import Examples
from jaxft.evaluate.predict import Predictions
from jaxft.evaluate.score import decode, score

TAGS = ("O", "B-LOC", "I-LOC")


def examples(texts: list, labels: list) -> Examples:
    return Examples(texts, None, labels, [f"x:{number}" for number in range(len(texts))], "x", "0" * 64)


def test_classification():
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.8, 0.2], [0.3, 0.7]], np.float32)
    gold = examples(["a", "b", "c", "d"], ["ham", "spam", "spam", "spam"])
    found = score(tasks.get("classify"), gold, Predictions(probabilities, False), ("ham", "spam"))
    assert found.scores["accuracy"] == 0.75
    assert found.scores["loss"] == pytest.approx(-sum(map(math.log, (0.9, 0.6, 0.2, 0.7))) / 4, rel=1e-6)
    assert found.tables["label"]["spam"]["recall"] == pytest.approx(2 / 3)
    np.testing.assert_array_equal(found.confusion, [[1, 0], [1, 2]])
    assert found.confusion_labels == ("ham", "spam") and found.calibration is not None


def test_many_labels():
    probabilities = np.array([[0.9, 0.6], [0.2, 0.7]], np.float32)
    gold = examples(["a", "b"], [["x", "y"], ["x"]])
    found = score(tasks.get("classify"), gold, Predictions(probabilities, False), ("x", "y"))
    assert found.scores["loss"] == pytest.approx(-sum(map(math.log, (0.9, 0.6, 0.2, 0.3))) / 4, rel=1e-6)
    assert found.tables["label"]["x"]["recall"] == 0.5 and found.tables["label"]["y"]["precision"] == 0.5
    assert found.confusion is None


def test_words_cut_off_count_as_outside_and_not_in_the_loss():
    nan = [np.nan] * 3
    probabilities = [
        np.array([[0.1, 0.8, 0.1], [0.2, 0.1, 0.7]], np.float32),
        np.array([[0.6, 0.3, 0.1], nan], np.float32),
    ]
    gold = examples([["New", "York"], ["in", "Rome"]], [["B-LOC", "I-LOC"], ["O", "B-LOC"]])
    found = score(tasks.get("tag"), gold, Predictions(probabilities, True), TAGS)
    assert found.scores["precision"] == 1.0 and found.scores["recall"] == 0.5
    assert found.scores["f1"] == pytest.approx(2 / 3) and found.scores["accuracy"] == 0.75
    assert found.scores["loss"] == pytest.approx(-sum(map(math.log, (0.8, 0.7, 0.6))) / 3, rel=1e-6)
    assert found.tables["entity"]["LOC"]["support"] == 2 and set(found.tables["tag"]) >= {"B-LOC", "I-LOC"}
    assert found.calibration is None


def test_decode_says_outside_where_nothing_is_known():
    rows = np.array([[0.1, 0.8, 0.1], [np.nan] * 3], np.float32)
    assert decode(tasks.get("tag"), rows, TAGS) == ["B-LOC", "O"]
