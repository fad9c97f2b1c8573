from __future__ import annotations

import json
from pathlib import Path

import pytest

from jaxft.cli.main import main


def evaluate(capsys, *argv: object) -> tuple[int, str, str]:
    code = main(["eval", *map(str, argv)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_run_is_scored_on_its_own_test_set_as_its_report_says(run: Path, capsys):
    code, out, err = evaluate(capsys, run, "--json")
    found, report = json.loads(out), json.loads((run / "report.json").read_text())
    assert (code, err) == (0, "")
    assert found["examples"] == report["data"]["sizes"]["test"] == 12
    assert found["scores"]["accuracy"] == report["test"]["accuracy"]
    assert found["scores"]["loss"] == pytest.approx(report["test"]["loss"], rel=1e-4)
    assert found["tables"]["label"] == report["per_class"]
    assert (
        json.loads(evaluate(capsys, run, "--split", "dev", "--json")[1])["scores"]["accuracy"]
        == (report["dev"]["accuracy"])
    )


def test_scores_and_the_table_of_labels_are_printed(run: Path, tmp_path: Path, capsys):
    path = tmp_path / "new.csv"
    path.write_text("body,kind\nsee you,ham\nwin,spam\nbye,ham\n")
    code, out, err = evaluate(capsys, run, "--data", path, "--text", "body", "--label", "kind")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == f"{run} on {path}: 3 examples"
    assert all(word in out for word in ("accuracy", "macro_f1", "precision", "support", "ham", "spam", "weighted avg"))
    assert max(map(len, out.splitlines()[1:])) <= 80


def test_scoring_training_data_is_a_warning(run: Path, messages: Path, capsys):
    code, out, err = evaluate(capsys, run, "--data", messages)
    assert code == 0 and "60 examples" in out
    assert f"warning: {messages}: the model was trained on texts of this very file" in err


def test_tagging_has_a_table_of_entities(tiny_model, tmp_path: Path, capsys):
    path = tmp_path / "x.conll"
    path.write_text("New\tB-LOC\nYork\tI-LOC\nis\tO\n")
    code, out, _ = evaluate(capsys, tiny_model("tag", ("O", "B-LOC", "I-LOC")), "--data", path)
    assert code == 0 and "Scores by entity" in out and "Scores by tag" in out and "B-LOC" in out


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--split", "val"], "--split: the run has no 'val' — one of train, dev, test"),
        (["--data", "none.csv"], "none.csv: no such file"),
        (["--data", "bad.csv"], "bad.csv:2: label 'spma' is none of the 2 known — nearest: 'spam'"),
        (["--data", "bad.csv", "--text", "txt"], "bad.csv: no column 'txt'"),
        (["--data", "bad.csv", "--max-tokens", "65"], "must lie between 8 and the model's 64 positions, is 65"),
        (["--data", "sms_spam", "--split", "test"], "sms_spam:test: asset sms_spam has no split 'test'"),
    ],
)
def test_bad_input_is_one_line(run: Path, argv: list[str], said: str, capsys, monkeypatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    Path("bad.csv").write_text("text,label\nwin,spma\n")
    code, out, err = evaluate(capsys, run, *argv)
    assert (code, out) == (2, "") and said in err and len(err.splitlines()) == 1


def test_a_model_outside_its_run_needs_data(tiny_model, capsys):
    code, _, err = evaluate(capsys, tiny_model("classify", ("a", "b")))
    assert code == 2 and err.startswith("error: --data: is missing")
