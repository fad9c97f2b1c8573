from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxft.evaluate import metrics

seqeval: Any = importlib.import_module("seqeval.metrics")  # untyped, or typed more narrowly than they are
sklearn: Any = importlib.import_module("sklearn.metrics")

TAGS = ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
SENTENCES = st.lists(
    st.lists(st.tuples(st.sampled_from(TAGS), st.sampled_from(TAGS)), max_size=8), min_size=1, max_size=8
).filter(lambda sentences: any(sentences))


def reference(gold, predicted, labels):
    return sklearn.classification_report(
        gold, predicted, labels=range(len(labels)), target_names=labels, output_dict=True, zero_division=0
    )


# --- one label -------------------------------------------------------------------------------------------------------


def test_classification_by_hand():
    #           ham right x3, ham as spam, spam as ham, spam right x2
    gold = [0, 0, 0, 0, 1, 1, 1]
    predicted = [0, 0, 0, 1, 0, 1, 1]
    scores, per_class, confusion = metrics.classification(gold, predicted, ("ham", "spam"))
    assert confusion.tolist() == [[3, 1], [1, 2]]
    assert scores["accuracy"] == pytest.approx(5 / 7)
    assert per_class["ham"] == {"precision": 0.75, "recall": 0.75, "f1": 0.75, "support": 4, "predicted": 4}
    assert per_class["spam"]["f1"] == pytest.approx(2 / 3)
    assert scores["macro_f1"] == pytest.approx((0.75 + 2 / 3) / 2)
    # Matthews: (TP TN - FP FN) / sqrt((TP + FP)(TP + FN)(TN + FP)(TN + FN))
    assert scores["mcc"] == pytest.approx((2 * 3 - 1 * 1) / np.sqrt(3 * 3 * 4 * 4))


@pytest.mark.parametrize("seed", range(5))
def test_classification_agrees_with_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    labels = tuple("abcdef")
    gold = rng.integers(0, 5, 60)  # "f" never occurs
    predicted = np.where(rng.random(60) < 0.6, gold, rng.integers(0, 5, 60))
    scores, per_class, confusion = metrics.classification(gold, predicted, labels)
    expected = reference(gold, predicted, labels)
    for label in labels:
        for ours, theirs in (("precision",) * 2, ("recall",) * 2, ("f1", "f1-score"), ("support",) * 2):
            assert per_class[label][ours] == pytest.approx(expected[label][theirs])
    assert scores["macro_f1"] == pytest.approx(sklearn.f1_score(gold, predicted, average="macro"))
    assert scores["mcc"] == pytest.approx(sklearn.matthews_corrcoef(gold, predicted))
    assert confusion.sum() == 60 and confusion.shape == (6, 6) and not confusion[5].any()
    weighted = metrics.averages(per_class)["weighted avg"]
    assert weighted["f1"] == pytest.approx(expected["weighted avg"]["f1-score"])


def test_no_division_warnings_when_a_label_is_missing():
    scores, per_class, _ = metrics.classification([0, 0], [0, 0], ("a", "b"))
    assert scores == {"accuracy": 1.0, "macro_f1": 1.0, "mcc": 0.0}
    assert per_class["b"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0, "predicted": 0}


@pytest.mark.parametrize(
    ("gold", "predicted", "message"),
    [
        ([0, 1], [0], r"\(2,\) and \(1,\)"),
        ([], [], "no examples"),
        ([0, 2], [0, 1], "gold runs from 0 to 2, labels from 0 to 1"),
        ([0, 1], [0, -1], "predicted runs from -1"),
        ([0.0, 1.0], [0, 1], "gold must hold label indexes, holds float64"),
    ],
)
def test_classification_refuses(gold, predicted, message):
    with pytest.raises(ValueError, match=message):
        metrics.classification(np.asarray(gold), np.asarray(predicted), ("a", "b"))


# --- many labels -----------------------------------------------------------------------------------------------------


def test_multilabel_by_hand():
    gold = [[1, 0, 1], [0, 1, 0], [0, 0, 0]]
    predicted = [[1, 0, 0], [0, 1, 1], [0, 0, 0]]
    scores, per_class = metrics.multilabel(gold, predicted, ("x", "y", "z"))
    # right: x1 y1; predicted 3, gold 3
    assert scores["micro_f1"] == pytest.approx(2 / 3) == scores["micro_precision"] == scores["micro_recall"]
    assert scores["macro_f1"] == pytest.approx((1 + 1 + 0) / 3)
    assert scores["accuracy"] == pytest.approx(1 / 3)
    assert per_class["z"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1, "predicted": 1}


def test_multilabel_agrees_with_scikit_learn():
    rng = np.random.default_rng(7)
    gold, predicted = rng.random((40, 4)) < 0.3, rng.random((40, 4)) < 0.4
    scores, per_class = metrics.multilabel(gold, predicted, tuple("abcd"))
    assert scores["micro_f1"] == pytest.approx(sklearn.f1_score(gold, predicted, average="micro"))
    assert scores["macro_f1"] == pytest.approx(sklearn.f1_score(gold, predicted, average="macro"))
    assert [row["f1"] for row in per_class.values()] == pytest.approx(sklearn.f1_score(gold, predicted, average=None))


@pytest.mark.parametrize(
    ("gold", "predicted", "message"),
    [
        ([[1, 0]], [[1, 0], [0, 1]], "alike, of rank 2"),
        ([[1, 0, 1]], [[1, 0, 1]], "3 columns for 2 labels"),
        ([[1, 0]], [[0.7, 0.2]], "predicted must hold only 0 and 1"),
    ],
)
def test_multilabel_refuses(gold, predicted, message):
    with pytest.raises(ValueError, match=message):
        metrics.multilabel(gold, predicted, ("a", "b"))


# --- tags ------------------------------------------------------------------------------------------------------------


def test_tagging_by_hand():
    gold = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "B-LOC", "O"]]
    predicted = [["B-PER", "I-PER", "O", "B-PER"], ["O", "B-LOC", "I-LOC"]]
    scores, per_entity, per_tag = metrics.tagging(gold, predicted)
    # gold: PER 0-1, LOC 3, LOC 5; predicted: PER 0-1, PER 3, LOC 5-6; one in common
    assert scores == {"f1": pytest.approx(1 / 3), "precision": pytest.approx(1 / 3), "recall": pytest.approx(1 / 3),
                      "accuracy": pytest.approx(5 / 7)}  # fmt: skip
    assert per_entity["PER"] == {
        "precision": 0.5,
        "recall": 1.0,
        "f1": pytest.approx(2 / 3),
        "support": 1,
        "predicted": 2,
    }
    assert per_entity["LOC"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 2, "predicted": 1}
    assert list(per_tag) == ["B-LOC", "I-LOC", "B-PER", "I-PER", "O"]
    assert per_tag["B-LOC"] == {
        "precision": 1.0,
        "recall": 0.5,
        "f1": pytest.approx(2 / 3),
        "support": 2,
        "predicted": 1,
    }
    assert per_tag["O"]["support"] == 3 and per_tag["O"]["predicted"] == 2


def test_tag_confusion_by_hand():
    confusion, tags = metrics.tag_confusion([["B-PER", "I-PER", "O", "B-LOC"]], [["B-PER", "O", "O", "B-PER"]])
    assert tags == ("B-LOC", "B-PER", "I-PER", "O")
    assert confusion.tolist() == [[0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 1]]


def test_inside_without_begin_starts_an_entity_as_in_conlleval():
    scores, _, _ = metrics.tagging([["B-LOC", "O"]], [["I-LOC", "O"]])
    assert scores["f1"] == 1.0 and scores["accuracy"] == 0.5


def test_entities_do_not_cross_sentences():
    scores, per_entity, _ = metrics.tagging([["B-LOC"], ["I-LOC"]], [["B-LOC"], ["I-LOC"]])
    assert per_entity["LOC"]["support"] == 2 and scores["f1"] == 1.0


def test_no_entities_at_all():
    scores, per_entity, per_tag = metrics.tagging([["O", "O"]], [["O", "O"]])
    assert scores == {"f1": 0.0, "precision": 0.0, "recall": 0.0, "accuracy": 1.0}
    assert per_entity == {} and per_tag["O"]["f1"] == 1.0


@settings(max_examples=60, deadline=None)
@given(SENTENCES)
def test_tagging_agrees_with_seqeval_and_scikit_learn(sentences):
    gold = [[tag for tag, _ in sentence] for sentence in sentences]
    predicted = [[tag for _, tag in sentence] for sentence in sentences]
    scores, per_entity, per_tag = metrics.tagging(gold, predicted)
    for name, oracle in (("f1", seqeval.f1_score), ("precision", seqeval.precision_score),
                         ("recall", seqeval.recall_score)):  # fmt: skip
        assert scores[name] == pytest.approx(oracle(gold, predicted, zero_division=0) if per_entity else 0.0)
    assert scores["accuracy"] == pytest.approx(seqeval.accuracy_score(gold, predicted))
    if per_entity:
        report = seqeval.classification_report(gold, predicted, output_dict=True, zero_division=0)
        for name, row in (per_entity | metrics.averages(per_entity)).items():
            expected = report[name]
            assert [row["precision"], row["recall"], row["f1"], row["support"]] == pytest.approx(
                [expected[key] for key in ("precision", "recall", "f1-score", "support")]
            )
    flat = [[tag for sentence in side for tag in sentence] for side in (gold, predicted)]
    report = sklearn.classification_report(*flat, output_dict=True, zero_division=0)
    for name, row in per_tag.items():
        assert row["f1"] == pytest.approx(report[name]["f1-score"])
        assert row["support"] == report[name]["support"]


@pytest.mark.parametrize(
    ("gold", "predicted", "message"),
    [
        ([["O"]], [["O"], ["O"]], "1 gold sentences, 2 predicted"),
        ([["O"], ["O", "O"]], [["O"], ["O"]], "sentence 1: 2 gold tags, 1 predicted"),
        ([[]], [[]], "no words"),
        ([["LOC"]], [["O"]], "not an IOB tag: 'LOC'"),
    ],
)
def test_tagging_refuses(gold, predicted, message):
    with pytest.raises(ValueError, match=message):
        metrics.tagging(gold, predicted)


# --- calibration -----------------------------------------------------------------------------------------------------


def test_calibration_by_hand():
    probabilities = [[0.95, 0.05], [0.92, 0.08], [0.3, 0.7], [0.65, 0.35]]
    bins, ece = metrics.calibration(probabilities, [0, 1, 1, 0])
    assert len(bins) == 10 and [b.count for b in bins] == [0] * 6 + [2, 0, 0, 2]
    assert bins[9].confidence == pytest.approx(0.935) and bins[9].accuracy == 0.5
    assert bins[6].confidence == pytest.approx(0.675) and bins[6].accuracy == 1.0
    assert bins[0].confidence is None and (bins[0].low, bins[9].high) == (0.0, 1.0)
    assert ece == pytest.approx((2 * (0.935 - 0.5) + 2 * (1 - 0.675)) / 4)


def test_calibration_of_many_labels_counts_each_decision():
    bins, ece = metrics.calibration([[0.9, 0.2], [0.1, 0.6]], [[True, False], [False, False]])
    # sides taken: .9 right, .8 right, .9 right, .6 wrong
    assert sum(b.count for b in bins) == 4
    assert ece == pytest.approx((2 * 0.1 + 0.2 + 0.6) / 4)


def test_certain_and_right_is_calibrated():
    bins, ece = metrics.calibration(np.eye(3), [0, 1, 2])
    assert ece == 0.0 and bins[9].count == 3


@pytest.mark.parametrize(
    ("probabilities", "gold", "message"),
    [
        ([[0.5, 0.5]], [0, 1], r"\(1, 2\) and \(2,\)"),
        ([[np.nan, 0.5]], [0], "between 0 and 1"),
        ([[0.5, 0.5]], [2], "gold runs from 2 to 2, labels from 0 to 1"),
        (np.zeros((0, 2)), [], "no examples"),
    ],
)
def test_calibration_refuses(probabilities, gold, message):
    with pytest.raises(ValueError, match=message):
        metrics.calibration(probabilities, gold)
