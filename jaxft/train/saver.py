"""Checkpoints of the training loop: when they are due, what they cost, and what is said when one fails."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from jaxft import recipe
from jaxft.checkpoint.store import Snapshot, Store
from jaxft.errors import UserError
from jaxft.report.run_folder import RunFolder
from jaxft.train import layers, resume
from jaxft.train.clock import Clock
from jaxft.train.interrupt import Interrupted
from jaxft.train.log import Log
from jaxft.train.partition import Flat
from jaxft.train.resume import Start
from jaxft.train.setup import Setup
from jaxft.train.step import Initial, State


class Saver:
    """Finds where a run goes on, and saves it. stall_s: seconds that training stood still for it."""

    def __init__(self, setup: Setup, folder: RunFolder, clock: Clock, log: Log) -> None:
        self._setup, self._folder, self._clock, self._log = setup, folder, clock, log
        self._store = Store(folder.checkpoints, keep=setup.recipe.train.keep_checkpoints)
        self._identity = resume.identify(setup)  # now: files that it hashes may change later
        self._best: Snapshot | None = None  # until it is known to be on the disk
        self._safe_best: int | None = None
        self.stall_s = 0.0

    def start(self, optimiser: Initial, trainable: Flat) -> Start:
        """The newest state that is whole; checkpoints, metrics.jsonl and clock are set back to it. Raises UserError."""
        try:
            self._store.clean()
            records = self._folder.records()
            start = resume.find(self._setup, self._store, self._identity, records, optimiser, trainable)
            self._store.drop_after(start.step)  # before their records go: whoever comes after a kill sees the same
        except OSError as error:
            raise UserError(str(self._store.folder), f"cannot be read or cleared: {error}") from None
        self._folder.rewind(start.step)
        self._folder.write_text(self._folder.recipe, recipe.dump(self._setup.recipe))
        for note in start.notes:
            self._log.warn(note)
        self._clock.go_on(start.counts)
        self._safe_best = start.stopping.best_step
        return start

    def is_due(self, done: int, evaluated: bool) -> bool:
        """Whether a checkpoint is due after so many steps, the last of which was followed by an evaluation or not."""
        every = self._setup.recipe.train.save_every
        return evaluated if every is None else done % every == 0 or done == self._setup.num_steps

    def to_host(self, state: State) -> State:
        """A copy that outlives the donation of the state."""
        with self._standing_still():
            return layers.to_host(state)

    def save(self, host: State, done: int, best_step: int | None) -> None:
        """Saves a state in the background, after what metrics.jsonl says about it is on the disk.

        No later checkpoint is of use without the best parameters so far: a failed save of those is tried again first,
        and the best ones before them stay until then.
        """
        with self._standing_still():
            self._folder.sync_metrics()
            saved = resume.snapshot(host, self._setup, self._identity, self._clock.counts(), done)
            if self._best is not None:
                self._secure_best(self._best)
            if best_step == done:
                self._best = saved
            self._store.save(saved, protect=self._protected(best_step))

    def _secure_best(self, best: Snapshot) -> None:
        self.wait()
        if best.step not in self._store.steps():
            self._store.save(best, protect=self._protected(best.step))
            self.wait()
        if best.step in self._store.steps():
            self._best, self._safe_best = None, best.step

    def _protected(self, best_step: int | None) -> set[int]:
        return {step for step in (best_step, self._safe_best) if step is not None}

    @contextlib.contextmanager
    def _standing_still(self) -> Iterator[None]:
        since = time.perf_counter()
        yield
        self.stall_s += time.perf_counter() - since

    def tell_failure(self) -> None:
        """Says what a save that has ended met, if it failed. The next one is tried as if nothing had been."""
        failure = self._store.failure()
        if failure is not None:
            steps = self._store.steps()
            last = f"the last good one is of step {steps[-1]:,}" if steps else "there is none yet"
            self._log.warn(f"a checkpoint could not be written: {failure}; training goes on, {last}")

    def wait(self) -> None:
        """Until nothing is being written."""
        self._store.wait()
        self.tell_failure()

    def finish(self) -> None:
        """Waits for what is being written at the end of training."""
        with self._standing_still():
            self.wait()

    def interrupted(self, done: int, number: int) -> Interrupted:
        """What ends a run that a signal stopped after so many steps."""
        self.wait()
        steps, total = self._store.steps(), self._setup.num_steps
        last = steps[-1] if steps else 0
        kept = f"saved in {self._folder.path}" if last == done else f"the last checkpoint is of step {last:,}"
        message = f"interrupted after step {done:,} of {total:,}; {kept}: the same command goes on from there"
        return Interrupted(message, number)
