from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from jaxft.cli.main import main

TEXTS = ["see you soon", "win a prize", "café 北京"]


def rows(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def predict(capsys, *argv: object) -> list[dict]:
    code = main(["predict", *map(str, argv)])
    captured = capsys.readouterr()
    assert (code, captured.err) == (0, "")
    return rows(captured.out)


def refused(capsys, *argv: object) -> str:
    code = main(["predict", *map(str, argv)])
    captured = capsys.readouterr()
    assert (code, captured.out) == (2, "") and len(captured.err.splitlines()) == 1
    return captured.err


@pytest.fixture(scope="module")
def tagger(tiny_model) -> Path:
    return tiny_model("tag", ("O", "B-LOC", "I-LOC"))


def test_texts_of_the_command_line_one_object_a_line(run: Path, capsys):
    found = predict(capsys, run, *TEXTS)
    assert [row["text"] for row in found] == TEXTS
    assert all(list(row) == ["text", "label", "probability", "probabilities"] for row in found)
    assert predict(capsys, run / "model", *TEXTS) == found
    assert [list(row["probabilities"]) for row in predict(capsys, run, *TEXTS, "--top", 1)] == [
        [row["label"]] for row in found
    ]


@pytest.mark.slow
def test_files_of_any_kind_give_the_same(run: Path, tmp_path: Path, capsys):
    expected = predict(capsys, run, *TEXTS)
    (tmp_path / "x.txt").write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    (tmp_path / "x.csv").write_text("\n".join(["text", *TEXTS]) + "\n", encoding="utf-8")
    (tmp_path / "x.jsonl").write_text("\n".join(json.dumps({"body": text}) for text in TEXTS), encoding="utf-8")
    assert predict(capsys, run, "--input", tmp_path / "x.txt") == expected
    assert predict(capsys, run, "--input", tmp_path / "x.csv") == expected
    assert predict(capsys, run, "--input", tmp_path / "x.jsonl", "--text-column", "body") == expected
    assert predict(capsys, run, "--input", tmp_path / "x.txt", "--out", tmp_path / "out.jsonl") == []
    assert rows((tmp_path / "out.jsonl").read_text(encoding="utf-8")) == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", "x.csv", "x.jsonl", "x.txt"]


@pytest.mark.slow
def test_standard_input_in_a_real_process_with_nothing_on_standard_error(run: Path, capsys):
    line = [sys.executable, "-m", "jaxft.cli.main", "predict", str(run)]
    found = subprocess.run(line, input="\n".join(TEXTS).encode(), capture_output=True)
    assert (found.returncode, found.stderr) == (0, b"")
    assert rows(found.stdout.decode()) == predict(capsys, run, *TEXTS)


def test_blank_lines_are_passed_over_and_told(run: Path, tmp_path: Path, capsys):
    (tmp_path / "x.txt").write_text("one\n\n\ntwo\n")
    assert main(["predict", str(run), "--input", str(tmp_path / "x.txt")]) == 0
    captured = capsys.readouterr()
    assert len(rows(captured.out)) == 2 and captured.err == "note: passed over 2 blank lines\n"


def test_pairs(run: Path, tmp_path: Path, capsys):
    found = predict(capsys, run, "one", "two", "--pair", "three", "four")
    assert [(row["text"], row["pair"]) for row in found] == [("one", "three"), ("two", "four")]
    (tmp_path / "x.csv").write_text("text,other\none,three\ntwo,four\n")
    assert predict(capsys, run, "--input", tmp_path / "x.csv", "--pair-column", "other") == found


def test_tagging_gives_offsets(tagger: Path, tmp_path: Path, capsys):
    text = "Peter's café in U.S. territory."
    row = predict(capsys, tagger, text)[0]
    assert list(row) == ["text", "tokens", "spans"]
    assert [token["text"] for token in row["tokens"]] == ["Peter", "'s", "café", "in", "U.S.", "territory", "."]
    assert all(text[token["start"] : token["end"]] == token["text"] for token in row["tokens"])
    (tmp_path / "x.conll").write_text("New B-LOC\nYork I-LOC\n")
    assert predict(capsys, tagger, "--input", tmp_path / "x.conll")[0]["text"] == "New York"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--top", "0", "x"], "--top: must be at least 1, is 0"),
        (["x", "--input", "y.txt"], "texts on the command line and --input — give one of the two"),
        (["--input", "none.txt"], "none.txt: no such file"),
        (["x", "y", "--pair", "z"], "--pair: 1 second texts for 2 texts"),
        ([" "], "text 1: the text is empty"),
        (["x", "--out", "no/such/folder.jsonl"], "--out: no/such/folder.jsonl cannot be written"),
        (["x", "--tpo", "1"], "--tpo: no such option — did you mean `--top`?"),
        (["--pair", "z"], "--pair: goes with texts on the command line"),
    ],
)
def test_bad_input_is_one_line(run: Path, argv: list[str], said: str, capsys, monkeypatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    assert said in refused(capsys, run, *argv)
    assert not list(tmp_path.iterdir())


def test_files_with_problems_are_told_with_their_lines(run: Path, tmp_path: Path, capsys):
    (tmp_path / "x.csv").write_bytes("text\nok\ncafé\n".encode("latin-1"))
    assert f"{tmp_path}/x.csv:3: byte 0xe9" in refused(capsys, run, "--input", tmp_path / "x.csv")
    (tmp_path / "x.csv").write_text("txt\nok\n")
    told = refused(capsys, run, "--input", tmp_path / "x.csv")
    assert "no column 'text' (`--text-column`)" in told
    out = tmp_path / "out.jsonl"
    refused(capsys, run, "--input", tmp_path / "x.csv", "--out", out)
    assert not out.exists()


def test_models_and_input_that_do_not_fit(run: Path, tagger: Path, tmp_path: Path, capsys, tiny_model):
    assert "takes one text, not two" in refused(capsys, tagger, "a", "--pair", "b")
    assert "--top: is for classification" in refused(capsys, tagger, "a", "--top", 1)
    (tmp_path / "x.conll").write_text("New B-LOC\nYork I-LOC\n")
    assert "holds a list of words" in refused(capsys, run, "--input", tmp_path / "x.conll")
    assert "not fine-tuned" in refused(capsys, tiny_model("none"), "x")
    assert "model './none': no such folder" in refused(capsys, "./none", "x")
