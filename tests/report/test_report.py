from __future__ import annotations

import io
import json
import os
import re

import pytest
from rich.console import Console

from jaxft.report import plots, report
from jaxft.report.result import length_facts, to_json
from jaxft.report.run_folder import PLOTS

NUMBER = (int, float)
KEYS = {
    "task": str, "model": str, "data": dict, "before": dict, "dev": dict, "test": dict, "per_class": dict, "steps": int,
    "tokens": dict, "real_tokens_per_s": NUMBER, "wall_s": NUMBER, "compile_s": NUMBER, "numerics": str, "seeds": dict,
    "params_sha256": str, "implementation": dict, "input_stall_s": NUMBER, "truncated": int, "scored": str,
    "time_to_first_step_s": NUMBER, "peak_memory_mb": (int, float, type(None)), "warnings": list, "device": str,
    "dtype": str, "best_step": (int, type(None)), "stopped_early": bool, "metric": str, "labels": list, "tables": dict,
    "confusion": (dict, type(None)), "calibration": (dict, type(None)), "max_tokens": int, "micro_batches": int,
    "lengths": (dict, type(None)), "multi_label": bool, "noise": dict, "checkpoint_stall_s": NUMBER,
    "cpu_threads": (int, type(None)),
}  # fmt: skip


@pytest.mark.parametrize("task", ["classify", "tag"])
def test_report_json_has_every_key_and_type(tmp_path, sample, task):
    folder = sample.folder(tmp_path)
    report.write(folder, getattr(sample, task)())
    tree = json.loads(folder.report_json.read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert set(tree) == set(KEYS)
    wrong = [key for key, kind in KEYS.items() if not isinstance(tree[key], kind)]
    assert wrong == []
    assert set(tree["data"]) == {"name", "sizes", "sha256", "sources", "labels", "licence"}
    assert set(tree["tokens"]) == {"real", "padded"}
    for name in ("before", "dev", "test"):
        assert all(isinstance(value, NUMBER) for value in tree[name].values())
    for table in (tree["per_class"], *tree["tables"].values()):
        for row in table.values():
            assert set(row) == {"precision", "recall", "f1", "support", "predicted"}
            assert isinstance(row["support"], int)


def test_report_json_values(sample):
    tree = to_json(sample.classify())
    assert tree["test"]["accuracy"] == 0.97 and tree["per_class"]["spam"]["recall"] == 0.8
    assert tree["confusion"] == {"labels": ["ham", "spam"], "counts": [[89, 1], [2, 8]]}
    assert tree["warnings"][0] == "data.test: 3 examples are in train too — remove them"
    assert tree["peak_memory_mb"] is None and "peak_memory_mb_is" not in tree
    assert len(tree["calibration"]["bins"]) == 10
    assert tree["lengths"] == length_facts(range(5, 205)) == {"min": 5, "median": 104.5, "p95": 194, "max": 204}
    tree = to_json(sample.tag())
    assert set(tree["per_class"]) == {"LOC", "PER"} and set(tree["tables"]) == {"tag"}
    assert tree["confusion"]["labels"] == ["B-LOC", "B-PER", "I-PER", "O"]


def test_report_md_shows_scores_plots_data_warnings_and_how_to_do_it_again(tmp_path, sample):
    folder = sample.folder(tmp_path / "my runs")
    report.write(folder, sample.classify())
    text = folder.report_md.read_text(encoding="utf-8")
    images = re.findall(r"!\[[^]]+\]\(([^)]+)\)", text)
    assert sorted(images) == sorted(PLOTS) and all((folder.path / image).is_file() for image in images)
    assert "**Test accuracy 0.9700 (before fine-tuning 0.1000), after 75 steps.**" in text
    assert "| accuracy | 0.1000 | 0.9700 | +0.8700 | 0.9800 |" in text
    assert "| spam | 0.8889 | 0.8000 | 0.8421 | 10 |" in text
    assert "(Wilson) is 0.9155 to 0.9897" in text
    assert "- data.test: 3 examples are in train too" in text and "rare label: &#60;spam&#62;" in text
    assert "| dev | 10% of train | 50 | aaaaaaaaaaaaaaaa |" in text
    assert "4,000 (6.2% of all places)" in text and "75 (stopped early)" in text and "3 examples were cut" in text
    assert f"jaxft train '{folder.recipe}' --out '{folder.path}-again'" in text
    assert text.count("## Confusion matrix\n") == 1
    assert "Numerics: **canonical**" in text and "f" * 64 in text


def test_fast_numerics_promises_nothing(tmp_path, sample):
    text = report.markdown(sample.classify(numerics="fast"), sample.folder(tmp_path), [])
    assert "no bit-for-bit promise" in text and "to the bit, on any number" not in text


def test_a_tagging_report_has_the_entity_and_the_tag_table_and_no_interval(tmp_path, sample):
    text = report.markdown(sample.tag(), sample.folder(tmp_path), [])
    assert "## Scores by entity\n\n| entity | precision" in text and "## Scores by tag\n\n| tag | precision" in text
    assert "| I-PER | 1.0000 | 1.0000 | 1.0000 | 1 |" in text
    assert "Wilson" not in text  # words of a sentence are not independent


def test_a_run_without_dev_and_test_set(tmp_path, sample):
    result = sample.classify(
        before={}, dev={}, test={}, scored="", tables={}, confusion=None, calibration=None, lengths=None, warnings=()
    )
    folder = sample.folder(tmp_path)
    report.write(folder, result)
    text = folder.report_md.read_text(encoding="utf-8")
    assert "no dev or test set to score" in text and "## Warnings" not in text
    tree = json.loads(folder.report_json.read_text())
    assert tree["per_class"] == {} and tree["test"] == {} and tree["lengths"] is None
    assert not (folder.path / "confusion.png").exists()


@pytest.mark.slow
def test_the_run_is_not_finished_until_all_else_is_written(tmp_path, monkeypatch, sample):
    folder = sample.folder(tmp_path)

    def fail(*_):
        raise RuntimeError("no pictures today")

    monkeypatch.setattr(plots, "lengths", fail)
    with pytest.raises(RuntimeError, match="no pictures today"):
        report.write(folder, sample.classify())
    assert not folder.finished and folder.holds_run
    monkeypatch.undo()
    report.write(folder, sample.classify())
    assert folder.finished and (folder.model / "README.md").is_file()
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


def test_the_summary_fits_80_columns_and_says_where_the_report_is(tmp_path, sample):
    folder = sample.folder(tmp_path / "run")
    console = Console(file=io.StringIO(), width=80, force_terminal=False)
    report.show(sample.tag(warnings=("careful",)), folder, console)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert max(len(line) for line in lines if not line.startswith(("report:", "model:"))) <= 80
    assert f"report: {folder.report_md}" in lines and f"model:  {folder.model}" in lines
    assert any(re.match(r"f1 +0\.0000 +0\.6667 +\+0\.6667 +0\.5000", line.strip()) for line in lines)
