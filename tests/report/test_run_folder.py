from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from jaxft.errors import UserError
from jaxft.evaluate.metrics import Bin
from jaxft.report import run_folder
from jaxft.report.run_folder import OWN_FILES, PLOTS, RunFolder, plain

HOLD = """
import sys
from jaxft.report.run_folder import RunFolder
with RunFolder(sys.argv[1]).locked():
    print(1)
    input()
"""


def started(path: Path) -> RunFolder:
    folder = RunFolder(path).create()
    folder.write_text(folder.recipe, "task: classify\n")
    return folder


def strict(text: str):
    def refuse(word: str):
        raise AssertionError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


# --- create ----------------------------------------------------------------------------------------------------------


def test_making_the_object_touches_nothing(tmp_path):
    folder = RunFolder(str(tmp_path / "a" / "b"))
    assert not folder.holds_run and not folder.finished and not folder.resumable
    assert list(tmp_path.iterdir()) == []


def test_create_makes_a_run_that_holds_no_results(tmp_path):
    folder = started(tmp_path / "a" / "b")
    assert folder.holds_run and folder.resumable and not folder.finished
    assert folder.report_json == tmp_path / "a" / "b" / "report.json"
    folder.write_json(folder.report_json, {})
    assert folder.finished and not folder.resumable


def test_create_beside_other_files_keeps_them(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    assert RunFolder(tmp_path).create().holds_run
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("finished", [False, True])
def test_create_refuses_a_folder_with_a_run(tmp_path, finished):
    folder = started(tmp_path)
    if finished:
        folder.write_json(folder.report_json, {"steps": 1})
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(UserError) as caught:
        RunFolder(tmp_path).create(resume=finished)
    problem = caught.value.problems[0]
    assert problem.where == str(tmp_path) and ("a finished" if finished else "an unfinished") in problem.what
    assert "--out" in problem.fix and "--overwrite" in problem.fix
    assert sorted(os.listdir(tmp_path)) == before


def test_resume_keeps_an_unfinished_run(tmp_path):
    started(tmp_path).log({"kind": "train", "step": 1})
    assert RunFolder(tmp_path).create(resume=True).records() == [{"kind": "train", "step": 1}]


def test_overwrite_removes_the_run_and_nothing_else(tmp_path):
    folder = started(tmp_path)
    for name in (*OWN_FILES, *PLOTS, "notes.txt", "other.png"):
        (tmp_path / name).write_text("{}")
    (folder.checkpoints / "4").mkdir(parents=True)
    (folder.checkpoints / "4" / "state").write_text("x")
    folder.model.mkdir()
    assert RunFolder(tmp_path).create(overwrite=True).records() == []
    assert sorted(os.listdir(tmp_path)) == ["metrics.jsonl", "notes.txt", "other.png"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_create_never_touches_files_that_no_run_wrote(tmp_path, overwrite):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine").write_text("keep")
    (tmp_path / "recipe.yaml").write_text("keep")
    with pytest.raises(UserError, match=r"holds recipe.yaml, model, which a run would write over"):
        RunFolder(tmp_path).create(overwrite=overwrite)
    assert (tmp_path / "model" / "mine").read_text() == "keep"
    assert not (tmp_path / "metrics.jsonl").exists()


def test_create_on_a_file_or_below_one(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="is a file, expected a folder"):
        RunFolder(tmp_path / "file").create()
    with pytest.raises(UserError, match="cannot be written"):
        RunFolder(tmp_path / "file" / "below").create()


@pytest.mark.parametrize("name", [".metrics.jsonl.k3j2", ".report.json.x"])
def test_what_a_kill_left_half_written_goes(tmp_path, name):
    started(tmp_path)
    (tmp_path / name).write_text("half")
    (tmp_path / ".notes").write_text("mine")
    RunFolder(tmp_path).create(resume=True)
    assert sorted(os.listdir(tmp_path)) == [".notes", "metrics.jsonl", "recipe.yaml"]


def test_an_overwrite_that_stops_half_way_leaves_a_run_without_records(tmp_path, monkeypatch):
    folder = started(tmp_path)
    folder.log({"kind": "train", "step": 1})
    folder.checkpoints.mkdir()
    folder.write_json(folder.report_json, {})
    monkeypatch.setattr(run_folder.shutil, "rmtree", lambda _: (_ for _ in ()).throw(OSError("killed")))
    with pytest.raises(UserError, match="killed"):
        folder.create(overwrite=True)
    assert folder.resumable and folder.records() == []


def test_one_process_at_a_time_trains_into_a_folder(tmp_path):
    folder = started(tmp_path)
    command = [sys.executable, "-uc", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"1\n"
        with pytest.raises(UserError, match="another process is training into it"), folder.locked():
            pass
        other.kill()
    with folder.locked():  # the lock went with the process
        assert folder.holds_run


# --- files -----------------------------------------------------------------------------------------------------------


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path)
    folder.write_json(folder.env, {"a": 1})

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        folder.write_json(folder.env, {"a": 2})
    assert json.loads(folder.env.read_text()) == {"a": 1}
    assert os.listdir(tmp_path) == ["env.json"]


def test_write_json_refuses_what_it_cannot_write_and_writes_nothing(tmp_path):
    folder = RunFolder(tmp_path)
    with pytest.raises(TypeError, match="cannot write object"):
        folder.write_json(folder.env, {"a": object()})
    assert os.listdir(tmp_path) == []


# --- metrics.jsonl ---------------------------------------------------------------------------------------------------


def test_log_is_one_valid_json_object_a_line(tmp_path):
    folder = started(tmp_path)
    folder.log({"kind": "train", "step": 1, "loss": np.float32(0.5), "name": "Zürich\n"})
    folder.log({"kind": "train", "step": 2, "loss": float("nan"), "learning_rate": jnp.float32(jnp.inf)})
    lines = folder.metrics.read_text(encoding="utf-8").split("\n")
    assert len(lines) == 3 and lines[2] == ""
    assert strict(lines[0]) == {"kind": "train", "step": 1, "loss": 0.5, "name": "Zürich\n"}
    assert strict(lines[1]) == {
        "kind": "train", "step": 2, "loss": None, "loss_is": "nan", "learning_rate": None, "learning_rate_is": "inf"
    }  # fmt: skip


def test_records_leave_out_a_torn_last_line_but_no_other(tmp_path):
    folder = started(tmp_path)
    folder.log({"step": 1})
    with open(folder.metrics, "a") as file:
        file.write('{"step": 2, "lo')
    assert folder.records() == [{"step": 1}]
    folder.metrics.write_text('{"step": 1}\n{"step\n{"step": 3}\n')
    with pytest.raises(UserError, match=r"metrics.jsonl:2: is not JSON"):
        folder.records()


def test_rewind_drops_later_records_and_a_torn_line(tmp_path):
    folder = started(tmp_path)
    for step in (1, 2, 3):
        folder.log({"kind": "train", "step": step, "loss": 0.1 * step})
    with open(folder.metrics, "a") as file:
        file.write('{"step"')
    folder.rewind(2)
    assert [record["step"] for record in folder.records()] == [1, 2]
    folder.log({"kind": "train", "step": 3})
    assert [record["step"] for record in folder.records()] == [1, 2, 3]


def test_resume_goes_on_after_a_torn_line(tmp_path):
    folder = started(tmp_path)
    with open(folder.metrics, "a") as file:
        file.write('{"step": 1}\n{"step"')
    folder.create(resume=True).log({"step": 2})
    assert folder.records() == [{"step": 1}, {"step": 2}]


# --- plain -----------------------------------------------------------------------------------------------------------


def test_plain_values():
    tree = {
        "path": Path("a") / "b",
        3: (1, np.int64(2), np.bool_(True)),
        "array": np.arange(4).reshape(2, 2),
        "bf16": jnp.asarray([0.5, 2], jnp.bfloat16),
        "bin": Bin(0.0, 0.1, 0, None, None),
        "bad": [1.0, float("-inf"), float("nan")],
    }
    assert plain(tree) == {
        "path": os.path.join("a", "b"),
        "3": [1, 2, True],
        "array": [[0, 1], [2, 3]],
        "bf16": [0.5, 2.0],
        "bin": {"low": 0.0, "high": 0.1, "count": 0, "confidence": None, "accuracy": None},
        "bad": [1.0, None, None],
        "bad_is": "-inf",
    }
    strict(json.dumps(plain(tree), allow_nan=False))
