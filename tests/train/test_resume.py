"""Going on with a run: from every step to the same end, past damage, and never with another run's checkpoint."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxft import recipe
from jaxft.checkpoint import store as store_module
from jaxft.checkpoint.store import Snapshot, Store
from jaxft.errors import UserError
from jaxft.recipe import Noise, Optim, Recipe
from jaxft.report.progress import Progress
from jaxft.report.run_folder import RunFolder
from jaxft.train import optim, resume, step
from jaxft.train.clock import Clock
from jaxft.train.hashes import params_sha256
from jaxft.train.loop import Evaluator, Fitted, fit
from jaxft.train.resume import check_identity, check_recipe
from jaxft.train.setup import Setup

pytestmark = pytest.mark.usefixtures("promotion_for_optax")

STEPS = 50
STRIDE = 1 if os.environ.get("JAXFT_TEST_EVERY_STEP") else 7
"""Every step takes minutes."""


@pytest.fixture(scope="module")
def setup(set_up_on) -> Setup:
    """50 steps of 8 examples with noise, an evaluation every 6 steps and a checkpoint after each step."""
    train = {"steps": STEPS, "batch_size": 8, "micro_batches": 2, "eval_every": 6, "save_every": 1}
    train |= {"keep_checkpoints": STEPS, "row_tokens": 64, "packing": False}
    noise = Noise(label=0.1, token_drop=0.1, token_mask=0.1)
    return set_up_on(data={"dev": 0.2}, noise=noise, optim=Optim(learning_rate=1e-3), **train)


class Stopped(Exception):
    """In place of a kill."""


class Stopping(Progress):
    """Stops a run after a step."""

    def __init__(self, stop_at: int) -> None:
        super().__init__(STEPS, quiet=True)
        self._stop_at = stop_at

    def step(self, step: int, loss: float | None = None, real_tokens: int = 0) -> None:
        if step > self._stop_at:
            raise Stopped
        super().step(step, loss, real_tokens)


def trained(setup: Setup, path: Path, stop_at: int = STEPS + 1) -> Fitted:
    """Trains in a run folder, or goes on there; Stopped after a step."""
    folder = RunFolder(path).create(resume=True)
    with Stopping(stop_at) as progress:
        return fit(setup, folder, progress, Evaluator(setup), Clock())


@pytest.fixture(scope="module")
def whole(setup, tmp_path_factory, promotion_for_optax) -> tuple[Fitted, Path]:
    """The run that nothing interrupts, with all its checkpoints."""
    path = tmp_path_factory.mktemp("runs") / "whole"
    return trained(setup, path), path


def cut(path: Path, to: Path, after: int, setup: Setup) -> None:
    """The folder as it was when the run was killed after so many steps, with records it had no time to save."""
    records = RunFolder(path).records()
    to.mkdir()
    lost = after + 2
    (to / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records if r["step"] <= lost))
    best = resume.stopping_at(after, setup, records).best_step
    for number in {after, best} - {None}:
        name = f"step_{number:08d}"
        shutil.copytree(path / "checkpoints" / name, to / "checkpoints" / name)


# --- to the same end -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_from_every_step_a_run_ends_as_the_uninterrupted_one(setup, whole, tmp_path):
    """Parameters, last state, and every record; on another number of devices every other time. From each 7th step, and
    from each one with JAXFT_TEST_EVERY_STEP=1."""
    fitted, path = whole
    assert Store(path / "checkpoints").steps() == list(range(1, STEPS + 1))
    expected = Store(path / "checkpoints").load(STEPS)
    for after in range(1, STEPS, STRIDE):
        to = tmp_path / str(after)
        cut(path, to, after, setup)
        mesh = dataclasses.replace(setup.recipe.mesh, data=1 + after // STRIDE % 2)
        there = dataclasses.replace(setup, recipe=dataclasses.replace(setup.recipe, mesh=mesh))
        found = trained(there, to)
        assert params_sha256(found.params) == params_sha256(fitted.params), after
        assert (found.steps, found.best_step, found.num_devices) == (STEPS, fitted.best_step, mesh.data)
        assert RunFolder(to).records() == RunFolder(path).records(), after
        last = Store(to / "checkpoints").load(STEPS)
        assert all(np.array_equal(last.arrays[name], array) for name, array in expected.arrays.items()), after
        assert found.clock.real_tokens == fitted.clock.real_tokens
        shutil.rmtree(to)


def test_a_state_holds_parameters_optimiser_integers_and_seeds(setup, whole):
    saved = Store(whole[1] / "checkpoints").load(13)
    assert {name.split("/")[0] for name in saved.arrays} == {"trainable", "optimiser", "step"}
    assert int(saved.arrays["step"]) == saved.facts["step"] == 13
    assert (saved.facts["epoch"], saved.facts["position"]) == divmod(13 * 8, setup.steps_per_epoch * 8)
    assert saved.facts["seeds"] == recipe.stream_seeds(setup.recipe)
    numbers = {name for name, value in saved.facts.items() if isinstance(value, int)}
    assert set(saved.facts) - numbers == {"seeds", "identity"}


# --- damage ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_damaged_checkpoint_is_passed_over_and_said(setup, whole, tmp_path):
    fitted, path = whole
    to = tmp_path / "run"
    shutil.copytree(path, to)
    damage(to, STEPS)
    found = trained(setup, to)
    assert params_sha256(found.params) == params_sha256(fitted.params)
    (told,) = found.warnings
    assert told.startswith(f"the checkpoint of step {STEPS} is passed over: ") and "is damaged" in told


@pytest.mark.slow
def test_without_the_best_parameters_an_earlier_checkpoint_is_taken(setup, whole, tmp_path):
    fitted, path = whole
    to = tmp_path / "run"
    shutil.copytree(path, to)
    assert fitted.best_step is not None and fitted.best_step > 1
    damage(to, fitted.best_step)
    found = trained(setup, to)
    assert params_sha256(found.params) == params_sha256(fitted.params)
    assert all(f"checkpoint of step {fitted.best_step} is damaged" in told for told in found.warnings)


@pytest.mark.slow
def test_checkpoints_of_a_past_that_was_left_are_gone(setup, whole, tmp_path):
    """A run that starts again from the beginning, and is stopped once more, must not go on from what it left."""
    fitted, path = whole
    to = tmp_path / "run"
    cut(path, to, 40, setup)
    damage(to, resume.stopping_at(40, setup, RunFolder(path).records()).best_step or 40)
    with pytest.raises(Stopped):
        trained(setup, to, stop_at=7)
    store_module.finish_saving()  # a process that is gone writes nothing more
    assert max(Store(to / "checkpoints").steps()) <= 7
    found = trained(setup, to)
    assert params_sha256(found.params) == params_sha256(fitted.params)
    assert RunFolder(to).records() == RunFolder(path).records()


@pytest.mark.slow
def test_the_best_parameters_are_saved_again_where_that_failed(setup, whole, tmp_path, monkeypatch):
    """A full disk at the best step must not make every later checkpoint useless."""
    fitted, _ = whole
    real, failed = store_module._write, []

    def full_once(folder: Path, snapshot: Snapshot, facts: Any) -> None:
        if snapshot.step == fitted.best_step and not failed:
            failed.append(snapshot.step)
            raise OSError(28, "No space left on device")
        real(folder, snapshot, facts)

    monkeypatch.setattr(store_module, "_write", full_once)
    to = tmp_path / "run"
    found = trained(setup, to)
    assert failed and fitted.best_step in Store(to / "checkpoints").steps()
    assert "No space left" in found.warnings[0] and params_sha256(found.params) == params_sha256(fitted.params)


@pytest.mark.slow
def test_where_all_are_damaged_the_run_starts_anew(setup, whole, tmp_path):
    fitted, path = whole
    to = tmp_path / "run"
    cut(path, to, 1, setup)
    damage(to, 1)
    found = trained(setup, to)
    assert params_sha256(found.params) == params_sha256(fitted.params) and len(found.warnings) == 1


def damage(folder: Path, number: int) -> None:
    """Flips one bit of the largest file of a checkpoint."""
    files = [path for path in (folder / "checkpoints" / f"step_{number:08d}").rglob("*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 4
    largest.write_bytes(data)


# --- another run -----------------------------------------------------------------------------------------------------


def changed(**keys: Any) -> Recipe:
    return dataclasses.replace(Recipe(), **keys)


def test_keys_that_decide_no_bit_may_change():
    train = dataclasses.replace(Recipe().train, save_every=7, keep_checkpoints=9)
    check_recipe(Recipe(), changed(out="elsewhere", train=train, numerics="fast"), "runs/x")
    check_recipe(Recipe(), changed(mesh=dataclasses.replace(Recipe().mesh, data=1)), "runs/x")


def test_every_other_key_that_changed_is_named_at_once():
    other = changed(seed=5, optim=dataclasses.replace(Recipe().optim, learning_rate=1e-4, name="sgd"))
    with pytest.raises(UserError) as caught:
        check_recipe(Recipe(), other, "runs/x")
    assert [problem.where for problem in caught.value.problems] == ["optim.name", "optim.learning_rate", "seed"]
    assert "is 0.0001, but the unfinished run in runs/x has 5e-05" in caught.value.problems[1].what
    with pytest.raises(UserError, match="numerics: is canonical, but"):
        check_recipe(changed(numerics="fast"), Recipe(), "runs/x")


SPOILED: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "labels": (
        lambda saved: saved["labels"].append("x"),
        "label map: changed since .*: it had ham, spam, x, now",
    ),
    "data": (lambda saved: saved["data"].update(train="0" * 64), "data.train: the data changed"),
    "model": (lambda saved: saved.update(model="0" * 64), "model: the initial parameters changed"),
    "threads": (lambda saved: saved["place"].update(cpu_threads=3), "topology: .* cpu_threads 3, .*set NPROC=3"),
    "jaxlib": (lambda saved: saved["place"].update(jaxlib="0.0"), "topology: .* jaxlib 0.0.* `--numerics fast`"),
}


@pytest.mark.parametrize("part", SPOILED)
def test_another_runs_checkpoint_is_refused_and_told_apart(setup, part):
    now = resume.identify(setup)
    saved = json.loads(json.dumps(now))
    assert check_identity(saved, now, "runs/x") == []
    spoil, told = SPOILED[part]
    spoil(saved)
    with pytest.raises(UserError, match=told):
        check_identity(saved, now, "runs/x")


def test_without_the_promise_another_place_is_a_note(setup):
    now = resume.identify(setup)
    saved = json.loads(json.dumps(now))
    saved["place"]["jaxlib"] = "0.0"
    now["recipe"]["numerics"] = "fast"
    (told,) = check_identity(saved, now, "runs/x")
    assert "jaxlib 0.0" in told


def test_another_format_is_refused(whole):
    saved = Store(whole[1] / "checkpoints").load(3)
    resume.check_format(saved, "runs/x")
    with pytest.raises(UserError, match="runs/x: its checkpoints have format 0, this jaxft reads 1"):
        resume.check_format(dataclasses.replace(saved, facts={**saved.facts, "format": 0}), "runs/x")


def test_another_optimisers_state_is_refused_by_name(setup, whole):
    saved = Store(whole[1] / "checkpoints").load(3)
    momentum = optim.make(Optim(name="sgd", momentum=0.9), STEPS)
    initial = step.init(setup.split()[0], momentum)
    with pytest.raises(UserError, match=r"does not fit this model and optimiser: optimiser/.* \(\d+ in all\)"):
        resume.restored(saved, initial, "runs/x")
