"""`jaxft rl`: a small run through the command line, what it leaves, going on, watching, and bad input."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jaxft import recipe as recipes_
from jaxft.cli.main import main
from jaxft.report.run_folder import RunFolder
from jaxft.rl import envs, export
from jaxft.rl.recipe import RlRecipe

SMALL = """
rl: {env: gridworld, agent: dqn, steps: 256, num_envs: 8, rollout: 4, eval_every: 128, eval_episodes: 8, stop: false,
     network: {width: 8, depth: 1}, dqn: {buffer: 128, learning_starts: 32}}
train: {batch_size: 16}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder that `jaxft rl` wrote."""
    folder = tmp_path_factory.mktemp("rl")
    (folder / "small.yaml").write_text(SMALL + f"out: {folder / 'run'}\n")
    assert main(["rl", str(folder / "small.yaml"), "--quiet", "--rl.dqn.updates", "2"]) == 0
    return folder / "run"


def test_a_run_leaves_report_agent_and_the_recipe_in_force(run: Path):
    folder = RunFolder(run)
    assert folder.finished and {path.name for path in folder.model.iterdir()} == {"agent.json", "model.safetensors"}
    chosen = recipes_.load(folder.recipe, RlRecipe)
    assert (chosen.rl.dqn.updates, chosen.rl.steps, chosen.out) == (2, 256, str(run))
    tree = json.loads(folder.report_json.read_text())
    assert (tree["task"], tree["env"], tree["agent"], tree["steps"]) == ("rl", "gridworld", "dqn", 256)
    assert [record["step"] for record in folder.records() if record["kind"] == "eval"] == [0, 128, 256]


@pytest.mark.slow
def test_an_unfinished_run_goes_on_and_says_so(run: Path, tmp_path: Path, capsys):
    copy = RunFolder(tmp_path / "copy")
    shutil.copytree(run, copy.path)
    copy.report_json.unlink()
    shutil.rmtree(max(copy.checkpoints.glob("*256*")))
    assert main(["rl", str(run / "recipe.yaml"), "--out", str(copy.path)]) == 0
    told = capsys.readouterr()
    assert f"going on with the unfinished run in {copy.path}" in told.out and told.err == ""
    assert f"watch:  jaxft rl --replay {copy.path}" in told.out
    one, two = (json.loads(RunFolder(path).report_json.read_text()) for path in (run, copy.path))
    assert one["params_sha256"] == two["params_sha256"]


@pytest.mark.slow
def test_a_run_that_a_signal_stopped_ends_as_if_nothing_had_been(tmp_path: Path):
    """It comes after one of many rounds at the earliest; then the run goes on to the parameters of one left alone."""
    (tmp_path / "long.yaml").write_text(SMALL)
    ends = []
    for name in ("stopped", "left"):
        out = RunFolder(tmp_path / name)
        line = ["rl", str(tmp_path / "long.yaml"), "--quiet", "--out", str(out.path), "--rl.steps", "4096"]
        line += ["--train.save-every", "1000"]  # so that what is saved is of the signal
        if name == "stopped":
            code = "import sys; from jaxft.cli.main import main; sys.exit(main())"
            process = subprocess.Popen([sys.executable, "-c", code, *line], stderr=subprocess.PIPE, text=True)
            try:
                deadline = time.monotonic() + 240
                while rounds_of(out) == [] and process.poll() is None and time.monotonic() < deadline:
                    time.sleep(0.02)
                process.send_signal(signal.SIGTERM)
                _, told = process.communicate(timeout=240)
            finally:
                process.kill()
            (step,) = [int(path.name.removeprefix("step_")) for path in out.checkpoints.iterdir()]
            assert (process.returncode, told) == (
                128 + signal.SIGTERM,
                f"interrupted after {step:,} steps of each seed; saved in {out.path}: the same command goes on\n",
            )
            assert 0 < step < 4096 and not out.finished and rounds_of(out) == list(range(128, step + 1, 128))
        assert main(line) == 0
        assert rounds_of(out) == list(range(128, 4097, 128))
        ends.append(json.loads(out.report_json.read_text()))
    assert ends[0]["params_sha256"] == ends[1]["params_sha256"]


def rounds_of(folder: RunFolder) -> list[int]:
    """The steps after which metrics.jsonl tells of learning."""
    return [record["step"] for record in folder.records() if record["kind"] == "train"]


# --- verifying -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_verify_replays_a_run(run: Path, capsys):
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    assert main(["verify", str(run), "--quiet"]) == 0
    told = "equal: steps 1 to 256 replayed, 5 records compared; the parameters have the sha256 of report.json\n"
    assert capsys.readouterr().out == told
    assert main(["verify", str(run), "--quiet", "--steps", ":130"]) == 0
    assert capsys.readouterr().out == "equal: steps 1 to 128 replayed, 3 records compared\n"
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "step", "key"), [("eval", 0, "mean"), ("train", 128, "loss"), ("eval", 256, "low")])
def test_verify_names_the_first_record_that_differs(run: Path, tmp_path: Path, capsys, kind, step, key):
    copy = RunFolder(tmp_path / "copy")
    shutil.copytree(run, copy.path)
    records = copy.records()
    spoiled = next(record for record in records if (record["kind"], record["step"]) == (kind, step))
    spoiled[key] += 1e-6
    copy.metrics.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert main(["verify", str(copy.path), "--quiet"]) == 1
    told = capsys.readouterr().out
    assert f"{kind} of seed 0 after {step} steps is the first record that differs: {key} " in told


def test_verify_sees_other_parameters_and_refuses_what_it_cannot_replay(run: Path, tmp_path: Path, capsys):
    copy = RunFolder(tmp_path / "copy")
    shutil.copytree(run, copy.path)
    report = json.loads(copy.report_json.read_text())
    copy.report_json.write_text(json.dumps({**report, "params_sha256": "0" * 64}))
    assert main(["verify", str(copy.path), "--quiet"]) == 1
    assert f"have sha256 {report['params_sha256']}, not {'0' * 64}" in capsys.readouterr().out
    for steps, told in [("100:200", "from its beginning"), (":100", "within the run's rounds, 128 to 256 steps")]:
        assert main(["verify", str(copy.path), "--quiet", "--steps", steps]) == 2
        assert told in capsys.readouterr().err


# --- beginning with another run's agent ------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_may_begin_with_what_another_one_learned(run: Path, tmp_path: Path, capsys):
    line = ["rl", str(run / "recipe.yaml"), "--quiet", "--out", str(tmp_path / "on"), "--rl.begin-with", str(run)]
    assert main([*line, "--rl.network.width", "9"]) == 2
    assert "rl.begin_with: the agent in" in capsys.readouterr().err
    assert main([*line, "--optim.learning-rate", "1e-30"]) == 0
    given, found = (export.read(path) for path in (run, tmp_path / "on"))
    assert all(np.allclose(found.trainable[path], leaf, atol=1e-6) for path, leaf in given.trainable.items())
    assert found.facts["recipe"]["rl"]["begin_with"] == ""  # what was learned stands for itself


# --- other uses ------------------------------------------------------------------------------------------------------


def test_a_finished_run_is_not_written_over_unasked(run: Path, capsys):
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file() and path.name != ".lock"}
    assert main(["rl", str(run / "recipe.yaml"), "--quiet"]) == 2
    assert f"{run}: already holds a finished run" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.slow
def test_replay_tells_the_mean_return_and_draws_an_episode(run: Path, tmp_path: Path, capsys):
    picture = tmp_path / "episode.gif"
    assert main(["rl", "--replay", str(run), "--episodes", "5", "--picture", str(picture)]) == 0
    told = capsys.readouterr().out
    assert "dqn in gridworld, seed 0: mean return " in told and "over 5 episodes" in told
    assert f"episode: {picture}" in told and picture.read_bytes().startswith(b"GIF8")
    assert main(["rl", "--replay", str(run), "--episodes", "0"]) == 2
    assert "--episodes: must be at least 1, is 0" in capsys.readouterr().err


def test_list_names_environments_agents_and_recipes(capsys):
    assert main(["rl", "--list"]) == 0
    told = capsys.readouterr().out
    for name, line in envs.names().items():
        assert f"  {name} " in told and line in told
    assert "agents:" in told and "  ppo " in told and "jaxft rl cartpole_ppo" in told


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        ([], "jaxft rl: no recipe named — shipped: acrobot, cartpole"),
        (["cartpol"], "cartpol: neither a recipe file nor a shipped recipe — did you mean `cartpole`?"),
        (["cartpole", "--rl.env", "cartpoll"], "rl.env: there is no environment 'cartpoll' — did you mean `cartpole`?"),
        (["cartpole", "--rl.dqn.buffer", "30"], "rl.dqn.buffer: 30 steps are no whole number of iterations"),
        (["cartpole", "--rl.stepz", "3"], "--rl.stepz"),
        (["cartpole", "--rl.steps", "few"], "rl.steps: expected an integer, came 'few'"),
        (["--replay", "nowhere"], "nowhere: holds no agent"),
    ],
)
def test_bad_input_ends_with_code_2_and_a_line_that_tells(argv, told, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["rl", *argv]) == 2
    captured = capsys.readouterr()
    assert told in captured.err and captured.out == "" and not list(tmp_path.iterdir())
