"""The doctor: each illness is found, with numbers and lines, and healthy data passes in silence."""

from __future__ import annotations

import numpy as np
import pytest

from jaxft import tasks
from jaxft.data import doctor
from jaxft.data.examples import Examples
from jaxft.data.read import read
from jaxft.data.split import split
from jaxft.errors import Problems
from jaxft.recipe import Data


def make(texts, labels, name="train", pairs=None, ids=None) -> Examples:
    where = [f"{name}.csv:{i + 2}" for i in range(len(texts))]
    return Examples(list(texts), pairs, list(labels), where, f"{name}.csv", "0" * 64, ids)


def healthy(name="train", start=0) -> Examples:
    return make([f"text {i}" for i in range(start, start + 20)], "ab" * 10, name)


def examine(task="classify", token_lengths=None, spec=None, **splits) -> Problems:
    problems = Problems()
    spec = spec or Data()
    labels = tasks.get(task).label_set(splits["train"], spec)
    doctor.examine(splits, labels, spec, token_lengths, problems)
    return problems


def test_healthy_data_passes_in_silence():
    problems = examine(train=healthy(), dev=healthy("dev", 20), test=healthy("test", 40))
    assert not problems.errors and not problems.warnings


def test_all_errors_at_once():
    dev = make(["x", " ", "y"], ["a", "bb", "c"], "dev")
    train = make([f"t{i}" for i in range(20)], "ab" * 10, ids=["1", "2", "1", *map(str, range(3, 20))])
    problems = examine(train=train, dev=dev)
    assert [str(problem) for problem in problems.errors] == [
        "train.csv:4: id '1' was given before, at train.csv:2 — give each example an id of its own",
        "dev.csv:3: the text is empty — remove the row, or fill it in",
        "dev.csv:3: label 'bb' (1 examples of dev) does not occur in train, which has 2 labels — did you mean 'b'?",
        "dev.csv:4: label 'c' (1 examples of dev) does not occur in train, which has 2 labels — "
        "add examples of it to train, or remove these",
    ]


def test_empty_words_and_second_texts():
    train = make([["a", "b"], ["a", " "], []], [["B-X", "O"], ["O", "O"], []])
    assert [str(problem) for problem in examine("tag", train=train).errors] == [
        "train.csv:3: word 2 of 2 is blank — remove it and its tag",
        "train.csv:4: no words — remove it and its tag",
    ]
    train = make(["x", "y"], ["a", "b"], pairs=["p", ""])
    assert str(examine(train=train).errors[0]).startswith("train.csv:3: the second text is empty")


@pytest.mark.parametrize(
    ("task", "train"),
    [
        ("classify", make(["x", "y"], ["a", "a"])),
        ("tag", make([["x"], ["y"]], [["O"], ["O"]])),
        ("classify", make(["x"], [[]])),
    ],
)
def test_one_class_only(task, train):
    problems = examine(task, train=train)
    assert "there is nothing to tell apart" in problems.errors[0].what


def test_empty_split():
    problems = examine(train=healthy(), dev=make([], [], "dev"))
    assert [str(problem) for problem in problems.errors] == ["dev.csv: the dev set holds no examples"]


def test_overlap_is_a_warning_with_the_count():
    test = make(["TEXT  3", "text 4", "new", "newer"], "abab", "test")
    problems = examine(train=healthy(), test=test)
    assert not problems.errors
    assert [str(problem) for problem in problems.warnings] == [
        "test: 2 of 4 (50.0 %) texts also occur in train (without case and spacing) — "
        "scores on test flatter the model; remove them from one of the two"
    ]


def test_rare_imbalanced_and_misspelt_labels():
    train = make([f"t{i}" for i in range(83)], ["a"] * 80 + ["A", "a ", "b"])
    warnings = [str(problem) for problem in examine(train=train).warnings]
    assert warnings[0].startswith(
        "train.csv: 3 of 4 labels have fewer than 8 training examples: 'A' (1), 'a ' (1), 'b' (1)"
    )
    assert warnings[1].startswith("train.csv: labels that differ in case or spaces alone: 'A' (1), 'a' (80), 'a ' (1)")
    assert "80 examples of 'a' against 1 of" in warnings[2] and "(80 to 1)" in warnings[2]


def test_entities_are_counted_not_tags():
    train = make([["x", "y", "z"]] * 9, [["B-X", "I-X", "O"]] * 9)
    assert doctor.label_counts(train) == {"X": 9}
    problems = examine("tag", train=train)
    assert not problems.errors and not problems.warnings


def test_unknown_tag_in_dev():
    train = make([["x"]] * 9, [["B-X"]] * 9)
    dev = make([["y", "z"]], [["B-Y", "I-Y"]], "dev")
    wheres = [(problem.where, problem.what[:11]) for problem in examine("tag", train=train, dev=dev).errors]
    assert wheres == [("dev.csv:2", "label 'B-Y'"), ("dev.csv:2", "label 'I-Y'")]


def test_contradictions():
    train = make([f"t{i}" for i in range(20)] + ["T0", "t1"], "ab" * 11)
    train = make(train.texts, [*"ab" * 10, "b", "b"])
    warning = examine(train=train).warnings[0]
    assert str(warning) == (
        "train.csv: 1 of 22 (4.5 %) texts repeat an earlier one with another label, as at train.csv:22 — "
        "compare with train.csv:2"
    )


@pytest.mark.parametrize(("overflow", "warned"), [("truncate", 1), ("window", 0), ("error", 0)])
def test_truncation_share(overflow, warned):
    lengths = {"train": np.array([8] * 18 + [20, 30])}
    problems = examine(train=healthy(), token_lengths=lengths, spec=Data(max_tokens=16, overflow=overflow))
    assert len(problems.warnings) == warned
    if warned:
        what = "2 of 20 (10.0 %) examples are longer than 16 tokens and lose 18 of 194 tokens (longest: 30)"
        assert problems.warnings[0].what == what


def test_sms_spam_split_shares_no_text(sms_spam):
    spec, problems = Data(train="sms_spam"), Problems()
    parts = split(
        tasks.get("classify").parse(read("sms_spam", spec, problems), spec, problems), dev=0.1, test=0.2, seed=0
    )
    doctor.examine(parts, ("ham", "spam"), spec, None, problems)
    assert not problems.errors and not problems.warnings


def test_conll2003_overlap(conll2003):
    spec, problems, tag = Data(), Problems(), tasks.get("tag")
    parts = {name: tag.parse(read(f"conll2003:{name}", spec, problems), spec, problems) for name in ("dev", "test")}
    doctor.examine(
        {"train": parts["dev"], "test": parts["test"]}, tag.label_set(parts["dev"], spec), spec, None, problems
    )
    assert not problems.errors
    assert problems.warnings[0].what.startswith("57 of 3,453 (1.7 %) texts also occur in train")
