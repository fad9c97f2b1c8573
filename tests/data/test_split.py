"""Splits: exact, stratified, addressed by content, no copies across parts."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxft import tasks
from jaxft.data.examples import Examples
from jaxft.data.read import read
from jaxft.data.split import split
from jaxft.errors import Problems, UserError
from jaxft.recipe import Data


def make(texts, labels) -> Examples:
    return Examples(list(texts), None, list(labels), [f"f:{i}" for i, _ in enumerate(texts)], "f", "0" * 64)


def test_sizes_strata_and_order():
    examples = make([f"t{i}" for i in range(1000)], ["a"] * 700 + ["b"] * 290 + ["c"] * 10)
    parts = split(examples, dev=0.1, test=0.2, seed=0)
    assert {name: len(part) for name, part in parts.items()} == {"train": 700, "dev": 100, "test": 200}
    assert Counter(parts["dev"].labels or []) == {"a": 70, "b": 29, "c": 1}
    assert Counter(parts["test"].labels or []) == {"a": 140, "b": 58, "c": 2}
    for part in parts.values():
        assert part.texts == sorted(part.texts, key=lambda text: int(text[1:]))
    assert sorted(text for part in parts.values() for text in part.texts) == sorted(examples.texts)


GOLDEN = [["text 0", "text 6", "text 11"], ["text 3", "text 4", "text 6"]]  # dev of seeds 0 and 1


def test_membership_is_fixed_forever():
    """Golden: a change here moves every user's dev set."""
    examples = make([f"text {i}" for i in range(12)], "ab" * 6)
    assert split(examples, dev=0.25, seed=0)["dev"].texts == GOLDEN[0]
    assert split(examples, dev=0.25, seed=1)["dev"].texts == GOLDEN[1]


def test_place_in_the_file_does_not_matter():
    texts, labels = [f"t{i}" for i in range(200)], [f"l{i % 3}" for i in range(200)]
    one = split(make(texts, labels), dev=0.1, test=0.1, seed=3)
    other = split(make(texts[::-1], labels[::-1]), dev=0.1, test=0.1, seed=3)
    assert {name: set(part.texts) for name, part in one.items()} == {
        name: set(part.texts) for name, part in other.items()
    }


def test_added_rows_move_few_others():
    texts = [f"t{i}" for i in range(1010)]
    before = split(make(texts[:1000], ["a"] * 1000), dev=0.1, seed=0)["dev"].texts
    after = split(make(texts, ["a"] * 1010), dev=0.1, seed=0)["dev"].texts
    assert len(set(before) - set(after)) <= 10


def test_copies_stay_together():
    examples = make(["Same text", "same  TEXT"] * 20 + [f"t{i}" for i in range(60)], ["a", "b"] * 50)
    for seed in range(5):
        parts = split(examples, dev=0.3, test=0.3, seed=seed)
        contents = [set(part.contents()) for part in parts.values()]
        assert sum(map(len, contents)) == len(set().union(*contents))


labels = st.lists(st.sampled_from("abcdefgh"), min_size=8, max_size=60)
shares = st.one_of(st.none(), st.floats(0.1, 0.4))


@settings(deadline=None)
@given(labels, st.integers(1, 60), shares, shares, st.integers(0, 2**32 - 1))
def test_partition(names, contents, dev, test, seed):
    examples = make([f"t{i % contents}" for i in range(len(names))], names)
    try:
        parts = split(examples, dev=dev, test=test, seed=seed)
    except UserError:
        return
    assert sorted(where for part in parts.values() for where in part.where) == sorted(examples.where)
    assert set(parts["train"].labels or []) == set(names)
    for name, share in (("dev", dev), ("test", test)):
        assert (name in parts) == (share is not None)
        if share is not None:
            assert 0 < len(parts[name]) <= round(share * len(names))


def test_every_label_stays_in_train():
    examples = make([f"t{i}" for i in range(30)], [f"l{i // 2}" for i in range(30)])
    parts = split(examples, dev=0.3, test=0.3, seed=0)
    assert len(set(parts["train"].labels or [])) == 15


def test_multi_label_goes_by_the_rarest():
    golds = [["a", "b"] if i % 10 == 0 else ["a"] for i in range(200)]
    dev = split(make([f"t{i}" for i in range(200)], golds), dev=0.2, seed=0)["dev"]
    assert sum(label == ["a", "b"] for label in dev.labels or []) == 4


def test_label_that_only_a_copy_has_stays_in_train():
    """`z` goes by the stratum of the text's first label, so that stratum alone does not keep it in train."""
    examples = make([f"t{i}" for i in range(19)] + ["t3"], ["a"] * 19 + ["z"])
    for seed in range(8):
        assert "z" in (split(examples, dev=0.5, seed=seed)["train"].labels or [])


def test_tagged_text_is_not_stratified():
    examples = make([["w", str(i)] for i in range(100)], [["O", "B-X"]] * 100)
    assert len(split(examples, dev=0.25, seed=0)["dev"]) == 25


def test_nothing_to_split_off():
    examples = make(["t0", "t1"], ["a", "b"])
    assert split(examples, seed=0) == {"train": examples}


@pytest.mark.parametrize(
    ("texts", "names", "part", "what"),
    [
        (["t0", "t1", "t2"], "aaa", "data.dev", "a fraction of 0.1 of 3 examples"),
        (["t0", "t1", "t2", "t3"] * 1, "abcd", "data.dev", "(4 labels, each of which keeps one in train) holds none"),
        (["same"] * 20, "a" * 20, "data.dev", "holds none"),
    ],
)
def test_empty_part_is_an_error(texts, names, part, what):
    with pytest.raises(UserError) as caught:
        split(make(texts, names), dev=0.1 if len(texts) != 4 else 0.5, seed=0)
    assert caught.value.problems[0].where == part and what in str(caught.value)


def test_sms_spam(sms_spam):
    problems, spec = Problems(), Data(train="sms_spam")
    parts = split(
        tasks.get("classify").parse(read("sms_spam", spec, problems), spec, problems), dev=0.1, test=0.2, seed=0
    )
    assert not problems.errors
    assert {name: len(part) for name, part in parts.items()} == {"train": 3_902, "dev": 557, "test": 1_115}
    assert Counter(parts["test"].labels or [])["spam"] == 149
