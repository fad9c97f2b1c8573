from __future__ import annotations

import json
import subprocess
import sys
import types
from pathlib import Path

import pytest

from jaxft import assets
from jaxft import recipe as recipes
from jaxft.cli import init
from jaxft.cli.main import commands, main
from jaxft.errors import Problem, UserError

CLI = Path(recipes.__file__).parent / "cli"


def put(monkeypatch: pytest.MonkeyPatch, run) -> None:
    """A command `env` that does `run(argv)`."""
    monkeypatch.setitem(sys.modules, "jaxft.cli.env", types.SimpleNamespace(main=run))


def raising(error: BaseException):
    def run(argv: list[str]) -> int:
        raise error

    return run


def test_every_file_of_the_folder_is_a_command_with_help_and_main():
    import importlib

    files = {path.stem for path in CLI.glob("*.py")} - {"__init__", "main"}
    assert set(commands()) == {name.replace("_", "-") for name in files}
    assert {"init", "check", "assets", "env"} <= set(commands())
    for name, line in commands().items():
        module = importlib.import_module(f"jaxft.cli.{name.replace('-', '_')}")
        assert callable(module.main) and line == module.HELP and "\n" not in line


@pytest.mark.parametrize("argv", [[], ["-h"], ["--help"]])
def test_the_overview_names_every_command(argv: list[str], capsys: pytest.CaptureFixture[str]):
    assert main(argv) == 0
    out = capsys.readouterr().out
    assert all(f"  {name} " in out and line in out for name, line in commands().items())


def test_the_overview_imports_no_heavy_library():
    heavy = {"jax", "numpy", "rich", "tyro", "yaml", "transformers"}
    code = f"import sys; from jaxft.cli.main import main; main([]); print(sorted({heavy} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"


def test_an_unknown_command_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]):
    assert main(["asets"]) == 2
    assert capsys.readouterr().err == "error: jaxft asets: no such command — did you mean `jaxft assets`?\n"


def test_each_problem_is_one_line_on_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    long = "x" * 300
    put(
        monkeypatch,
        raising(UserError.of([Problem("a.csv:3", f"[bold]{long}[/bold]", "mend"), Problem("seed", "is -1")])),
    )
    assert main(["env"]) == 2
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [f"error: a.csv:3: [bold]{long}[/bold] — mend", "error: seed: is -1"]
    assert captured.out == ""


def test_an_interrupt_is_130_and_a_defect_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch):
    put(monkeypatch, raising(KeyboardInterrupt()))
    assert main(["env"]) == 130
    put(monkeypatch, raising(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        main(["env"])


def test_the_parsers_exit_code_is_passed_on(capsys: pytest.CaptureFixture[str]):
    assert main(["env", "--help"]) == 0
    assert main(["env", "--jsn"]) == 2
    assert "--json" in capsys.readouterr().err


def test_a_reader_that_leaves_early_is_no_error():
    line = f"{sys.executable} -m jaxft.cli.main assets | true; echo ${{PIPESTATUS[0]}}"
    run = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert (run.stdout, run.stderr) == ("0\n", "")


def test_env_tells_versions_and_devices(capsys: pytest.CaptureFixture[str]):
    assert main(["env", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    import jax

    assert found["packages"]["jax"] == jax.__version__
    assert found["devices"]["count"] == jax.device_count() and found["devices"]["platform"] == jax.default_backend()
    assert main(["env"]) == 0
    assert f"jax              {jax.__version__}" in capsys.readouterr().out


def test_assets_lists_all_and_fetches_by_name(capsys: pytest.CaptureFixture[str], sms_spam: Path):
    assert main(["assets"]) == 0
    listed = capsys.readouterr().out
    assert all(asset.name in listed for asset in assets.load_index().values())
    assert main(["assets", "sms_spam"]) == 0
    told = capsys.readouterr().out
    assert str(sms_spam.parent) in told.replace("\n", "") and "MIT" in told


def test_assets_tells_every_wrong_name_before_it_fetches(capsys: pytest.CaptureFixture[str]):
    assert main(["assets", "sms_spm", "sms_spam", "trek"]) == 2
    captured = capsys.readouterr()
    assert [line.split(":")[1].strip() for line in captured.err.splitlines()] == ["asset 'sms_spm'", "asset 'trek'"]
    assert captured.out == ""


@pytest.mark.parametrize("task", sorted(init.STARTERS))
def test_init_prints_a_recipe_that_passes_and_the_next_command(
    task: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    assert main(["init", task]) == 0
    captured = capsys.readouterr()
    path = tmp_path / "recipe.yaml"
    path.write_text(captured.out, encoding="utf-8")
    recipe = recipes.load(path)
    recipes.check(recipe)
    assert recipe.task == task
    assert captured.err.startswith("next: ") and "jaxft train" in captured.err


def test_there_is_a_starter_for_every_task():
    from jaxft import tasks

    assert set(init.STARTERS) == set(tasks.names())


def test_check_tells_all_problems_of_a_recipe(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    path = tmp_path / "recipe.yaml"
    path.write_text("data: {train: sms_spam, max_tokens: 2}\ntrain: {epochs: 0}\nseed: -4\n")
    assert main(["check", str(path)]) == 2
    told = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[1] for line in told] == ["data.max_tokens", "train.epochs", "seed"]
