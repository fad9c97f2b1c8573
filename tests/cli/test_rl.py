"""`jaxft rl`: a small run through the command line, what it leaves, going on, watching, and bad input."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from jaxft import recipe as recipes_
from jaxft.cli.main import main
from jaxft.report.run_folder import RunFolder
from jaxft.rl import envs
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


def test_a_finished_run_is_not_written_over_unasked(run: Path, capsys):
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file() and path.name != ".lock"}
    assert main(["rl", str(run / "recipe.yaml"), "--quiet"]) == 2
    assert f"{run}: already holds a finished run" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in before} == before


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
