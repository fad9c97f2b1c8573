"""Scores of predictions against gold labels: one label, many labels, tags of words; and calibration.

scikit-learn counts labels and seqeval reads entities; every precision, recall and F1 then comes from the same three
counts (right, predicted, gold). A division by zero is 0, without a warning. Nothing here touches a device.

A table is a dict, label -> row; a row: `precision`, `recall`, `f1` and the counts `support` (gold) and `predicted`.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from seqeval.metrics.sequence_labeling import get_entities
from sklearn.metrics import confusion_matrix, matthews_corrcoef

Row = dict[str, float]
Table = dict[str, Row]


class Classification(NamedTuple):
    """Scores of `classification`."""

    scores: dict[str, float]
    """accuracy, macro_f1, mcc (Matthews). Micro F1 is left out: with one label an example it is the accuracy."""
    per_class: Table
    """Every label, also those that never occur."""
    confusion: np.ndarray
    """int64 [C, C]: row = gold, column = predicted."""


class Multilabel(NamedTuple):
    """Scores of `multilabel`."""

    scores: dict[str, float]
    """micro_f1, micro_precision, micro_recall, macro_f1, accuracy (all C labels of an example right)."""
    per_class: Table


class Tagging(NamedTuple):
    """Scores of `tagging`."""

    scores: dict[str, float]
    """f1, precision, recall of entities (micro); accuracy of words."""
    per_entity: Table
    """Entity type -> row; an entity is right if type, first and last word are."""
    per_tag: Table
    """Tag of a word (B-LOC, I-LOC, ..., O) -> row, as in the tables of the CoNLL papers."""


@dataclass(frozen=True)
class Bin:
    """Predictions whose confidence lies in (low, high]; confidence 0 counts in the first bin."""

    low: float
    high: float
    count: int
    confidence: float | None
    """Mean probability of the predicted label; None in an empty bin."""
    accuracy: float | None
    """Share of right predictions; None in an empty bin."""


class Calibration(NamedTuple):
    """How well confidence matches accuracy."""

    bins: tuple[Bin, ...]
    ece: float
    """Expected calibration error: sum over bins of count / E * |accuracy - confidence| (Guo et al. 2017)."""


# --- one label an example --------------------------------------------------------------------------------------------


def classification(gold: Any, predicted: Any, labels: Sequence[str]) -> Classification:
    """Scores of one label an example.

    gold, predicted: int [E], indexes into `labels` [C].
    Macro F1 runs over the labels that occur in gold or predicted, as in scikit-learn.
    Raises ValueError on different lengths, no examples, and indexes outside 0 .. C - 1.
    """
    gold, predicted = np.asarray(gold), np.asarray(predicted)
    _same_shape(gold, predicted, 1)
    for name, values in (("gold", gold), ("predicted", predicted)):
        if not np.issubdtype(values.dtype, np.integer):
            raise ValueError(f"{name} must hold label indexes, holds {values.dtype}")
        if values.min() < 0 or values.max() >= len(labels):
            raise ValueError(f"{name} runs from {values.min()} to {values.max()}, labels from 0 to {len(labels) - 1}")
    confusion = confusion_matrix(gold, predicted, labels=np.arange(len(labels))).astype(np.int64)
    per_class = _table(labels, np.diag(confusion), confusion.sum(0), confusion.sum(1))
    scores = {
        "accuracy": float(np.trace(confusion) / confusion.sum()),
        "macro_f1": averages(per_class)["macro avg"]["f1"],
        "mcc": _mcc(gold, predicted),
    }
    return Classification(scores, per_class, confusion)


def _mcc(gold: np.ndarray, predicted: np.ndarray) -> float:
    """Matthews correlation; 0 where one side knows a single label."""
    if len(np.unique(gold)) == 1 or len(np.unique(predicted)) == 1:  # scikit-learn: the same 0, with a warning
        return 0.0
    return float(matthews_corrcoef(gold, predicted))


# --- any number of labels an example ---------------------------------------------------------------------------------


def multilabel(gold: Any, predicted: Any, labels: Sequence[str]) -> Multilabel:
    """Scores of any number of labels an example.

    gold, predicted: bool [E, C] (0 and 1 pass too); labels [C].
    Raises ValueError on different shapes, no examples, and other values.
    """
    gold, predicted = np.asarray(gold), np.asarray(predicted)
    _same_shape(gold, predicted, 2)
    if gold.shape[1] != len(labels):
        raise ValueError(f"{gold.shape[1]} columns for {len(labels)} labels")
    for name, values in (("gold", gold), ("predicted", predicted)):
        if not np.isin(values, (0, 1)).all():
            raise ValueError(f"{name} must hold only 0 and 1 (threshold the probabilities first)")
    gold, predicted = gold.astype(bool), predicted.astype(bool)
    per_class = _table(labels, (gold & predicted).sum(0), predicted.sum(0), gold.sum(0))
    mean = averages(per_class)
    scores = {
        "micro_f1": mean["micro avg"]["f1"],
        "micro_precision": mean["micro avg"]["precision"],
        "micro_recall": mean["micro avg"]["recall"],
        "macro_f1": mean["macro avg"]["f1"],
        "accuracy": float((gold == predicted).all(axis=1).mean()),
    }
    return Multilabel(scores, per_class)


# --- tags of words ---------------------------------------------------------------------------------------------------


def tagging(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> Tagging:
    """Entity-level and word-level scores of tagged sentences.

    Entities are read by seqeval in its default mode, which follows the `conlleval` script of CoNLL-2000 to 2003, not
    its `strict` mode: an I-X without B-X before it starts an entity.
    gold, predicted: one list of tags a sentence, `O` or B-, I-, E-, S- with a type.
    Raises ValueError on different lengths (naming the first sentence, from 0), no words, and other tags.
    """
    gold, predicted = [list(tags) for tags in gold], [list(tags) for tags in predicted]
    confusion, tags = tag_confusion(gold, predicted)  # refuses what cannot be scored
    per_entity = _entity_table(gold, predicted)
    micro = averages(per_entity)["micro avg"]
    scores = {name: micro[name] for name in ("f1", "precision", "recall")}
    scores["accuracy"] = float(np.trace(confusion) / confusion.sum())
    return Tagging(scores, per_entity, _table(tags, np.diag(confusion), confusion.sum(0), confusion.sum(1)))


def tag_confusion(
    gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Counts of words int64 [C, C] (row = gold, column = predicted) and the C tags that occur: B-LOC, I-LOC, ..., O.

    Takes and refuses what `tagging` does.
    """
    if len(gold) != len(predicted):
        raise ValueError(f"{len(gold)} gold sentences, {len(predicted)} predicted")
    for index, (left, right) in enumerate(zip(gold, predicted, strict=True)):
        if len(left) != len(right):
            raise ValueError(f"sentence {index}: {len(left)} gold tags, {len(right)} predicted")
    words, guesses = list(itertools.chain(*gold)), list(itertools.chain(*predicted))
    if not words:
        raise ValueError("no words to score")
    tags = sorted({*words, *guesses}, key=_tag_order)
    bad = [tag for tag in tags if tag != "O" and tag[:2] not in ("B-", "I-", "E-", "S-")]
    if bad:
        raise ValueError(f"not an IOB tag: {', '.join(map(repr, bad[:5]))}; expected O, or B- or I- with a type")
    place = {tag: index for index, tag in enumerate(tags)}
    cells = np.array([place[word] * len(tags) + place[guess] for word, guess in zip(words, guesses, strict=True)])
    return np.bincount(cells, minlength=len(tags) ** 2).reshape(len(tags), -1).astype(np.int64), tuple(tags)


def _entity_table(gold: list[list[str]], predicted: list[list[str]]) -> Table:
    """Counts of equal spans (type, first, last), types in alphabetical order."""
    wanted, found = set(get_entities(gold)), set(get_entities(predicted))
    types = sorted({span[0] for span in wanted | found})
    right, guessed, meant = (Counter(span[0] for span in spans) for spans in (wanted & found, found, wanted))
    return {name: _row(right[name], guessed[name], meant[name]) for name in types}


def _tag_order(tag: str) -> tuple[bool, str, str]:
    """B-LOC, I-LOC, B-MISC, ..., O last."""
    return tag == "O", tag[2:], tag[:2]


# --- tables ----------------------------------------------------------------------------------------------------------


def averages(table: Table) -> Table:
    """The rows `micro avg`, `macro avg` and `weighted avg` of a table, as in scikit-learn's classification_report.

    Micro: from the sums of the counts. Macro: plain mean over the labels that occur in gold or predicted.
    Weighted: mean by support.
    """
    rows = [row for row in table.values() if row["support"] or row["predicted"]]
    support = sum(row["support"] for row in rows)
    predicted = sum(row["predicted"] for row in rows)
    right = sum(round(row["recall"] * row["support"]) for row in rows)  # recall = right / support
    weights = [row["support"] for row in rows]
    micro = _row(right, predicted, support)
    return {
        "micro avg": micro,
        "macro avg": micro | {name: _mean(rows, name, [1] * len(rows)) for name in ("precision", "recall", "f1")},
        "weighted avg": micro | {name: _mean(rows, name, weights) for name in ("precision", "recall", "f1")},
    }


def _mean(rows: list[Row], name: str, weights: Sequence[float]) -> float:
    return _ratio(sum(row[name] * weight for row, weight in zip(rows, weights, strict=True)), sum(weights))


def _table(names: Sequence[str], right: Iterable[int], predicted: Iterable[int], gold: Iterable[int]) -> Table:
    counts = zip(right, predicted, gold, strict=True)
    return {name: _row(*row) for name, row in zip(names, counts, strict=True)}


def _row(right: float, predicted: float, gold: float) -> Row:
    return {
        "precision": _ratio(right, predicted),
        "recall": _ratio(right, gold),
        "f1": _ratio(2 * right, predicted + gold),  # 2PR / (P + R)
        "support": int(gold),
        "predicted": int(predicted),
    }


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else 0.0


def _same_shape(gold: np.ndarray, predicted: np.ndarray, rank: int) -> None:
    if gold.shape != predicted.shape or gold.ndim != rank:
        raise ValueError(f"expected gold and predicted alike, of rank {rank}, came {gold.shape} and {predicted.shape}")
    if gold.shape[0] == 0:
        raise ValueError("no examples to score")


# --- calibration -----------------------------------------------------------------------------------------------------


def calibration(probabilities: Any, gold: Any, bins: int = 10) -> Calibration:
    """Reliability of the predicted label's probability, in `bins` bins of equal width over 0 .. 1.

    probabilities: float [E, C]. gold: int [E] (one label; the predicted one has the highest probability), or
    bool [E, C] (many labels; each of the E * C yes/no decisions at 0.5 counts, with the probability of the side taken).
    Raises ValueError on different lengths, no examples, probabilities outside 0 .. 1, and indexes outside 0 .. C - 1.
    """
    confidence, right = _decisions(np.asarray(probabilities, np.float64), np.asarray(gold))
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    edges = np.arange(bins + 1) / bins
    filled = tuple(_bin(edges[i], edges[i + 1], confidence[place == i], right[place == i]) for i in range(bins))
    gaps = [np.sum(right[place == i] - confidence[place == i]) for i in range(bins)]  # count * (accuracy - confidence)
    return Calibration(filled, float(np.abs(gaps).sum() / len(confidence)))


def _decisions(probabilities: np.ndarray, gold: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Confidence and rightness of each decision: float [E] and bool [E], or [E * C] with many labels."""
    if probabilities.ndim != 2 or gold.shape not in (probabilities.shape[:1], probabilities.shape):
        shapes = f"{probabilities.shape} and {gold.shape}"
        raise ValueError(f"expected probabilities [E, C] and gold [E] or [E, C], came {shapes}")
    if probabilities.shape[0] == 0:
        raise ValueError("no examples to score")
    if not ((probabilities >= 0) & (probabilities <= 1 + 1e-6)).all():  # NaN fails too
        raise ValueError("probabilities must lie between 0 and 1")
    if gold.ndim == 2:
        flat = probabilities.ravel()
        return np.maximum(flat, 1 - flat), (flat >= 0.5) == gold.ravel().astype(bool)
    if gold.min() < 0 or gold.max() >= probabilities.shape[1]:
        raise ValueError(f"gold runs from {gold.min()} to {gold.max()}, labels from 0 to {probabilities.shape[1] - 1}")
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == gold


def _bin(low: float, high: float, confidence: np.ndarray, right: np.ndarray) -> Bin:
    if not len(confidence):
        return Bin(float(low), float(high), 0, None, None)
    return Bin(float(low), float(high), len(confidence), float(confidence.mean()), float(right.mean()))
