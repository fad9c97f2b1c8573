from __future__ import annotations

import json
from pathlib import Path

import pytest

from jaxft.data.unlabelled import Texts, given, read_texts
from jaxft.errors import Problems
from jaxft.recipe import Data


def read(path: Path, plain: bool | None = None, **spec) -> tuple[Texts, Problems]:
    problems = Problems()
    return read_texts(str(path), Data(**spec), plain=plain, problems=problems), problems


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_plain_text_is_one_text_a_line_and_blank_lines_are_counted(tmp_path: Path):
    path = write(tmp_path / "notes.txt", "one\n\n  two \r\nthree\n")
    found, problems = read(path)
    assert (found.texts, found.pairs, found.skipped) == (["one", "two", "three"], None, 1)
    assert found.where == [f"{path}:1", f"{path}:3", f"{path}:4"] and not problems.errors
    assert read(write(tmp_path / "more.csv", "a,b\n"), plain=True)[0].texts == ["a,b"]


def test_tables_need_no_label(tmp_path: Path):
    csv = write(tmp_path / "x.csv", "id,body,other\n1,one,a\n2,two,b\n")
    found, problems = read(csv, text="body", text_pair="other", label="body")
    assert (found.texts, found.pairs, problems.errors) == (["one", "two"], ["a", "b"], [])
    jsonl = write(tmp_path / "x.jsonl", "\n".join(json.dumps({"text": text}) for text in ("one", ["two", "words"])))
    assert read(jsonl, label="text")[0].texts == ["one", ["two", "words"]]


def test_conll_gives_words(tmp_path: Path):
    found, problems = read(write(tmp_path / "x.conll", "EU B-ORG\nrejects O\n\nPeter B-PER\n"))
    assert found.texts == [["EU", "rejects"], ["Peter"]] and not problems.errors


@pytest.mark.parametrize(
    ("name", "content", "where", "what"),
    [
        ("x.csv", "text\none\n \n", "x.csv:3", "the text is empty"),
        ("x.csv", "body\none\n", "x.csv", "no column 'text' (`--text-column`)"),
        ("x.jsonl", '{"text": 3}\n', "x.jsonl:1", "must hold text, came int 3"),
        ("x.txt", "a\0b\n", "x.txt:1", "NUL"),
        ("x.txt", "\n \n", "x.txt", "only blanks"),
        ("x.md", "", "x.md", "empty"),
        ("x.xyz", "a\n", "x.xyz", "says no format"),
    ],
)
def test_bad_input_is_told_with_its_place(tmp_path: Path, name: str, content: str, where: str, what: str):
    _, problems = read(write(tmp_path / name, content), label="text")
    assert [problem.where for problem in problems.errors] == [str(tmp_path / where)]
    assert what in problems.errors[0].what


def test_given_texts_and_their_pairs():
    problems = Problems()
    assert given(["a", "b"], ["c", "d"], problems) == Texts(["a", "b"], ["c", "d"], ["text 1", "text 2"])
    assert not problems.errors
    given(["a", " ", "\ud800"], ["c"], problems)
    assert [problem.where for problem in problems.errors] == ["--pair", "text 2", "text 3"]
