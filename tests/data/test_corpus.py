"""The data of a recipe: its splits, their sources, and all problems at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from jaxft.data.corpus import load
from jaxft.errors import UserError
from jaxft.recipe import Data, Recipe, Seeds


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
