"""Going on with a run: what a checkpoint holds, whose it is, and from which one a run goes on.

A checkpoint holds the trainable parameters, the optimiser's state, integers and seeds. Everything else is a function of
the recipe and of the step's number: batches, dropout, learning rate. Which evaluation was the best so far is read off
metrics.jsonl, its parameters off the checkpoint of its step.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

from jaxft import cpu_threads, recipe
from jaxft.checkpoint.store import Damaged, Snapshot, Store
from jaxft.errors import Problems, UserError
from jaxft.report.env import cpu_name
from jaxft.report.run_folder import RunFolder
from jaxft.train import step
from jaxft.train.clock import Counts
from jaxft.train.hashes import params_sha256
from jaxft.train.partition import Flat
from jaxft.train.setup import Setup
from jaxft.train.step import Initial, State
from jaxft.train.stop import EarlyStopping

FORMAT = 1
MAY_CHANGE = ("out", "mesh.", "train.save_every", "train.keep_checkpoints")
MAY_CHANGE += ("data.train", "data.dev", "data.test", "data.search")
"""Keys of the recipe that decide no bit of the result: data may lie elsewhere, its contents are compared."""
CONFUSION = "noise.label_confusion"
NO_PROMISE = "the result's bits are promised for one and the same of these"

Tree = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Start:
    """Where a run goes on: after `step` steps. state: host arrays. notes: what was passed over, and why."""

    step: int
    state: State
    stopping: EarlyStopping
    counts: Counts = field(default_factory=Counts)
    notes: tuple[str, ...] = ()


# --- whose checkpoint it is ------------------------------------------------------------------------------------------


def identify(setup: Setup) -> Tree:
    """What must agree before a checkpoint is taken up: recipe, labels, data, model; and where it was computed."""
    return {
        "recipe": recipe.to_tree(setup.recipe),
        "labels": list(setup.labels),
        "data": {name: examples.sha256 for name, examples in setup.corpus.splits.items()} | _files(setup),
        "model": params_sha256(setup.params),
        "place": place(),
    }


def place() -> Tree:
    """What a result's bits hang on beside the recipe and the data."""
    import jaxlib

    device = jax.devices()[0]
    return {
        "platform": device.platform,
        "device": device.device_kind,
        "cpu_threads": cpu_threads.in_use(),
        "cpu": cpu_name() if device.platform == "cpu" else None,
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
    }


def _files(setup: Setup) -> dict[str, str]:
    """Hashes of what else decides the data: the tokens that the tokenizer gives, and a confusion matrix."""
    tokens = {"tokens": hashlib.sha256(setup.datasets["train"].encoded.tokens.tobytes()).hexdigest()}
    path = setup.recipe.noise.label_confusion
    return tokens if path is None else tokens | {CONFUSION: hashlib.sha256(Path(path).read_bytes()).hexdigest()}


def check_identity(saved: Tree, now: Tree, where: str) -> list[str]:
    """Raises one UserError that names everything in which this run is another one than the checkpoint's.

    A result's bits are promised for one place (device, threads, jaxlib) only: another one is an error under canonical
    numerics, and else a note, which is returned.
    """
    problems, notes = Problems(), []
    for key, old, new in differences(saved["recipe"], now["recipe"]):
        if not key.startswith(MAY_CHANGE) and (key, new) != ("numerics", "fast"):
            fix = f"set it to {_shown(old)}, or start anew with `--overwrite`"
            problems.add(key, f"is {_shown(new)}, but the unfinished run in {where} has {_shown(old)}", fix)
    for what, told in changed_inputs(saved, now, where):
        problems.add(what, told, "restore it, or start anew with `--overwrite`")
    for name, old, new in differences(saved["place"], now["place"]):
        what = f"the run in {where} was computed with {name} {old}, this is {new}; {NO_PROMISE}"
        if now["recipe"]["numerics"] == "canonical":
            fix = f"set NPROC={old}, with no more devices" if name == "cpu_threads" else "go on where it began"
            problems.add("topology", what, f"{fix}, or go on without the promise: `--numerics fast`")
        else:
            notes.append(what)
    problems.raise_if_any()
    return notes


def changed_inputs(saved: Tree, now: Tree, where: str) -> Iterator[tuple[str, str]]:
    """(name, what became of it) of labels, data and model that are not those of the run in `where`."""
    since = f"changed since the run in {where} began"
    if saved["labels"] != now["labels"]:
        yield "label map", f"{since}: it had {_shown(saved['labels'])}, now {_shown(now['labels'])}"
    for name, old, new in differences(saved["data"], now["data"]):
        key = name if name == CONFUSION else f"data.{name}"
        yield key, f"the data {since} (sha256 {_short(old)}, now {_short(new)})"
    if saved["model"] != now["model"]:
        yield "model", f"the initial parameters {since}"


def differences(saved: Any, now: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(key, value in `saved`, value in `now`) of the leaves of nested dicts that differ."""
    if isinstance(saved, dict) and isinstance(now, dict):
        for key in dict.fromkeys([*saved, *now]):
            yield from differences(saved.get(key), now.get(key), f"{prefix}.{key}".lstrip("."))
    elif saved != now:
        yield prefix, saved, now


def check_recipe(unfinished: Any, chosen: Any, where: str) -> None:
    """Raises UserError naming the keys in which the recipe differs from the one of an unfinished run."""
    empty: Tree = {"labels": [], "data": {}, "model": "", "place": {}}
    saved, now = ({**empty, "recipe": recipe.to_tree(one)} for one in (unfinished, chosen))
    check_identity(saved, now, where)


def take_threads(folder: RunFolder) -> None:
    """Gives XLA:CPU the thread pool that the run in the folder began with, if it is known and none was chosen."""
    with contextlib.suppress(OSError, ValueError):  # no env.json yet, or half of one
        threads = json.loads(folder.env.read_text("utf-8")).get("cpu_threads")
        if threads:
            cpu_threads.pin(threads)


def _shown(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return "null" if value is None else text


def _short(digest: Any) -> str:
    return str(digest)[:12]


# --- what it holds ---------------------------------------------------------------------------------------------------


def check_format(saved: Snapshot, where: str) -> None:
    """Raises UserError for a checkpoint of a jaxft that saved something else."""
    if saved.facts.get("format") != FORMAT:
        what = f"its checkpoints have format {saved.facts.get('format')}, this jaxft reads {FORMAT}"
        raise UserError(where, what, "use the version in env.json, or start anew with `--overwrite`")


def snapshot(state: State, setup: Setup, identity: Tree, counts: Counts, done: int) -> Snapshot:
    """A state, on the host, after `done` steps."""
    facts = {
        "format": FORMAT,
        "step": done,
        "epoch": done // setup.steps_per_epoch,
        "position": done % setup.steps_per_epoch * setup.recipe.train.batch_size,
        "seeds": recipe.stream_seeds(setup.recipe),
        **dataclasses.asdict(counts),
        "identity": identity,
    }
    return Snapshot(done, named(state), facts)


def named(state: Any) -> dict[str, Any]:
    """Leaves by name, such as `trainable/encoder/embeddings/word` and `optimiser/0/mu/encoder/embeddings/word`."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return {"/".join(_parts(path)): leaf for path, leaf in leaves}


def _parts(path: Iterable[Any]) -> Iterator[str]:
    for key in path:
        part = getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))
        yield "/".join(part) if isinstance(part, tuple) else str(part)


def restored(saved: Snapshot, initial: T, where: str) -> T:
    """A snapshot's arrays in the structure of `initial`; UserError naming the first arrays that do not fit it."""
    wanted = named(initial)
    told = [f"{name} is missing" for name in wanted if name not in saved.arrays]
    told += [f"{name} has no place" for name in saved.arrays if name not in wanted]
    for name in wanted.keys() & saved.arrays.keys():
        old, new = saved.arrays[name], wanted[name]
        if (old.shape, old.dtype) != (np.shape(new), new.dtype):
            told.append(f"{name} is {old.dtype} {old.shape}, expected {new.dtype} {np.shape(new)}")
    if told:
        what = f"does not fit this model and optimiser: {'; '.join(sorted(told)[:3])} ({len(told)} in all)"
        raise UserError(where, what, "start anew with `--overwrite`")
    _, structure = jax.tree.flatten(initial)
    return jax.tree.unflatten(structure, [saved.arrays[name] for name in wanted])


# --- where to go on --------------------------------------------------------------------------------------------------


def find(
    setup: Setup,
    store: Store,
    identity: Tree,
    records: list[Tree],
    optimiser: Initial,
    trainable: Flat,
) -> Start:
    """The newest checkpoint that is whole, and whose best parameters so far are; else the beginning.

    identity: of this run. records: of metrics.jsonl. Raises UserError where the checkpoints belong to another run.
    """
    initial = jax.tree.map(np.asarray, step.init(trainable, optimiser))
    notes: list[str] = []
    for number in reversed(store.steps()):
        try:
            saved = store.load(number)
            where = str(store.folder)
            check_format(saved, where)
            notes += check_identity(saved.facts["identity"], identity, where)
            state = restored(saved, initial, where)
            stopping = stopping_at(number, setup, records)
            if stopping.best_step == number:
                stopping.best_params = state.trainable
            elif stopping.best_step is not None:
                best = restored(store.load(stopping.best_step), initial, where)
                stopping.best_params = best.trainable
        except Damaged as damaged:
            of_the_best = "" if damaged.step == number else f" for want of the best parameters, of step {damaged.step}"
            notes.append(f"the checkpoint of step {number} is passed over{of_the_best}: {damaged}")
            continue
        counts = Counts(**{f.name: saved.facts[f.name] for f in dataclasses.fields(Counts)})
        return Start(number, state, stopping, counts, tuple(notes))
    return Start(0, initial, stopping_at(0, setup, []), notes=tuple(notes))


def stopping_at(number: int, setup: Setup, records: list[Tree]) -> EarlyStopping:
    """Early stopping as it stood after a step, without the best parameters."""
    train = setup.recipe.train
    stopping = EarlyStopping(train.stop_metric or setup.task.default_metric, train.patience)
    for record in records:
        if record["kind"] == "eval" and record["split"] == "dev" and 0 < record["step"] <= number:
            stopping.observe(record["step"], scores_of(record), None)
    return stopping


def scores_of(record: Tree) -> dict[str, float]:
    """The scores of an evaluation's record, with what is no number as JSON has it."""
    return {
        name: float(record["scores"].get(f"{name}_is", "nan")) if value is None else value
        for name, value in record["scores"].items()
        if not name.endswith("_is")
    }
