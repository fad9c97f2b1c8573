"""The run folder: which file of a run lies where, and writing it so that a crash leaves nothing half-written.

    recipe.yaml    the resolved recipe              report.json    the results; a run is finished iff it exists
    env.json       versions, devices, flags         report.md      the same for people, with the *.png beside it
    metrics.jsonl  one JSON record a line           model/         the exported model
    checkpoints/   states to resume from

`metrics.jsonl` is made first, so a folder holds a run iff it has one. Its records have a `kind`:

    {"kind": "train", "step": 10, "loss": 0.41, "learning_rate": 5e-05, ...}        each `train.log_every` steps
    {"kind": "eval", "step": 44, "split": "dev", "scores": {"accuracy": 0.97, "loss": 0.1, ...}, ...}

JSON knows no NaN and no infinity: such a number is written as null, and a second key, named `<key>_is`, says what it
was: {"loss": null, "loss_is": "nan"}. Lists do the same with one word for their first such number.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxft import disk
from jaxft.errors import UserError

OWN_FILES = ("recipe.yaml", "env.json", "metrics.jsonl", "report.json", "report.md")
OWN_FOLDERS = ("checkpoints", "model")
LOCK = ".lock"
PLOTS = ("learning_curves.png", "confusion.png", "calibration.png", "lengths.png")


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """Paths and files of one run. Making the object touches no file; `create` does."""

    path: Path

    def __init__(self, path: str | Path) -> None:
        object.__setattr__(self, "path", Path(path))

    @property
    def recipe(self) -> Path:
        return self.path / "recipe.yaml"

    @property
    def env(self) -> Path:
        return self.path / "env.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def report_json(self) -> Path:
        return self.path / "report.json"

    @property
    def report_md(self) -> Path:
        return self.path / "report.md"

    @property
    def model(self) -> Path:
        return self.path / "model"

    def plot(self, name: str) -> Path:
        """Path of the plot `name` (one of PLOTS, without the ending)."""
        return self.path / f"{name}.png"

    # --- the state of the folder -----------------------------------------------------------------------------------

    @property
    def holds_run(self) -> bool:
        """Whether a run, finished or not, was started here."""
        return self.metrics.is_file()

    @property
    def finished(self) -> bool:
        return self.report_json.is_file()

    @property
    def resumable(self) -> bool:
        """Whether a run was started here and did not finish."""
        return self.holds_run and not self.finished

    def create(self, *, overwrite: bool = False, resume: bool = False) -> RunFolder:
        """Makes the folder, ready for a run; gives itself back.

        overwrite: removes the run that is there: its own files and folders, no others.
        resume: keeps an unfinished run.
        Raises UserError on a finished run, on an unfinished one without `resume`, on files of other origin that a run
        would write over, and on a path that cannot be made. Nothing is removed or written then.
        """
        where = str(self.path)
        if self.path.exists() and not self.path.is_dir():
            raise UserError(where, "is a file, expected a folder for the run", "name another folder with `--out`")
        if self.holds_run and not overwrite and not (resume and self.resumable):
            state = "a finished run" if self.finished else "an unfinished run"
            raise UserError(where, f"already holds {state}", "name another folder with `--out`, or pass `--overwrite`")
        taken = [name for name in (*OWN_FILES, *OWN_FOLDERS) if (self.path / name).exists()]
        if taken and not self.holds_run:
            what = f"holds {', '.join(taken)}, which a run would write over, but no run"
            raise UserError(where, what, "name another folder with `--out`")
        try:
            if self.holds_run and overwrite:
                self._remove_run()
            self.path.mkdir(parents=True, exist_ok=True)
            self._sweep()
            self.metrics.touch()
            self.rewind(math.inf)  # a torn last line would spoil the next record
        except OSError as error:
            raise UserError(where, f"cannot be written: {error}", "name another folder with `--out`") from None
        return self

    def _remove_run(self) -> None:
        """Removes what a run writes. A stop half-way leaves an unfinished run that has recorded nothing."""
        self.report_json.unlink(missing_ok=True)
        self.write_text(self.metrics, "")
        for name in (*PLOTS, *OWN_FILES):
            if name != self.metrics.name:
                (self.path / name).unlink(missing_ok=True)
        for name in OWN_FOLDERS:
            if (self.path / name).is_dir():
                shutil.rmtree(self.path / name)
        self.metrics.unlink()

    def _sweep(self) -> None:
        """Removes what kills have left of files half-written."""
        for name in OWN_FILES:
            for path in self.path.glob(f".{name}.*"):
                path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from training into the folder, which must exist, meanwhile.

        Raises UserError where one does, and where the file system knows no locks. The lock ends with the process,
        however that ends.
        """
        where, fix = str(self.path), "wait for it, or name another folder with `--out`"
        with open(self.path / LOCK, "w", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(where, "another process is training into it", fix) from None
            except OSError as error:
                raise UserError(where, f"cannot be locked: {error}", "name a folder on another disk") from None
            yield

    # --- files -----------------------------------------------------------------------------------------------------

    @staticmethod
    def write_json(path: Path, tree: Any) -> None:
        """Writes `tree` (see `plain`) as indented JSON, all or nothing."""
        RunFolder.write_text(path, json.dumps(plain(tree), indent=2, ensure_ascii=False, allow_nan=False) + "\n")

    @staticmethod
    def write_text(path: Path, text: str) -> None:
        """Writes UTF-8 text, all or nothing: readers see the old file or the whole new one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with open(descriptor, "w", encoding="utf-8", newline="\n") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)  # mkstemp: 0600
            os.replace(temporary, path)
            disk.sync(path.parent)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    # --- metrics.jsonl ---------------------------------------------------------------------------------------------

    def log(self, record: Mapping[str, Any]) -> None:
        """Appends one record to metrics.jsonl; it is in the file when this returns."""
        line = json.dumps(plain(record), ensure_ascii=False, allow_nan=False) + "\n"
        with self._writing(), open(self.metrics, "a", encoding="utf-8", newline="\n") as file:
            file.write(line)

    def sync_metrics(self) -> None:
        """Forces metrics.jsonl to the disk."""
        with self._writing(), open(self.metrics, "rb") as file:
            os.fsync(file.fileno())

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """UserError where the disk is full or fails."""
        try:
            yield
        except OSError as error:
            fix = "make room; the same command then goes on from the last checkpoint"
            raise UserError(str(self.metrics), f"cannot be written: {error}", fix) from None

    def records(self) -> list[dict[str, Any]]:
        """The records of metrics.jsonl, in order. A torn last line (the run was killed while writing) is left out;
        any other broken line is a UserError."""
        return list(self._read_records())

    def _read_records(self) -> Iterator[dict[str, Any]]:
        if not self.metrics.is_file():
            return
        lines = self.metrics.read_text(encoding="utf-8", errors="replace").split("\n")
        for number, line in enumerate(lines, start=1):
            try:
                if line:
                    yield json.loads(line)
            except json.JSONDecodeError as error:
                if number < len(lines):  # a whole line ends with a line feed, so the last part is torn
                    raise UserError(
                        f"{self.metrics}:{number}", f"is not JSON: {error.msg}", "restore the file"
                    ) from None

    def rewind(self, step: float) -> None:
        """Drops the records after `step`, which a run resumed from that step will write again."""
        kept = [record for record in self.records() if record.get("step", 0) <= step]
        self.write_text(self.metrics, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in kept))


def plain(value: Any) -> Any:
    """`value` as JSON can hold it: dataclasses and mappings to dicts, arrays and tuples to lists, NumPy and JAX scalars
    to numbers, paths to text, NaN and infinity as the module's docstring says. TypeError on anything else."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return _plain_dict(value)
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (str, bool, int)) or value is None:
        return value
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "__array__"):  # NumPy or JAX; bfloat16 has no Python number of its own
        array = np.asarray(value)
        return plain((array if array.dtype.kind in "biuU" else array.astype(np.float64)).tolist())
    raise TypeError(f"cannot write {type(value).__name__} {value!r} as JSON")


def _plain_dict(tree: Mapping[Any, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in tree.items():
        result[str(key)] = plain(value)
        word = _not_finite(value)
        if word:
            result[f"{key}_is"] = word
    return result


def _not_finite(value: Any) -> str:
    """nan, inf or -inf for such a number, or for the first such number of a list or array; else empty."""
    if isinstance(value, (list, tuple)):
        return next((word for word in map(_not_finite, value) if word), "")
    if isinstance(value, (str, bytes, bool, int, Mapping)) or value is None:
        return ""
    if isinstance(value, float) or hasattr(value, "__array__"):
        array = np.asarray(value)
        numbers = array.astype(np.float64).ravel() if array.dtype.kind not in "biuUSO" else np.zeros(0)
        bad = numbers[~np.isfinite(numbers)]
        return str(float(bad[0])) if len(bad) else ""
    return ""
