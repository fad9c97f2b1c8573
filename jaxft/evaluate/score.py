"""Scores: predictions held against the labels of a data set."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from jaxft.data.examples import Examples
from jaxft.evaluate import metrics
from jaxft.evaluate.metrics import Calibration, Table
from jaxft.evaluate.predict import Predictions
from jaxft.tasks.base import Task
from jaxft.tasks.classify import THRESHOLD

LEAST = 1e-12
"""Probabilities count as that much in a loss, at least."""


class Scored(NamedTuple):
    """scores: metric -> value, `loss` (mean cross-entropy) among them. tables: label, entity, tag -> table."""

    scores: dict[str, float]
    tables: dict[str, Table]
    confusion: np.ndarray | None
    confusion_labels: tuple[str, ...]
    calibration: Calibration | None


def score(task: Task, examples: Examples, predictions: Predictions, labels: tuple[str, ...]) -> Scored:
    """examples must be labelled, with labels among `labels`."""
    if predictions.per_token:
        return _tagging(task, examples, predictions.probabilities, labels)
    if examples.is_multi_label:
        return _multi_label(examples, predictions.probabilities, labels)
    return _classification(examples, predictions.probabilities, labels)


def _classification(examples: Examples, probabilities: np.ndarray, labels: tuple[str, ...]) -> Scored:
    index = {label: number for number, label in enumerate(labels)}
    gold = np.array([index[label] for label in examples.labels or []])
    found = metrics.classification(gold, probabilities.argmax(-1), labels)
    loss = {"loss": _negative_log(probabilities[np.arange(len(gold)), gold])}
    calibration = metrics.calibration(probabilities, gold)
    return Scored(found.scores | loss, {"label": found.per_class}, found.confusion, labels, calibration)


def _multi_label(examples: Examples, probabilities: np.ndarray, labels: tuple[str, ...]) -> Scored:
    gold = np.array([[label in chosen for label in labels] for chosen in examples.labels or []])
    found = metrics.multilabel(gold, probabilities >= THRESHOLD, labels)
    loss = {"loss": _negative_log(np.where(gold, probabilities, 1 - probabilities))}
    calibration = metrics.calibration(probabilities, gold)
    return Scored(found.scores | loss, {"label": found.per_class}, None, labels, calibration)


def _tagging(task: Task, examples: Examples, probabilities: list[np.ndarray], labels: tuple[str, ...]) -> Scored:
    """Words that were cut off have no probabilities: they count as predicted O, and not in the loss."""
    gold = examples.labels or []
    predicted = [decode(task, rows, labels) for rows in probabilities]
    found = metrics.tagging(gold, predicted)
    confusion, tags = metrics.tag_confusion(gold, predicted)
    index = {label: number for number, label in enumerate(labels)}
    flat = np.concatenate(probabilities)
    of_gold = flat[np.arange(len(flat)), [index[tag] for tags_ in gold for tag in tags_]]
    loss = {"loss": _negative_log(of_gold[~np.isnan(of_gold)])}
    tables = {"entity": found.per_entity, "tag": found.per_tag}
    return Scored(found.scores | loss, tables, confusion, tags, None)


def decode(task: Task, probabilities: np.ndarray, labels: tuple[str, ...]) -> Any:
    """`Task.decode` for the words [W, C] of one example, O where a word was cut off."""
    outside = np.eye(len(labels), dtype=np.float32)[labels.index("O")]
    return task.decode(np.where(np.isnan(probabilities), outside, probabilities), labels)


def _negative_log(probabilities: np.ndarray) -> float:
    return float(-np.log(np.maximum(probabilities, LEAST)).mean()) if probabilities.size else float("nan")
