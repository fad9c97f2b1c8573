"""Checkpoints of a run in one folder: saved in the background, committed by a rename, verified before use.

    checkpoints/
      step_00000200/          committed: whole, and on the disk
        arrays/               values, by orbax, as a few shards (arrays.py)
        facts.json            step, facts, and of each array its name, dtype, shape and place
        manifest.json         SHA-256 of every other file (manifest.py)
      .writing-300-.../       a save under way, or what a killed one left
      .deleting-step_.../     a checkpoint on its way out

A save writes into `.writing-<step>-...`, forces every file and folder to the disk, writes the manifest, renames, and
forces the rename out; only then do older checkpoints go, each renamed before it is taken apart. So whatever stops the
process or the machine, a folder named `step_...` is whole, unless the disk changed it afterwards; `load` sees that.

The manifest holds the hashes of the shards as they were in memory before they were written. The files are compared
with them, and then the shards in memory after they were read: so a write that went wrong unnoticed is seen too, and a
file that changes after it was verified.

Left out: several processes writing into one folder.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import re
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxft import disk
from jaxft.checkpoint import arrays as array_files
from jaxft.checkpoint import manifest

ARRAYS, FACTS = "arrays", "facts.json"
WRITING, DELETING = ".writing-", ".deleting-"
THREADS = 2
"""Shards hashed at a time, beside the writing."""


class Damaged(Exception):
    """A checkpoint that is not exactly what was saved. problems: one line each."""

    def __init__(self, step: int, problems: list[str]) -> None:
        super().__init__(f"checkpoint of step {step} is damaged: " + "; ".join(problems))
        self.step, self.problems = step, problems


@dataclass(frozen=True)
class Snapshot:
    """State of a run after `step` steps.

    arrays: name -> host array, which nobody changes any more; any name, any shape, dtypes of arrays.DTYPES.
    facts: what JSON holds exactly (text keys, lists, no tuples, no NaN).
    """

    step: int
    arrays: dict[str, np.ndarray]
    facts: dict[str, Any]


class Store:
    """The checkpoints in a folder. Of one thread; the saving threads are its own."""

    def __init__(self, folder: Path, *, keep: int = 2) -> None:
        """keep: how many checkpoints stay, at least 1. Touches nothing."""
        if keep < 1:
            raise ValueError(f"keep: expected at least 1 checkpoint, got {keep}")
        self.folder, self.keep = Path(folder), keep
        self._thread: threading.Thread | None = None
        self._failures: deque[Exception] = deque()  # filled by the saving thread, emptied by `failure`
        self._waited_s = 0.0

    def save(self, snapshot: Snapshot, *, protect: Collection[int] = ()) -> None:
        """Starts writing in a thread; waits first for a save still under way.

        Afterwards the last `keep` checkpoints stay, this one, and those of the steps in `protect`; others go. A step
        that is already there is left as it is if it is intact, and replaced if it is damaged.
        Never raises for a failed write, see `failure`; TypeError or ValueError for arrays or facts that cannot be
        saved exactly.
        """
        start = time.perf_counter()
        try:
            self._join()
            array_files.check(snapshot.arrays)
            facts = _exact_json(snapshot.facts)  # now: the caller may change them later
            self._start(snapshot, facts, frozenset(protect))
        finally:
            self._waited_s += time.perf_counter() - start

    def failure(self) -> Exception | None:
        """Why a save failed that ended since the last call (of several the last one); None if none failed.

        The checkpoint may be there all the same: an old one that could not be removed is a failure too.
        """
        failure = None
        while self._failures:
            failure = self._failures.popleft()
        if self._thread is None or not self._thread.is_alive():
            _unsettled.discard(self)
        return failure

    def wait(self) -> None:
        """Returns when nothing is being written."""
        start = time.perf_counter()
        try:
            self._join()
        finally:
            self._waited_s += time.perf_counter() - start

    @property
    def waited_s(self) -> float:
        """Seconds that `save` and `wait` have taken of the caller's time."""
        return self._waited_s

    def steps(self) -> list[int]:
        """Steps of the committed checkpoints, ascending; some may be damaged since."""
        try:
            names = [path.name for path in self.folder.iterdir() if path.is_dir()]
        except FileNotFoundError:
            return []
        found = (int(name.removeprefix("step_")) for name in names if re.fullmatch(r"step_\d{8,}", name))
        return sorted(step for step in found if self._path(step).name in names)

    def drop_after(self, step: int) -> None:
        """Removes the checkpoints of later steps, for a run that starts again from `step`. OSError."""
        self.wait()
        for later in self.steps():
            if later > step:
                self._remove(later)

    def load(self, step: int) -> Snapshot:
        """The checkpoint of one step, bit for bit as it was saved.

        All files are verified first. facts.json and the arrays are then read, and what was read is verified again, in
        memory; so no change between verifying and reading goes unseen. Raises Damaged for everything else; OSError or
        MemoryError where the process itself is out of descriptors or memory.
        """
        folder = self._path(step)
        problems = manifest.problems(folder)
        if problems:
            raise Damaged(step, problems)
        from orbax import checkpoint  # noqa: F401  an orbax that cannot be imported is no damage

        try:
            return _read(folder, step)
        except (Damaged, MemoryError):
            raise
        except Exception as error:
            raise Damaged(step, [f"cannot be read: {type(error).__name__}: {error}"]) from error

    def clean(self) -> None:
        """Removes what killed saves and removals left. Call it once at the start of a run. OSError."""
        self.wait()
        self._sweep()

    # --- the saving thread -----------------------------------------------------------------------------------------

    def _start(self, snapshot: Snapshot, facts: Any, protect: frozenset[int]) -> None:
        thread = threading.Thread(
            target=self._run, args=(snapshot, facts, protect), name="checkpoint", daemon=True
        )  # a daemon, so that a disk that hangs can be left by a second Ctrl-C
        _unsettled.add(self)
        try:
            thread.start()
            self._thread = thread
        except RuntimeError as error:  # no thread to be had
            self._failures.append(error)

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()  # also returns for a thread that died
            self._thread = None

    def _run(self, snapshot: Snapshot, facts: Any, protect: frozenset[int]) -> None:
        try:
            self._save(snapshot, facts, protect)
        except Exception as error:
            self._failures.append(error)
        except BaseException as error:
            self._failures.append(RuntimeError(f"saving stopped: {error!r}"))
        else:
            _unsettled.discard(self)

    def _save(self, snapshot: Snapshot, facts: Any, protect: frozenset[int]) -> None:
        step = snapshot.step
        if not self._holds(step):
            self._make_folder()
            with contextlib.suppress(OSError):
                self._sweep()  # room for this one
            # A new name each time: after a failed save, TensorStore may still be writing other files of it.
            writing = self.folder / f"{WRITING}{step}-{uuid.uuid4().hex}"
            try:
                _write(writing, snapshot, facts)
                if self._path(step).exists():  # damaged
                    self._remove(step)
                disk.rename(writing, self._path(step))
            except BaseException:
                with contextlib.suppress(
                    OSError
                ):  # the first error is the one to tell; what stays, the next save removes
                    disk.remove(writing)
                raise
        else:
            disk.sync(self.folder)  # its rename may have come from a save that failed right after
        self._prune(protect | {step})

    def _holds(self, step: int) -> bool:
        """Whether the checkpoint is there and intact."""
        try:
            return self._path(step).is_dir() and self.load(step).step == step
        except Damaged:
            return False

    def _make_folder(self) -> None:
        if not self.folder.is_dir():
            self.folder.mkdir(parents=True, exist_ok=True)
            disk.sync(self.folder.parent)

    def _sweep(self) -> None:
        """Removes what is neither a checkpoint nor being written; nothing is being written when this is called."""
        if self.folder.is_dir():
            for path in list(self.folder.iterdir()):
                if path.name.startswith((WRITING, DELETING)):
                    disk.remove(path)

    def _prune(self, protect: frozenset[int]) -> None:
        """Removes all but the last `keep` and the protected."""
        for step in self.steps()[: -self.keep]:
            if step not in protect:
                self._remove(step)

    def _remove(self, step: int) -> None:
        """Removes a checkpoint; a half-removed one never bears a checkpoint's name."""
        path = self._path(step)
        deleting = self.folder / f"{DELETING}{path.name}-{uuid.uuid4().hex}"
        disk.rename(path, deleting)
        disk.remove(deleting)

    def _path(self, step: int) -> Path:
        return self.folder / f"step_{step:08d}"


# --- one checkpoint --------------------------------------------------------------------------------------------------


def _write(folder: Path, snapshot: Snapshot, facts: Any) -> None:
    """Writes a checkpoint into a new folder; all of it is on the disk when this returns. The shards are hashed, in
    memory, while they are written and forced out."""
    folder.mkdir()
    shards, places = array_files.pack(snapshot.arrays)
    with ThreadPoolExecutor(THREADS) as pool:
        hashes = pool.map(lambda shard: manifest.Entry(shard.size, manifest.sha256(shard.data)), shards)
        if shards:
            array_files.write(folder / ARRAYS, shards)
        index = {name: asdict(place) for name, place in places.items()}
        tree = {"step": snapshot.step, "facts": facts, "arrays": index}
        disk.write(folder / FACTS, (json.dumps(tree, indent=1, allow_nan=False) + "\n").encode())
        disk.sync_all(folder)
        known = {_shard_file(number): entry for number, entry in enumerate(hashes)}
    manifest.write(folder, manifest.files_of(folder, known))


def _read(folder: Path, step: int) -> Snapshot:
    """Reads a verified checkpoint, and verifies what was read. Raises Damaged, and whatever orbax does."""
    entries = manifest.read(folder)
    data = (folder / FACTS).read_bytes()
    if manifest.sha256(data) != entries[FACTS].sha256:
        raise Damaged(step, [f"{FACTS}: changed while it was read"])
    tree = json.loads(data)
    if tree["step"] != step:
        raise Damaged(step, [f"{FACTS}: is of step {tree['step']}"])
    files = [name for name in (_shard_file(number) for number in range(len(entries))) if name in entries]
    shards = array_files.read(folder / ARRAYS, range(len(files))) if files else []
    with ThreadPoolExecutor(THREADS) as pool:
        found = pool.map(lambda shard: manifest.Entry(shard.nbytes, manifest.sha256(shard.data)), shards)
        wrong = [name for name, entry in zip(files, found, strict=True) if entry != entries[name]]
    if wrong:
        raise Damaged(step, [f"{name}: read other than it was saved" for name in wrong])
    places = {
        name: array_files.Place(place["shard"], place["offset"], place["dtype"], tuple(place["shape"]))
        for name, place in tree["arrays"].items()
    }
    return Snapshot(step, array_files.unpack(shards, places), tree["facts"])


def _shard_file(number: int) -> str:
    return f"{ARRAYS}/{array_files.file_of(number)}"


def _exact_json(facts: dict[str, Any]) -> Any:
    """A copy of `facts` that has been through JSON; ValueError if that changed it (a tuple, a key that is a number)."""
    copy = json.loads(json.dumps(facts, allow_nan=False))
    if copy != facts:
        raise ValueError(f"facts: JSON would change {facts!r} to {copy!r}")
    return copy


# --- the end of the process ------------------------------------------------------------------------------------------

_unsettled: set[Store] = set()
"""With a save under way, or with one that failed and nobody has asked about."""


def finish_saving() -> None:
    """Waits for saves under way, and prints those that failed and that nobody has asked about."""
    for kept in list(_unsettled):
        kept.wait()
        failure = kept.failure()
        if failure is not None:
            print(f"error: {kept.folder}: the last checkpoint was not saved: {failure}", file=sys.stderr)
            print("       call `wait` on its `Store` before the process ends", file=sys.stderr)


# Saving needs thread pools (orbax's too), and Python closes those before it calls what `atexit` holds. What
# `threading` holds it calls first, the last registered first: thus before the pools, imported above, are closed.
# From Python 3.12 on a process that ends starts no thread, and a save that still needs one fails.
getattr(threading, "_register_atexit", atexit.register)(finish_saving)
