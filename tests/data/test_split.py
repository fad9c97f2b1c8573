"""Splits: exact, stratified, addressed by content, no copies across parts."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxft import tasks
from jaxft.data.examples import Examples
from jaxft.data.read import read
from jaxft.data.split import sample, split
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


# --- search ----------------------------------------------------------------------------------------------------------


def test_search_is_held_out_stratified_and_seeded():
    examples = make([f"t{i}" for i in range(1000)], ["a"] * 700 + ["b"] * 290 + ["c"] * 10)
    parts = split(examples, dev=0.1, test=0.2, search=0.3, seed=0)
    assert {name: len(part) for name, part in parts.items()} == {"train": 400, "dev": 100, "test": 200, "search": 300}
    assert list(parts) == ["train", "dev", "test", "search"]
    assert Counter(parts["search"].labels or []) == {"a": 210, "b": 87, "c": 3}
    assert sorted(text for part in parts.values() for text in part.texts) == sorted(examples.texts)
    again, other = (split(examples, dev=0.1, test=0.2, search=0.3, seed=seed)["search"].texts for seed in (0, 1))
    assert again == parts["search"].texts != other
    assert split(examples, search=0.3, seed=0).keys() == {"train", "search"}


@settings(deadline=None)
@given(labels, st.integers(1, 60), shares, shares, st.floats(0.1, 0.3), st.integers(0, 2**32 - 1))
def test_search_moves_no_example_of_dev_and_test(names, contents, dev, test, search, seed):
    """Copies with different labels included: what a label lacks in train then comes back from search alone."""
    examples = make([f"t{i % contents}" for i in range(len(names))], names)
    try:
        parts = split(examples, dev=dev, test=test, search=search, seed=seed)
    except UserError:
        return
    without = split(examples, dev=dev, test=test, seed=seed)
    for name in ("dev", "test"):
        assert (name in parts) == (name in without)
        assert name not in parts or parts[name] == without[name]
    assert set(parts["train"].where) | set(parts["search"].where) == set(without["train"].where)
    assert set(parts["train"].labels or []) == set(names)
    held = [set(part.contents()) for part in parts.values()]
    assert sum(map(len, held)) == len(set().union(*held))


def test_a_label_that_search_took_comes_back_from_search():
    """`z` is the second label of a text that test holds, and of one that would be searched: test keeps its own."""
    texts, names = [f"t{i}" for i in range(12)], ["a"] * 12
    examples = make(texts + texts, names + ["z"] * 12)  # every text has both labels, and goes by the first
    for seed in range(20):
        parts = split(examples, test=0.3, search=0.3, seed=seed)
        assert parts["test"] == split(examples, test=0.3, seed=seed)["test"]
        assert set(parts["train"].labels or []) == {"a", "z"}
    multi = make([f"t{i}" for i in range(6)], [["a"]] * 3 + [["a", "b"], ["a", "b", "c"], ["a", "b", "c"]])
    for seed in range(20):
        parts = split(multi, test=0.34, search=0.34, seed=seed)
        assert parts["test"] == split(multi, test=0.34, seed=seed)["test"]


# --- samples ---------------------------------------------------------------------------------------------------------


def test_a_sample_is_exact_stratified_and_in_order():
    examples = make([f"t{i}" for i in range(1000)], ["a"] * 700 + ["b"] * 290 + ["c"] * 10)
    found = sample(examples, 100, seed=0)
    assert Counter(found.labels or []) == {"a": 70, "b": 29, "c": 1}
    assert found.texts == sorted(found.texts, key=lambda text: int(text[1:]))
    assert sample(examples, 100, seed=0) == found != sample(examples, 100, seed=1)
    assert sample(examples, 1000, seed=0) == sample(examples, 5000, seed=0) == examples


@settings(deadline=None)
@given(labels, st.integers(1, 60), st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_any_sample_has_its_size_and_every_label(names, contents, size, seed):
    """Copies or not."""
    examples = make([f"t{i % contents}" for i in range(len(names))], names)
    if size < len(set(names)):
        with pytest.raises(UserError, match=f"data.limit: {size} examples cannot hold one of each of"):
            sample(examples, size, seed=seed)
        return
    found = sample(examples, size, seed=seed)
    assert len(found) == min(size, len(names)) and set(found.labels or []) == set(names)
    assert set(found.where) <= set(examples.where) and len(set(found.where)) == len(found)
    counts, share = Counter(names), len(found) / len(names)
    for label, count in Counter(found.labels or []).items():
        assert count == 1 or abs(count - counts[label] * share) <= len(counts)


def test_place_in_the_file_does_not_matter_to_a_sample():
    texts, names = [f"t{i}" for i in range(200)], [f"l{i % 3}" for i in range(200)]
    one, other = sample(make(texts, names), 31, seed=3), sample(make(texts[::-1], names[::-1]), 31, seed=3)
    assert set(one.texts) == set(other.texts)


def test_samples_of_multi_label_and_tagged_text():
    golds = [["a", "b"] if i % 10 == 0 else ["a"] for i in range(200)]
    found = sample(make([f"t{i}" for i in range(200)], golds), 20, seed=0)
    assert len(found) == 20 and sum(label == ["a", "b"] for label in found.labels or []) == 2
    assert len(sample(make([["w", str(i)] for i in range(100)], [["O", "B-X"]] * 100), 17, seed=0)) == 17
