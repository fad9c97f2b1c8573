"""Examples: parts of them, and when two say the same."""

from __future__ import annotations

import pytest

from jaxft.data.examples import Examples


def make(texts, labels=None, pairs=None, ids=None) -> Examples:
    return Examples(texts, pairs, labels, [f"f:{i + 1}" for i in range(len(texts))], "f", "0" * 64, ids)


def test_take_keeps_columns_together():
    part = make(["a", "b", "c"], ["x", "y", "z"], ["p", "q", "r"], ["1", "2", "3"]).take([2, 0])
    assert part == Examples(["c", "a"], ["r", "p"], ["z", "x"], ["f:3", "f:1"], "f", "0" * 64, ["3", "1"])


def test_take_of_unlabelled():
    part = make(["a", "b"]).take([1])
    assert (part.texts, part.labels, part.pairs, part.ids) == (["b"], None, None, None)


def test_kinds():
    assert make([["a", "b"]], [["O", "O"]]).is_tagged
    assert not make([["a", "b"]], [["O", "O"]]).is_multi_label
    assert make(["a"], [["x"]]).is_multi_label
    assert not make(["a"], ["x"]).is_multi_label and not make(["a"]).is_tagged


def test_contents_without_case_and_spacing():
    assert len(set(make(["Hello  you", "hello you ", "HELLO\nYOU"]).contents())) == 1
    assert len(set(make([["Hello", "you"], ["hello you"]]).contents())) == 1
    assert len(set(make(["a", "a"], pairs=["b", "c"]).contents())) == 2
    assert make(["a b"], pairs=["c"]).contents() != make(["a"], pairs=["b c"]).contents()


def test_unequal_columns_are_refused():
    with pytest.raises(ValueError, match="1 labels for 2 texts"):
        make(["a", "b"], ["x"])
