"""Readers: what they give, and the one clear line each bad input gets."""

from __future__ import annotations

import csv
import hashlib
import io
import typing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxft.data.read import ENDINGS, own_splits, read
from jaxft.data.rows import Rows
from jaxft.errors import Problems
from jaxft.recipe import Data


def read_file(path: Path, **spec) -> tuple[Rows, Problems]:
    problems = Problems()
    return read(str(path), Data(**spec), problems), problems


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# --- good files ------------------------------------------------------------------------------------------------------


def test_csv_lines_are_those_at_which_rows_begin(tmp_path):
    path = written(tmp_path, "a.csv", 'text,label\n"one\ntwo",x\n\nthree,y\r\n"say ""hi""",x\n')
    rows, problems = read_file(path)
    assert not problems.errors and not problems.warnings
    assert rows.columns == {"text": ["one\ntwo", "three", 'say "hi"'], "label": ["x", "y", "x"]}
    assert rows.lines == [2, 5, 6]
    assert rows.where(1) == f"{path}:5"
    assert rows.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


cell = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=20)


@settings(deadline=None)
@given(st.lists(st.tuples(cell, cell), min_size=1, max_size=8), st.sampled_from(["csv", "tsv"]))
def test_csv_round_trip(tmp_path_factory, table, kind):
    out = io.StringIO(newline="")
    csv.writer(out, delimiter="," if kind == "csv" else "\t", quoting=csv.QUOTE_ALL).writerows(
        [("text", "label"), *table]
    )
    path = written(tmp_path_factory.mktemp("csv"), f"a.{kind}", out.getvalue())
    rows, problems = read_file(path)
    assert not problems.errors
    assert list(zip(rows.columns["text"], rows.columns["label"], strict=True)) == table


def test_jsonl(tmp_path):
    path = written(tmp_path, "a.jsonl", '{"text": "a\u2028b", "label": 1}\n\n{"label": 0, "text": "c", "extra": [1]}\n')
    rows, problems = read_file(path)
    assert not problems.errors
    assert rows.columns == {"text": ["a\u2028b", "c"], "label": [1, 0], "extra": [None, [1]]}
    assert rows.lines == [1, 3]


def test_parquet(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["a", "b"], "label": [1, None]}), path)
    rows, problems = read_file(path)
    assert not problems.errors
    assert rows.columns == {"text": ["a", "b"], "label": [1, None]}
    assert rows.where(1) == f"{path}:row 2"


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """A saved folder with two splits, an integer label with names and a list of such."""
    import datasets

    features = datasets.Features(
        text=datasets.Value("string"),
        label=datasets.ClassLabel(names=["ham", "spam"]),
        tags=datasets.List(datasets.ClassLabel(names=["O", "B-X"])),
    )
    columns = {"text": ["a", "b"], "label": [1, 0], "tags": [[0, 1], []]}
    both = datasets.Dataset.from_dict(columns, features=features)
    folder = tmp_path_factory.mktemp("saved") / "set"
    datasets.DatasetDict({"train": both, "test": both.select([1])}).save_to_disk(str(folder))
    both.to_parquet(str(folder.parent / "set.parquet"))
    return folder


def test_saved_folder(saved):
    rows, problems = read_file(saved)
    assert not problems.errors
    assert rows.columns == {"text": ["a", "b"], "label": [1, 0], "tags": [[0, 1], []]}
    assert rows.class_names == {"label": ["ham", "spam"], "tags": ["O", "B-X"]}
    test, problems = read_file(Path(f"{saved}:test"))
    assert not problems.errors
    assert test.columns["text"] == ["b"]
    assert test.where(0) == f"{saved}:test:row 1"
    assert len(rows.sha256) == 64 and rows.sha256 != test.sha256


def test_parquet_written_by_datasets_keeps_class_names(saved):
    rows, problems = read_file(saved.parent / "set.parquet")
    assert not problems.errors
    assert rows.class_names == {"label": ["ham", "spam"], "tags": ["O", "B-X"]}


def test_conll_columns_words_and_lines(tmp_path):
    text = "-DOCSTART- -X- O\n\nWest NNP B-MISC\nno\u00a0break JJ O\n\n\n \nEssex NNP B-ORG"
    path = written(tmp_path, "a.txt", text)
    rows, problems = read_file(path)
    assert not problems.errors
    assert rows.columns == {"words": [["West", "no\u00a0break"], ["Essex"]], "tags": [["B-MISC", "O"], ["B-ORG"]]}
    assert rows.lines == [3, 8]
    assert rows.where(0, 1) == f"{path}:4"


def test_conll_tabs(tmp_path):
    rows, problems = read_file(written(tmp_path, "a.conll", "1 000\tO\r\nmen\tO\r\n\r\n"))
    assert not problems.errors
    assert rows.columns == {"words": [["1 000", "men"]], "tags": [["O", "O"]]}


def test_asset_split(conll2003):
    problems = Problems()
    rows = read("conll2003:dev", Data(), problems)
    assert not problems.errors
    assert rows.path == str(conll2003["dev"]) and rows.source == "conll2003:dev" and len(rows) == 3_250
    assert own_splits("conll2003") == {"dev": "conll2003:dev", "test": "conll2003:test"}


def test_sms_spam_asset(sms_spam):
    problems = Problems()
    rows = read("sms_spam", Data(), problems)
    assert not problems.errors
    assert len(rows) == 5_574 and rows.columns["label"].count("spam") == 747
    assert rows.path == str(sms_spam)
    assert own_splits("sms_spam") == {} == own_splits("x.csv")


def test_format_overrides_the_ending(tmp_path):
    rows, problems = read_file(written(tmp_path, "a.dat", "text\tlabel\na\tb\n"), format="tsv")
    assert not problems.errors and rows.columns == {"text": ["a"], "label": ["b"]}


def test_utf8_mark_is_taken_off_with_a_warning(tmp_path):
    path = written(tmp_path, "a.csv", b"\xef\xbb\xbftext,label\na,b\n")
    rows, problems = read_file(path)
    assert list(rows.columns) == ["text", "label"] and not problems.errors
    assert [str(warning) for warning in problems.warnings] == [
        f"{path}:1: starts with a UTF-8 byte order mark, which was taken off — "
        f"tail -c +4 {path} > {path.with_name('a.utf8.csv')}"
    ]


# --- bad files -------------------------------------------------------------------------------------------------------

BAD = {
    # name: (file, content, [(line or "", part of what or fix)])
    "empty": ("a.csv", b"", [("", "is empty (0 bytes)")]),
    "blank": ("a.jsonl", b"\n\n", [("", "only blanks (2 bytes)")]),
    "header only": ("a.csv", b"text,label\n", [("", "no rows below its header (2 columns)")]),
    "ragged csv": (
        "a.csv",
        b'text,label\na,b\n"c\nd",e,f\ng\n',
        [(":3", "3 cells, the header has 2 columns"), (":5", "1 cells, the header has 2")],
    ),
    "open quote": ("a.csv", b'text,label\na,b\n"c,d\ne,f\n', [(":3", "not closed by the end of the file (line 4)")]),
    "text after quote": ("a.tsv", b'text\tlabel\n"a" b\tc\n', [(":2", "broken quoting")]),
    "same column twice": ("a.csv", b"text,text\na,b\n", [(":1", "occur twice: 'text'")]),
    "tsv named csv": ("a.csv", b"text\tlabel\na\tb\n", [(":1", "set `data.format: tsv`")]),
    "latin-1": (
        "a.csv",
        b"text,label\ncaf\xe9,b\nok,b\nna\xefve,c\n",
        [(":2", "byte 0xe9 at offset 14 is not UTF-8"), (":4", "byte 0xef at offset 25 is not UTF-8 — if the file is")],
    ),
    "latin-1 fix": ("a.conll", b"caf\xe9 O\n", [(":1", "iconv -f latin1 -t utf-8 ")]),
    "utf-16": ("a.csv", "\ufefftext,label".encode("utf-16-le"), [("", "UTF-16 byte order mark")]),
    "utf-16 fix": ("a.csv", "\ufefftext,label".encode("utf-16-be"), [("", "iconv -f UTF-16 -t utf-8 ")]),
    "utf-32": ("a.csv", "\ufefftext,label".encode("utf-32-le"), [("", "UTF-32 byte order mark")]),
    "nul": (
        "a.csv",
        b"text,label\na\0,b\nok,b\n\0\0,c\n",
        [(":2", "1 of the file's 3 NUL bytes (the first at column 2)"), (":4", "2 of the file's 3 NUL bytes")],
    ),
    "utf-16 without mark": (
        "a.csv",
        "text,label\na,b\n".encode("utf-16-le"),
        [(":1", "iconv -f UTF-16LE"), (":2", ""), (":3", "")],
    ),
    "bad json": (
        "a.jsonl",
        b'{"text": "a", "label": 1}\n{"text": "b" "label": 1}\nnope\n',
        [(":2:14", "is not JSON: Expecting ',' delimiter"), (":3:1", "is not JSON")],
    ),
    "json array": (
        "a.json",
        b'[\n{"text": "a", "label": 1}]\n',
        [("", "is one JSON array, expected an object a line — jq -c '.[]' ")],
    ),
    "json scalar": ("a.jsonl", b"3\n", [(":1", 'expected an object such as {"text": …}, came int')]),
    "deep json": ("a.jsonl", b'{"a":' * 100_000, [(":1", "is not usable JSON: ")]),
    "missing key": (
        "a.jsonl",
        b'{"text": "a", "label": 1}\n{"text": "b"}\n{"Text": "c", "label": 1}\n',
        [(":2", "no key 'label'; its keys: 'text'"), (":3", "no key 'text'; its keys: 'Text', 'label'")],
    ),
    "not parquet": ("a.parquet", b"text,label\n", [("", "cannot be read as Parquet")]),
    "ragged conll": (
        "a.conll",
        b"a X O\nb X O\nc O\n\nd X Y O\n",
        [(":3", "2 columns, most lines of the file have 3: 'c O'"), (":5", "4 columns, most lines of the file have 3")],
    ),
    "empty conll cell": ("a.conll", b"a\tO\nb\t\n", [(":2", "column 2 of 2 is empty")]),
    "one conll column": ("a.txt", b"a\nb\nc\n", [("", "3 of 3 lines hold one column")]),
    "docstart only": ("a.txt", b"-DOCSTART- O\n\n", [("", "no words")]),
    "unknown ending": ("a.xlsx", b"PK", [("", "the ending '.xlsx' says no format; known: .csv")]),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_file(tmp_path, name):
    file, content, expected = BAD[name]
    path = written(tmp_path, file, content)
    _, problems = read_file(path)
    assert [problem.where for problem in problems.errors] == [f"{path}{line}" for line, _ in expected]
    for problem, (_, part) in zip(problems.errors, expected, strict=True):
        assert part in str(problem)


def test_listing_is_capped(tmp_path):
    path = written(tmp_path, "a.csv", "text,label\n" + "x\n" * 1_254)
    _, problems = read_file(path)
    assert len(problems.errors) == 21
    assert problems.errors[19].where == f"{path}:21"
    assert str(problems.errors[20]) == f"{path}: … and 1,234 more like these"


def test_missing_column_names_the_columns_and_the_nearest(tmp_path):
    path = written(tmp_path, "a.csv", "text,lable\na,b\n")
    rows, problems = read_file(path)
    assert rows.column("label", "data.label", problems) is None
    assert str(problems.errors[0]) == (
        f"{path}: no column 'label' (`data.label`); its columns: 'text', 'lable' — "
        "set `data.label: lable`; the first line must name the columns"
    )


def test_unknown_source_names_the_nearest(tmp_path, monkeypatch):
    written(tmp_path, "train.csv", "text,label\na,b\n")
    monkeypatch.chdir(tmp_path)
    for source, near in (("trian.csv", "train.csv"), ("sms_spm", "sms_spam"), ("./train.cvs", "train.csv")):
        problems = Problems()
        read(source, Data(), problems)
        assert str(problems.errors[0]) == f"{source}: no such file, saved data set or asset — did you mean `{near}`?"


def test_unknown_asset_split(sms_spam):
    problems = Problems()
    assert not read("sms_spam:dev", Data(), problems).columns
    assert str(problems.errors[0]) == "sms_spam:dev: asset sms_spam has no split 'dev'; it has: train"


def test_unknown_saved_split(saved):
    _, problems = read_file(Path(f"{saved}:dev"))
    assert "no split 'dev'; its splits: train, test" in str(problems.errors[0])


def test_damaged_saved_folder(tmp_path):
    written(tmp_path, "state.json", "{}")
    _, problems = read_file(tmp_path)
    assert "cannot be read as a saved data set" in str(problems.errors[0])


def test_folder_that_is_no_data_set(tmp_path):
    _, problems = read_file(tmp_path)
    assert "is a folder that `save_to_disk` of `datasets` did not write" in str(problems.errors[0])


def test_hub_without_a_network_is_one_clear_line():
    problems = Problems()
    rows = read("someone/nothing:test", Data(), problems)
    assert not rows.columns and len(problems.errors) == 1
    assert "is no local file or folder, and the hub gave no split 'test' of it" in problems.errors[0].what
    assert "HF_HUB_OFFLINE" in problems.errors[0].fix


def test_every_format_of_the_recipe_has_an_ending():
    formats = typing.get_args(typing.get_type_hints(Data)["format"])
    assert set(formats) == {"auto", *ENDINGS.values()}
