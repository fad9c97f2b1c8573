"""`jaxft verify`: a run that repeats, one that was tampered with, and what is said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from jaxft.checkpoint.store import Store
from jaxft.cli.main import main
from jaxft.report.run_folder import RunFolder

pytestmark = pytest.mark.usefixtures("promotion_for_optax")


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> RunFolder:
    """The finished run, free to be spoiled."""
    shutil.copytree(run, tmp_path / "run")
    return RunFolder(tmp_path / "run")


def test_a_run_repeats(run, capsys):
    assert main(["verify", str(run), "--quiet"]) == 0
    told = capsys.readouterr().out
    assert told == "equal: steps 1 to 2 replayed, 2 compared; the parameters have the sha256 of report.json\n"


def test_a_number_of_devices_may_be_chosen(run, capsys):
    assert main(["verify", str(run), "--quiet", "--devices", "1"]) == 0
    assert capsys.readouterr().out.startswith("equal: steps 1 to 2")
    assert main(["verify", str(run), "--quiet", "--devices", "3"]) == 2
    assert "mesh.data" in capsys.readouterr().err


def test_some_steps_start_at_the_checkpoint_before(copy, capsys):
    assert main(["verify", str(copy.path), "--quiet", "--steps", "2:2"]) == 0
    assert capsys.readouterr().out.startswith("equal: steps 1 to 2 replayed, 1 compared")


@pytest.mark.parametrize(("key", "step"), [("grad_norm", 2), ("loss", 1), ("digest", 1)])
def test_the_first_step_that_differs_is_named_with_what_changed(copy, capsys, key, step):
    records = copy.records()
    spoiled = next(record for record in records if (record["kind"], record["step"]) == ("train", step))
    spoiled[key] = "00000000" if key == "digest" else spoiled[key] + 1e-6
    copy.metrics.write_text("".join(json.dumps(record) + "\n" for record in records))
    environment = json.loads(copy.env.read_text())
    environment["packages"]["jaxlib"] = "0.0.1"
    copy.env.write_text(json.dumps(environment))
    assert main(["verify", str(copy.path), "--quiet"]) == 1
    told = capsys.readouterr().out
    assert f"step {step} is the first that differs: {key} " in told
    assert "what changed since the run:\n" in told and "packages.jaxlib was 0.0.1, is " in told


def test_other_parameters_are_seen(copy, capsys):
    report = json.loads(copy.report_json.read_text())
    copy.report_json.write_text(json.dumps({**report, "params_sha256": "0" * 64}))
    assert main(["verify", str(copy.path), "--quiet"]) == 1
    assert f"have sha256 {report['params_sha256']}, not {'0' * 64}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("steps", "told"),
    [("1-2", "expected first:last, such as 100:120, came '1-2'"), ("2:9", "2:9 is not within the run's steps 1:2")],
)
def test_steps_that_make_no_sense_are_refused(run, capsys, steps, told):
    assert main(["verify", str(run), "--steps", steps]) == 2
    assert told in capsys.readouterr().err


def test_a_folder_without_a_run_is_refused(tmp_path, capsys):
    assert main(["verify", str(tmp_path)]) == 2
    assert "holds no run" in capsys.readouterr().err


def test_data_that_changed_is_named(copy, messages, capsys):
    before = messages.read_text()
    try:
        messages.write_text(before.replace("see you soon", "see you later"))
        assert main(["verify", str(copy.path), "--quiet"]) == 2
    finally:
        messages.write_text(before)
    assert "the data changed since the run" in capsys.readouterr().err


def test_a_changed_model_is_named_by_the_checkpoint(copy, capsys):
    store = Store(copy.checkpoints)
    saved = store.load(2)
    saved.facts["identity"]["model"] = "0" * 64
    shutil.rmtree(copy.checkpoints)
    store.save(saved)
    store.wait()
    assert main(["verify", str(copy.path), "--quiet"]) == 2
    assert "model: the initial parameters changed since the run" in capsys.readouterr().err
