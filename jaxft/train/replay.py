"""Replaying a run: the same steps once more, compared with what the run recorded, to the bit.

Compared are, at each recorded step, the loss and the gradient's norm, and where the run recorded it a digest of all
parameters; and the SHA-256 of the exported parameters where the replay passes the step that they are of. Nothing is
evaluated and nothing is written.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np

from jaxft import compilation, cpu_threads, recipe
from jaxft.checkpoint.store import Damaged, Store
from jaxft.data.prefetch import Prefetch
from jaxft.errors import Problems, UserError
from jaxft.report.env import environment
from jaxft.report.progress import Progress
from jaxft.report.run_folder import RunFolder
from jaxft.train import layers, resume, step
from jaxft.train.compiled import Info
from jaxft.train.hashes import params_sha256
from jaxft.train.setup import Setup, set_up
from jaxft.train.step import State
from jaxft.train.stepper import Stepper

EXPLAINS = ("jaxft", "git", "python", "packages", "cpu", "cores", "cpu_threads", "devices", "flags")
"""Parts of env.json that can explain other bits."""

Tree = dict[str, Any]


@dataclass(frozen=True)
class Verdict:
    """What a replay found. first, last: steps replayed, from 1. compared: how many of them the run had recorded.
    difference: the first one, none if all is equal. params: whether the exported parameters' hash was compared.
    environment: what differs from the run's env.json. notes: checkpoints that were passed over."""

    first: int
    last: int
    compared: int
    difference: str
    params: bool
    environment: tuple[str, ...]
    notes: tuple[str, ...]


def replay(
    folder: RunFolder, first: int = 1, last: int | None = None, *, devices: int | None = None, quiet: bool = False
) -> Verdict:
    """Replays steps `first` to `last` (none: to the end), from the newest whole checkpoint before them.

    devices: to compute on; none: as the recipe says. Raises UserError where there is no such run, no such step or
    devices, or where labels, data or model changed.
    """
    records, report = _recorded(folder)
    chosen, was = recipe.load(folder.recipe), _read(folder.env)
    if devices is not None:
        chosen = dataclasses.replace(chosen, mesh=dataclasses.replace(chosen.mesh, data=devices))
        recipe.check(chosen)
    resume.take_threads(folder)
    compilation.keep()
    end = max(records)
    if not 1 <= first <= (last or end) <= end:
        raise UserError("--steps", f"{first}:{last or end} is not within the run's steps 1:{end}")
    setup = set_up(chosen)
    _check_data(setup, report)
    begin, state, notes = _start(setup, folder, first - 1)
    with Progress(last or end, start_step=begin, quiet=quiet) as progress:
        steps = _steps(setup, begin, state, last or end, progress)
        compared, difference, params = 0, "", False
        for done, info, digest, params_now in steps:
            if done >= first and done in records:
                compared += 1
                difference = _differs(done, info, digest, records[done])
            if not difference and report and done == (report["best_step"] or report["steps"]):
                params = True
                sha256 = params_sha256(params_now())
                if sha256 != report["params_sha256"]:
                    difference = f"the parameters of step {done} have sha256 {sha256}, not {report['params_sha256']}"
            if difference:
                break
    return Verdict(begin + 1, done, compared, difference, params, tuple(_changes(was, environment())), notes)


def _recorded(folder: RunFolder) -> tuple[dict[int, Tree], Tree]:
    """Step -> its record in metrics.jsonl; and report.json, empty for an unfinished run."""
    if not (folder.holds_run and folder.recipe.is_file()):
        raise UserError(str(folder.path), "holds no run", "name the folder that a run wrote (`out` in its recipe)")
    records = {record["step"]: record for record in folder.records() if record["kind"] == "train"}
    if not records:
        raise UserError(str(folder.path), "the run has no recorded step yet", "let it run")
    return records, _read(folder.report_json) if folder.finished else {}


def _read(path: Any) -> Tree:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(str(path), f"cannot be read: {error}") from None


def _check_data(setup: Setup, report: Tree) -> None:
    """Raises UserError for data that are not the finished run's; its checkpoints, which tell more, may be gone."""
    was = report["data"]["sha256"] if report else {}
    for split, examples in setup.corpus.splits.items():
        if was.get(split, examples.sha256) != examples.sha256:
            what = f"the data changed since the run: sha256 was {was[split]}, now {examples.sha256}"
            raise UserError(f"data.{split}", what, "restore it")


def _start(setup: Setup, folder: RunFolder, latest: int) -> tuple[int, State, tuple[str, ...]]:
    """The newest whole checkpoint of at most `latest` steps, or the beginning.

    Raises UserError where labels, data or model are not those of the checkpoints.
    """
    optimiser = Stepper(setup, Progress(0, quiet=True)).optimiser
    initial = jax.tree.map(np.asarray, step.init(setup.split()[0], optimiser))
    store, where, notes, identity = Store(folder.checkpoints), str(folder.path), [], None
    for number in reversed(store.steps()):
        try:
            saved = store.load(number)
        except Damaged as damaged:
            notes.append(f"{damaged}; it is passed over")
            continue
        resume.check_format(saved, where)
        if identity is None:
            identity, problems = resume.identify(setup), Problems()
            for what, told in resume.changed_inputs(saved.facts["identity"], identity, where):
                problems.add(what, told, "restore it")
            problems.raise_if_any()
        if number <= latest:
            return number, resume.restored(saved, initial, where), tuple(notes)
    return 0, initial, tuple(notes)


def _steps(
    setup: Setup, begin: int, state: State, last: int, progress: Progress
) -> Iterator[tuple[int, Info, Callable[[], str], Callable[[], Tree]]]:
    """Yields (steps done, what the step told, and when called, digest and whole parameters)."""
    stepper = Stepper(setup, progress)
    frozen = setup.split()[1]
    now = stepper.place(state)
    with Prefetch(setup.batches().make, range(begin, last)) as batches:
        for batch in batches:
            now, info = stepper(now, batch)
            done, trainable = batch.step + 1, now.trainable
            progress.step(done, np.asarray(info.loss).item(), batch.real_tokens)

            def params(done: int = done, trainable: Any = trainable) -> Tree:
                return setup.partition.whole(setup.widen(layers.to_host(trainable), done), frozen)

            yield done, info, partial(stepper.digest, trainable), params


def _differs(done: int, info: Info, digest: Callable[[], str], record: Tree) -> str:
    """What of a step is not as recorded; empty if nothing."""
    now: Tree = {"loss": np.asarray(info.loss).item(), "grad_norm": float(info.grad_norm)}
    if "digest" in record:
        now["digest"] = digest()
    told = [f"{name} {value}, recorded {record[name]}" for name, value in now.items() if value != record[name]]
    return f"step {done} is the first that differs: {'; '.join(told)}" if told else ""


def _changes(was: Tree, now: Tree) -> Iterator[str]:
    for key, old, new in resume.differences({k: was.get(k) for k in EXPLAINS}, {k: now.get(k) for k in EXPLAINS}):
        if key != f"flags.{cpu_threads.VARIABLE}":  # which this process sets itself: cpu_threads tells what came of it
            yield f"{key} was {old}, is {new}"
