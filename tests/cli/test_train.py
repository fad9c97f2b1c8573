"""`jaxft train` and `jaxft check`: what they say and leave behind, above all on bad input."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from jaxft import recipe as recipes_
from jaxft.cli.main import main
from jaxft.report.run_folder import RunFolder

ROWS = "text,label\n" + "".join(f"text number {i},{'a' if i % 2 else 'b'}\n" for i in range(20))
CONLL = "West\tB-MISC\nIndian\tI-MISC\nwon\tO\n\nPeter\tB-PER\nran\tO\n\n" * 5


@pytest.fixture
def train(tmp_path: Path, monkeypatch, capsys, recipe_on) -> Callable[..., tuple[int, list[str]]]:
    """Runs `jaxft train` on data files of the given contents; gives the exit code and the lines of standard error."""
    monkeypatch.chdir(tmp_path)

    def go(files: dict[str, str | bytes], task: str = "classify", **keys: Any) -> tuple[int, list[str]]:
        for name, content in files.items():
            Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
        tree = recipe_on(next(iter(files)), "runs/x", task, **keys.pop("data", {}))
        Path("recipe.yaml").write_text(json.dumps(tree | keys))
        code = main(["train", "recipe.yaml"])
        captured = capsys.readouterr()
        assert captured.out == ""
        return code, captured.err.splitlines()

    return go


# --- a run -----------------------------------------------------------------------------------------------------------


def test_a_run_leaves_report_model_and_the_recipe_in_force(run: Path):
    folder = RunFolder(run)
    assert folder.finished and (folder.model / "model.safetensors").is_file()
    chosen = recipes_.load(folder.recipe)
    assert (chosen.train.steps, chosen.data.dev, chosen.out) == (2, 0.2, str(run))


@pytest.mark.slow
def test_overrides_reach_the_run_and_a_second_one_needs_leave(
    run: Path, tmp_path: Path, capsys, promotion_for_optax: None
):
    out = str(tmp_path / "again")
    line = ["train", str(run / "recipe.yaml"), "--out", out, "--train.steps", "1", "--optim.learning-rate=1e-3"]
    assert main(line) == 0
    told = capsys.readouterr()
    assert "step 1/1" in told.out and f"report: {out}/report.md" in told.out and told.err == ""
    chosen = recipes_.load(RunFolder(out).recipe)
    assert (chosen.train.steps, chosen.optim.learning_rate, chosen.data.dev) == (1, 1e-3, 0.2)
    assert main([*line, "--quiet"]) == 2
    assert capsys.readouterr().err == (
        f"error: {out}: already holds a finished run — name another folder with `--out`, or pass `--overwrite`\n"
    )
    assert main([*line, "--quiet", "--overwrite"]) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_saves_says_so_in_one_line_and_exits_with_its_number(run: Path, tmp_path: Path, number):
    out = RunFolder(tmp_path / "long")
    line = ["train", str(run / "recipe.yaml"), "--out", str(out.path), "--train.steps", "1000000", "--quiet"]
    line += ["--train.eval-every", "1000000"]
    # A background job of a shell script starts with SIGINT ignored, and so would its children.
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "from jaxft.cli.main import main; sys.exit(main())"
    process = subprocess.Popen([sys.executable, "-c", code, *line], stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 240
        while steps_of(out) == [] and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(number)
        _, told = process.communicate(timeout=240)
    finally:
        process.kill()
    (step,) = [int(path.name.removeprefix("step_")) for path in out.checkpoints.iterdir()]
    assert (process.returncode, told) == (
        128 + number,
        f"interrupted after step {step:,} of 1,000,000; saved in {out.path}: the same command goes on from there\n",
    )
    assert not out.finished and steps_of(out) == list(range(1, step + 1))


def steps_of(folder: RunFolder) -> list[int]:
    """The steps that metrics.jsonl has."""
    return [record["step"] for record in folder.records() if record["kind"] == "train"]


# --- bad input -------------------------------------------------------------------------------------------------------

JSONL = "".join(json.dumps({"text": f"text {i}", "label": i % 2}) + "\n" for i in range(20))
BAD_DATA: dict[str, tuple[dict[str, str | bytes], dict[str, Any], list[str]]] = {
    # name: files (the first is data.train), keys of the recipe, what each line must hold
    "missing column": ({"x.csv": ROWS.replace("label", "lable", 1)}, {}, ["x.csv: no column 'label'"]),
    "empty file": ({"x.csv": ""}, {}, ["x.csv: the file is empty (0 bytes)"]),
    "empty split": ({"x.csv": ROWS, "d.csv": "text,label\n"}, {"data": {"dev": "d.csv"}}, ["d.csv: no rows"]),
    "unknown label in dev": (
        {"x.csv": ROWS, "d.csv": "text,label\none,a\ntwo,c\n"},
        {"data": {"dev": "d.csv"}},
        ["d.csv:3: label 'c'"],
    ),
    "label out of range": (
        {"x.jsonl": JSONL, "d.jsonl": '{"text": "t", "label": 7}\n'},
        {"data": {"dev": "d.jsonl"}},
        ["d.jsonl:1: label '7'"],
    ),
    "labels that are none": (
        {"x.csv": ROWS + "one,nan\ntwo,\n"},
        {},
        ["x.csv:22: label 'nan'", "x.csv:23: empty label"],
    ),
    "not UTF-8": ({"x.csv": ROWS.encode() + "café,a\n".encode("latin-1")}, {}, ["x.csv:22: byte 0xe9 at offset"]),
    "NUL": ({"x.csv": ROWS + "a\0b,a\n"}, {}, ["x.csv:22: 1 of the file's 1 NUL bytes"]),
    "UTF-16": ({"x.csv": ROWS.encode("utf-16")}, {}, ["x.csv: starts with a UTF-16 byte order mark"]),
    "ragged CSV": ({"x.csv": ROWS + "a,b,c\n"}, {}, ["x.csv:22: 3 cells, the header has 2 columns"]),
    "ragged CoNLL": (
        {"x.conll": CONLL + "lone\nx\ty\tz\n"},
        {"task": "tag"},
        ["x.conll:36: 1 columns", "x.conll:37: 3 columns"],
    ),
    "I without B": (
        {"x.conll": CONLL + "a\tO\nb\tI-PER\n"},
        {"task": "tag"},
        ["x.conll:37: I-PER after O continues no entity"],
    ),
    "duplicate ids": (
        {"x.csv": "id,text,label\n1,p,a\n2,q,b\n1,r,a\n"},
        {"data": {"id": "id"}},
        ["x.csv:4: id '1' was given before, at x.csv:2"],
    ),
    "one class": ({"x.csv": ROWS.replace(",b", ",a")}, {}, ["x.csv: 20 training examples, only 'a' as label"]),
    "too many tokens": ({"x.csv": ROWS}, {"data": {"max_tokens": 65}}, ["data.max_tokens: is 65, but", "64 positions"]),
    "no such file": ({"x.csv": ROWS}, {"data": {"dev": "y.csv"}}, ["y.csv: no such file"]),
    "negative rates": (
        {"x.csv": ROWS},
        {"train": {"dropout": -0.1}, "optim": {"weight_decay": -1}},
        ["train.dropout: is a rate", "optim.weight_decay: must not be negative"],
    ),
    "unknown keys, wrong types and rates": (
        {"x.csv": ROWS},
        {"modle": "minilm", "train": {"epochs": "three", "dropout": 2}},
        ["modle: unknown key — did you mean `model`?", "train.epochs: expected an integer", "train.dropout: is a rate"],
    ),
    "unknown metric": (
        {"x.csv": ROWS},
        {"data": {"dev": 0.3}, "train": {"stop_metric": "acuracy"}},
        ["train.stop_metric: there is no 'acuracy'"],
    ),
    "patience without a dev set": ({"x.csv": ROWS}, {"train": {"patience": 2}}, ["train.patience: needs a dev set"]),
    "freezing what there is not": ({"x.csv": ROWS}, {"train": {"freeze": "layers:9"}}, ["freezes 9 layers of 1"]),
}


@pytest.mark.parametrize("name", BAD_DATA)
def test_bad_data_and_recipes_are_clear_lines_and_leave_nothing(name: str, train):
    files, keys, expected = BAD_DATA[name]
    code, told = train(files, keys.get("task", "classify"), **{k: v for k, v in keys.items() if k != "task"})
    assert code == 2
    assert all(line.startswith("error: ") for line in told)
    text = "\n".join(told)
    assert all(part in text for part in expected), text
    assert "Traceback" not in text and not Path("runs").exists()


@pytest.mark.slow
def test_problems_of_all_files_and_of_the_model_come_at_once(train, tiny_model):
    model = tiny_model("none")
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    files: dict[str, str | bytes] = {"x.csv": "text,lable\np,a\n", "d.csv": "text,label\n"}
    code, told = train(files, data={"dev": "d.csv"}, model=str(model))
    assert code == 2 and len(told) == 3
    assert [f"error: {name}:" in line for name, line in zip(("x.csv", "d.csv", weights), told, strict=True)] == [
        True
    ] * 3


def _wrong_type(model: Path) -> None:
    (model / "config.json").write_text('{"model_type": "roberta"}')


def _cut(model: Path) -> None:
    (model / "model.safetensors").write_bytes((model / "model.safetensors").read_bytes()[:5000])


def _hostile(model: Path) -> None:
    (model / "model.safetensors").write_bytes((2**62).to_bytes(8, "little") + b"{}")


def _pickle(model: Path) -> None:
    (model / "model.safetensors").unlink()
    (model / "pytorch_model.bin").write_bytes(b"\x80\x04.")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_wrong_type, "config.json: model_type is 'roberta'"),
        (_cut, "model.safetensors: its tensors end at byte"),
        (_hostile, "model.safetensors: its header says 4611686018427387904 bytes"),
        (_pickle, "pytorch_model.bin: is a pickle"),
    ],
)
def test_bad_models_are_clear_lines_and_leave_nothing(spoil, said: str, train, tiny_model):
    model = tiny_model("none")
    spoil(model)
    code, told = train({"x.csv": ROWS}, model=str(model))
    assert code == 2 and said in "\n".join(told)
    assert not Path("runs").exists()


@pytest.mark.slow
def test_a_real_process_says_the_same_without_a_traceback(tmp_path: Path, recipe_on):
    (tmp_path / "x.csv").write_text("text,lable\np,a\n")
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe_on("x.csv", "runs/x")))
    line = [sys.executable, "-m", "jaxft.cli.main", "train", "recipe.yaml"]
    found = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, env=os.environ)
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.startswith("error: x.csv: no column 'label'") and len(found.stderr.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["recipe.yaml", "x.csv"]


# --- check -----------------------------------------------------------------------------------------------------------


def test_check_tells_facts_and_warns_of_overlap(messages: Path, recipe_on, tmp_path: Path, capsys):
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(recipe_on(messages, tmp_path / "run", dev=str(messages))))
    assert main(["check", str(path), "--train.batch-size", "16"]) == 0
    told = capsys.readouterr()
    assert "warning: dev: 60 of 60 (100.0 %) texts also occur in train" in told.err
    assert told.out.splitlines()[0] == f"{path}: no problems, 1 warning"
    assert "examples  train 60, dev 60; 2 labels: ham, spam" in told.out and "2 of 16 examples" in told.out
    assert max(map(len, told.out.splitlines()[1:])) <= 80
    assert not (tmp_path / "run").exists()


def test_check_tells_problems_of_the_data(tmp_path: Path, recipe_on, capsys):
    (tmp_path / "x.csv").write_text("text,label\n,a\n")
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe_on(tmp_path / "x.csv", "runs/x")))
    assert main(["check", str(tmp_path / "recipe.yaml")]) == 2
    told = capsys.readouterr()
    assert f"error: {tmp_path}/x.csv:2: the text is empty" in told.err and told.out == ""


def test_check_warns_of_segments_that_come_to_nothing(run: Path, capsys):
    line = ["check", str(run / "recipe.yaml"), "--train.steps", "null", "--train.epochs", "1"]
    assert main([*line, "--segments", "[{steps: 2, batch_size: 4}]"]) == 0
    assert "segments" not in capsys.readouterr().err
    assert main([*line, "--segments", "[{steps: 99, learning_rate: 2.0}]"]) == 0
    assert "warning: segments: have 99 steps in all, but the run ends after 3" in capsys.readouterr().err


# --- segments --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def in_segments(run: Path, tmp_path_factory: pytest.TempPathFactory, promotion_for_optax: None) -> Path:
    """The run folder of 4 steps, the first three by strategies given on the command line."""
    out = tmp_path_factory.mktemp("runs") / "segments"
    given = "[{steps: 1, learning_rate: 2.0, label_noise: 0.3}, {steps: 2, optimizer: sgd, freeze: encoder}]"
    line = ["train", str(run / "recipe.yaml"), "--out", str(out), "--train.steps", "4", "--segments", given, "--quiet"]
    assert main(line) == 0
    return out


@pytest.mark.slow
def test_segments_may_be_given_on_the_command_line(in_segments: Path):
    folder = RunFolder(in_segments)
    chosen = recipes_.load(folder.recipe)
    first, second = chosen.segments
    assert (first.steps, first.learning_rate, first.label_noise, first.optimizer) == (1, 2.0, 0.3, None)
    assert (second.steps, second.learning_rate, second.optimizer, second.freeze) == (2, 1.0, "sgd", "encoder")
    report = json.loads(folder.report_json.read_text())
    assert report["noise"]["labels"]["of"] == 16 and report["steps"] == 4


@pytest.mark.slow
def test_a_run_with_segments_repeats(in_segments: Path, capsys):
    """As `jaxft verify` replays it, from the beginning and from a checkpoint within the second segment."""
    assert main(["verify", str(in_segments), "--quiet"]) == 0
    told = capsys.readouterr().out
    assert told == "equal: steps 1 to 4 replayed, 4 compared; the parameters have the sha256 of report.json\n"
    assert main(["verify", str(in_segments), "--quiet", "--devices", "1", "--steps", "4:4"]) == 0
    assert capsys.readouterr().out.startswith("equal: steps ")


@pytest.mark.slow
def test_help_shows_the_segments_of_a_recipe(in_segments: Path, capsys):
    assert main(["train", str(in_segments / "recipe.yaml"), "--help"]) == 0
    told = " ".join(re.sub(r"[│|]", " ", capsys.readouterr().out).split())
    assert "--segments LIST" in told
    assert "[{learning_rate: 2.0, label_noise: 0.3, steps: 1}, {optimizer: sgd, freeze: encoder, steps: 2}]" in told


BAD_SEGMENTS = {
    "[{steps: 1}, {steps: 1, learnin_rate: 2.0}]": "segments[1].learnin_rate: unknown key — did you mean",
    "[{steps: 1, dropout: 1.0}]": "segments[0].dropout: is a rate from 0",
    "[{steps: 1, optimizer: adam}]": "segments[0].optimizer: expected adamw | sgd or null, came 'adam'",
    "[{steps: 2}, {steps: 1}]": "segments: have 3 steps in all, but train.steps is 2",
    "[{steps: 1}, {steps: 1, freeze: 'layers:99'}]": "segments[1].freeze: freezes 99 layers of 1",
    "many": "segments: expected a list, came 'many'",
}


@pytest.mark.parametrize("given", BAD_SEGMENTS)
def test_bad_segments_are_one_clear_line_and_leave_nothing(given: str, run: Path, tmp_path: Path, capsys):
    out = tmp_path / "none"
    assert main(["train", str(run / "recipe.yaml"), "--out", str(out), "--segments", given]) == 2
    told = capsys.readouterr()
    assert told.out == "" and BAD_SEGMENTS[given] in told.err and len(told.err.splitlines()) == 1
    assert not out.exists()


# --- fewer layers ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cut(
    run: Path, tiny_model, tmp_path_factory: pytest.TempPathFactory, promotion_for_optax: None
) -> tuple[Path, Path]:
    """A model of 3 layers, and the run folder of its bottom two; the encoder is frozen."""
    model, out = tiny_model("none", layers=3), tmp_path_factory.mktemp("runs") / "cut"
    line = ["train", str(run / "recipe.yaml"), "--model", str(model), "--out", str(out), "--quiet"]
    assert main([*line, "--train.layers", "2", "--train.freeze", "encoder", "--train.steps", "1"]) == 0
    return model, out


@pytest.mark.slow
def test_train_layers_keeps_the_bottom_ones(cut: tuple[Path, Path]):
    model, out = cut
    before, after = (load_file(folder / "model.safetensors") for folder in (model, RunFolder(out).model))
    name = "{}encoder.layer.{}.output.dense.weight"
    prefix = "bert." if name.format("bert.", 0) in after else ""
    here = "bert." if name.format("bert.", 0) in before else ""
    for layer in range(2):
        assert (after[name.format(prefix, layer)] == before[name.format(here, layer)]).all()
    assert name.format(here, 2) in before and name.format(prefix, 2) not in after
    assert json.loads((RunFolder(out).model / "config.json").read_text())["num_hidden_layers"] == 2


@pytest.mark.slow
@pytest.mark.torch
def test_transformers_opens_a_model_of_fewer_layers(cut: tuple[Path, Path]):
    from transformers import AutoModelForSequenceClassification

    opened: Any = AutoModelForSequenceClassification.from_pretrained(RunFolder(cut[1]).model, output_loading_info=True)
    network, told = opened
    assert network.config.num_hidden_layers == len(network.bert.encoder.layer) == 2
    assert not told["missing_keys"] and not told["unexpected_keys"] and not told["mismatched_keys"]


@pytest.mark.slow
def test_a_run_of_fewer_layers_repeats(cut: tuple[Path, Path], capsys):
    assert main(["verify", str(cut[1]), "--quiet"]) == 0
    assert capsys.readouterr().out.startswith("equal: steps 1 to 1 replayed, 1 compared; the parameters have")


def test_more_layers_than_there_are_is_an_error(run: Path, tmp_path: Path, capsys):
    line = ["train", str(run / "recipe.yaml"), "--out", str(tmp_path / "none")]
    assert main([*line, "--train.layers", "2"]) == 2
    assert capsys.readouterr().err.startswith("error: train.layers: asks for 2 layers, but the model has 1")
    assert main([*line, "--train.layers", "0"]) == 2
    assert "train.layers: must be at least 1, is 0" in capsys.readouterr().err
