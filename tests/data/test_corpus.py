"""The data of a recipe: its splits, their sources, and all problems at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from jaxft.data.corpus import load
from jaxft.errors import UserError
from jaxft.recipe import Data, Recipe, Seeds, check


def write(path: Path, rows: list[tuple[str, str]]) -> str:
    path.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows), "utf-8")
    return str(path)


def rows(count: int, prefix: str = "message") -> list[tuple[str, str]]:
    return [(f"{prefix} number {number}", ("ham", "spam")[number % 2]) for number in range(count)]


def test_files_for_each_split(tmp_path):
    train, dev = write(tmp_path / "a.csv", rows(40)), write(tmp_path / "b.csv", rows(10, "other"))
    corpus = load(Recipe(data=Data(train=train, dev=dev)))
    assert {name: len(split) for name, split in corpus.splits.items()} == {"train": 40, "dev": 10}
    assert corpus.sources == {"train": train, "dev": dev} and corpus.labels == ("ham", "spam")
    assert corpus.splits["train"].where[0] == f"{train}:2"


def test_shares_are_held_out_of_train_and_lose_nothing(tmp_path):
    train = write(tmp_path / "a.csv", rows(100))
    corpus = load(Recipe(data=Data(train=train, dev=0.1, test=0.2)))
    assert {name: len(split) for name, split in corpus.splits.items()} == {"train": 70, "dev": 10, "test": 20}
    assert sorted(text for split in corpus.splits.values() for text in split.texts) == sorted(t for t, _ in rows(100))
    assert corpus.sources == {"train": train, "dev": "0.1 of train", "test": "0.2 of train"}


def test_the_held_out_examples_go_by_the_subsample_seed(tmp_path):
    train = write(tmp_path / "a.csv", rows(100))
    data = Data(train=train, dev=0.2)

    def dev(recipe: Recipe) -> list[str]:
        return load(recipe).splits["dev"].texts

    assert dev(Recipe(data=data)) == dev(Recipe(data=data, seeds=Seeds(dropout=9, order=9, init=9)))
    assert dev(Recipe(data=data)) != dev(Recipe(data=data, seeds=Seeds(subsample=9)))


@pytest.mark.slow
def test_a_named_asset_brings_its_own_splits(conll2003):
    corpus = load(Recipe(task="tag", data=Data(train="conll2003")))
    sizes = {name: len(split) for name, split in corpus.splits.items()}
    assert sizes == {"train": 14041, "dev": 3250, "test": 3453}
    assert corpus.labels[:3] == ("O", "B-LOC", "I-LOC") and len(corpus.labels) == 9


def test_problems_of_all_splits_are_told_at_once(tmp_path):
    train = write(tmp_path / "a.csv", [*rows(10), ("another text", "")])
    dev = write(tmp_path / "b.csv", [("some text", "")])
    with pytest.raises(UserError) as caught:
        load(Recipe(data=Data(train=train, dev=dev, test=str(tmp_path / "absent.csv"))))
    where = " ".join(problem.where for problem in caught.value.problems)
    assert f"{train}:12" in where and f"{dev}:2" in where and "absent.csv" in where


def test_a_label_that_train_lacks_is_an_error(tmp_path):
    train, dev = write(tmp_path / "a.csv", rows(10)), write(tmp_path / "b.csv", [("some text", "eggs")])
    with pytest.raises(UserError, match="eggs"):
        load(Recipe(data=Data(train=train, dev=dev)))


def test_overlap_is_a_warning(tmp_path):
    train, dev = write(tmp_path / "a.csv", rows(40)), write(tmp_path / "b.csv", rows(4))
    corpus = load(Recipe(data=Data(train=train, dev=dev)))
    assert any("4" in warning.what for warning in corpus.warnings)


# --- search, limit ---------------------------------------------------------------------------------------------------


def test_a_search_split_is_a_share_of_train_or_a_source(tmp_path):
    train, other = write(tmp_path / "a.csv", rows(100)), write(tmp_path / "b.csv", rows(10, "other"))
    without = load(Recipe(data=Data(train=train, dev=0.1, test=0.2)))
    corpus = load(Recipe(data=Data(train=train, dev=0.1, test=0.2, search=0.3)))
    assert {name: len(part) for name, part in corpus.splits.items()} == {
        "train": 40,
        "dev": 10,
        "test": 20,
        "search": 30,
    }
    for name in ("dev", "test"):
        assert corpus.splits[name] == without.splits[name]
    held = corpus.splits["train"].texts + corpus.splits["search"].texts
    assert sorted(held) == sorted(without.splits["train"].texts)
    assert corpus.sources["search"] == "0.3 of train" and not corpus.warnings  # nothing overlaps
    from_file = load(Recipe(data=Data(train=train, search=other)))
    assert len(from_file.splits["search"]) == 10 and len(from_file.splits["train"]) == 100
    assert from_file.sources["search"] == other


def test_the_search_split_goes_by_the_subsample_seed(tmp_path):
    data = Data(train=write(tmp_path / "a.csv", rows(100)), search=0.2)

    def search(**seeds: int) -> list[str]:
        return load(Recipe(data=data, seeds=Seeds(**seeds))).splits["search"].texts

    assert search() == search(dropout=9, order=9, explore=9) != search(subsample=9)


def test_fractions_that_leave_nothing_count_search_too():
    with pytest.raises(UserError, match=r"data.dev \+ data.test \+ data.search: leave nothing to train on"):
        check(Recipe(data=Data(train="sms_spam", dev=0.4, test=0.3, search=0.3)))


def test_a_limit_takes_so_many_training_examples(tmp_path):
    """Exactly, of those that are not held out, stratified, by the subsample seed; dev, test and search stay."""
    train = write(tmp_path / "a.csv", rows(100))
    data = Data(train=train, dev=0.1, test=0.2, search=0.1)
    whole = load(Recipe(data=data)).splits
    for limit in (2, 3, 20, 59, 60):
        found = load(Recipe(data=replace(data, limit=limit))).splits
        assert len(found["train"]) == limit and set(found["train"].texts) <= set(whole["train"].texts)
        assert (found["train"].labels or []).count("spam") in (limit // 2, (limit + 1) // 2)
        assert all(found[name] == whole[name] for name in ("dev", "test", "search"))

    def some(**seeds: int) -> list[str]:
        return (
            load(Recipe(data=replace(data, dev=None, test=None, limit=20), seeds=Seeds(**seeds))).splits["train"].texts
        )

    assert some() == some(dropout=9, order=9, init=9, explore=9) != some(subsample=9)


def test_a_limit_draws_copies_one_by_one(tmp_path):
    """So its size is exact, and the last example of a label is never out of reach."""
    train = write(tmp_path / "a.csv", [("the same", "ham")] * 10 + [("the same too", "spam")] * 10)
    for limit in (2, 7, 19, 20):
        assert len(load(Recipe(data=Data(train=train, limit=limit))).splits["train"]) == limit


def test_a_limit_that_cannot_be_kept_is_told(tmp_path):
    train = write(tmp_path / "a.csv", rows(100))
    with pytest.raises(UserError) as caught:
        load(Recipe(data=Data(train=train, dev=0.2, limit=1)))
    assert str(caught.value) == "data.limit: 1 examples cannot hold one of each of 2 labels — at least 2"
    with pytest.raises(UserError, match="data.limit: must be at least 1, is 0"):
        check(Recipe(data=Data(train=train, limit=0)))
    corpus = load(Recipe(data=Data(train=train, dev=0.2, limit=90)))
    assert len(corpus.splits["train"]) == 80
    assert [str(warning) for warning in corpus.warnings] == [
        "data.limit: is 90, but there are only 80 training examples"
    ]
