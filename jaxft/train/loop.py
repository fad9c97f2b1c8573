"""The training loop, as a straight story: batch, step, log, evaluate, keep the best, stop."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxft import prng, recipe
from jaxft.data.batches import StepBatch, TrainBatches
from jaxft.data.prefetch import Prefetch
from jaxft.errors import UserError
from jaxft.evaluate.predict import Predictor
from jaxft.evaluate.score import Scored, score
from jaxft.mesh import devices
from jaxft.report.progress import Progress
from jaxft.report.run_folder import RunFolder
from jaxft.train import optim, step
from jaxft.train.compiled import Compiled, Info
from jaxft.train.interrupt import Watch
from jaxft.train.partition import Flat
from jaxft.train.resume import Counts, Start
from jaxft.train.saver import Saver
from jaxft.train.setup import Setup

DIGEST_EVERY = 10
"""Steps between digests of the parameters in metrics.jsonl (canonical numerics); one takes as long as reading them."""


@dataclass
class Clock:
    """Seconds of a run by what they were spent on, and the tokens that training saw."""

    started: float = field(default_factory=time.perf_counter)
    first_step_s: float = 0.0
    train_s: float = 0.0
    real_tokens: int = 0
    padded_tokens: int = 0
    before_s: float = 0.0
    """Of the run before it was interrupted."""

    @property
    def session_s(self) -> float:
        return time.perf_counter() - self.started

    @property
    def wall_s(self) -> float:
        return self.before_s + self.session_s

    def count(self, batch: StepBatch) -> None:
        """Adds a step's tokens."""
        self.real_tokens += batch.real_tokens
        self.padded_tokens += batch.padded_tokens

    def counts(self) -> Counts:
        """What a checkpoint holds of it."""
        return Counts(self.real_tokens, self.padded_tokens, round(1000 * self.train_s), round(1000 * self.wall_s))

    def go_on(self, counts: Counts) -> None:
        """Starts from what an interrupted run had counted."""
        self.real_tokens, self.padded_tokens = counts.real_tokens, counts.padded_tokens
        self.train_s, self.before_s = counts.train_ms / 1000, counts.wall_ms / 1000


class Fitted(NamedTuple):
    """params: the best ones, as loaded, numpy. steps: taken. best_step: none without a dev set. warnings: what the run
    has to tell beside its result."""

    params: dict[str, Any]
    steps: int
    best_step: int | None
    stopped_early: bool
    clock: Clock
    compile_s: float
    input_stall_s: float
    checkpoint_stall_s: float
    num_devices: int
    shapes: tuple[tuple[int, ...], ...]
    warnings: tuple[str, ...]


class _Pending(NamedTuple):
    batch: StepBatch
    info: Info
    digest: str | None


def fit(setup: Setup, folder: RunFolder, progress: Progress, evaluator: Evaluator, clock: Clock) -> Fitted:
    """Trains from the folder's newest whole checkpoint, or from the setup's parameters, to the best parameters.

    Raises UserError where the loss stops being a number, and Interrupted, after a save, where a signal asked for it.
    """
    train, num_steps = setup.recipe.train, setup.num_steps
    optimiser = optim.make(setup.recipe.optim, num_steps)
    trainable, frozen = setup.split()
    compiled = compiled_of(setup, optimiser, progress)
    constants = compiled.place(constants_of(setup, frozen))
    log = Log(setup, folder, progress)
    saver = Saver(setup, folder, clock, log)
    start = saver.start(optimiser, trainable)
    stopping, done = start.stopping, start.step
    batches = setup.batches()
    ahead = range(done, done if stopping.should_stop else num_steps)
    eval_every, pending = train.eval_every or setup.steps_per_epoch, deque[_Pending]()
    canonical = setup.recipe.numerics == "canonical"

    with Watch(log.interrupted) as watch, Prefetch(batches.make, ahead) as prefetched:
        expected = _rehearse(compiled, start, batches, constants) if ahead and canonical else None
        state = compiled.place(start.state)
        since, before_compile = time.perf_counter(), compiled.compile_s
        for batch in prefetched:
            state, info = compiled(state, batch.arrays, batch.epoch, constants)
            if expected is not None:
                expected = _compare(expected, compiled.digest(state))
            done = batch.step + 1
            digest = compiled.digest(state.trainable) if canonical and done % DIGEST_EVERY == 0 else None
            pending.append(_Pending(batch, info, digest))
            if len(pending) > 1:  # the device is busy with this step: look at the one before
                log.took(pending.popleft())
            saver.tell_failure()
            clock.count(batch)
            if done == start.step + 1:
                log.took(pending.popleft())
                clock.first_step_s = clock.session_s
            evaluates = done % eval_every == 0 or done == num_steps
            if not (evaluates or saver.is_due(done, evaluates) or watch.number):
                continue
            while pending:
                log.took(pending.popleft())
            clock.train_s += time.perf_counter() - since - (compiled.compile_s - before_compile)
            host = saver.to_host(state)
            best = False
            if evaluates and evaluator.has_dev:
                scores = evaluator.scores("dev", setup.partition.join(setup.widen(host.trainable, done), frozen))
                best = stopping.observe(done, scores, host.trainable)
                log.evaluated(done, scores, best)
            signal = watch.number
            if best or signal or saver.is_due(done, evaluates):
                saver.save(host, done, stopping.best_step)
            if signal:
                raise saver.interrupted(done, signal)
            if stopping.should_stop:
                break
            since, before_compile = time.perf_counter(), compiled.compile_s

    if watch.number:
        raise saver.interrupted(done, watch.number)
    saver.finish()
    final = saver.to_host(state).trainable if stopping.best_params is None else stopping.best_params
    return Fitted(
        params=setup.partition.whole(setup.widen(final, stopping.best_step or done), frozen),
        steps=done,
        best_step=stopping.best_step,
        stopped_early=stopping.should_stop and done < num_steps,
        clock=clock,
        compile_s=compiled.compile_s,
        input_stall_s=prefetched.stall_s,
        checkpoint_stall_s=saver.stall_s,
        num_devices=compiled.mesh.size,
        shapes=compiled.shapes,
        warnings=tuple(log.warnings),
    )


def compiled_of(setup: Setup, optimiser: Any, progress: Progress) -> Compiled:
    """The steps of a run on its devices."""
    train = setup.recipe.train
    made = step.make(setup.model(training=True), setup.task, optimiser, setup.partition, train.label_smoothing)
    mesh = devices.choose(setup.recipe.mesh.data, train.micro_batches)
    if mesh.size < len(jax.devices()):
        told = f"{mesh.size} of {len(jax.devices())} devices compute(s): train.micro_batches is {train.micro_batches}"
        progress.message(f"{told}, mesh.data {setup.recipe.mesh.data}")
    return Compiled(made, mesh, numerics=setup.recipe.numerics, on_compile=progress.compiling)


def _rehearse(compiled: Compiled, start: Start, batches: TrainBatches, constants: step.Constants) -> str:
    """Digest of the state after the first step, which is taken once more in earnest."""
    batch = batches.make(start.step)
    state, _ = compiled(compiled.place(start.state), batch.arrays, batch.epoch, constants)
    compiled.digest(state.trainable)  # compiled now rather than in the middle of the run
    return compiled.digest(state)


def _compare(expected: str, came: str) -> None:
    """Raises UserError where the first step, taken twice, gave two results."""
    if came != expected:
        what = f"the same step gave other bits the second time (digests {expected} and {came})"
        fix = "on a GPU, XLA_FLAGS=--xla_gpu_deterministic_ops=true; or `--numerics fast`, which promises no bits"
        raise UserError("numerics: canonical", what, fix)


class Evaluator:
    """Scores parameters on the splits of a setup."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        multi_label = setup.recipe.data.multi_label
        self._predictor = Predictor(setup.model(training=False), setup.task, multi_label=multi_label)

    @property
    def has_dev(self) -> bool:
        return "dev" in self._setup.datasets

    def scores(self, split: str, params: Any) -> dict[str, float]:
        return self.score(split, params).scores

    def score(self, split: str, params: Any) -> Scored:
        """params: joined as the partition has them."""
        setup, examples = self._setup, self._setup.corpus.splits[split]
        num_words = [len(text) for text in examples.texts] if examples.is_tagged else []
        predictions = self._predictor(params, setup.datasets[split], setup.widths, num_words)
        return score(setup.task, examples, predictions, setup.labels)


class Log:
    """Takes what steps tell: to the progress display, to metrics.jsonl, and to a halt where a loss is no number.

    warnings: what the user was warned of while training.
    """

    def __init__(self, setup: Setup, folder: RunFolder, progress: Progress) -> None:
        self._setup, self._folder, self._progress = setup, folder, progress
        self._learning_rate: Any = optim.schedule(setup.recipe.optim, setup.num_steps)
        self.warnings: list[str] = []

    def took(self, pending: _Pending) -> None:
        """One finished step."""
        batch, info, done = pending.batch, pending.info, pending.batch.step + 1
        loss, norm = np.asarray(info.loss).item(), float(info.grad_norm)
        if not (np.isfinite(loss) and np.isfinite(norm)):
            raise _not_finite(self._setup, batch, info, loss, norm)
        self._progress.step(done, loss, batch.real_tokens)
        if done % self._setup.recipe.train.log_every == 0 or done in (1, self._setup.num_steps):
            rate = float(self._learning_rate(batch.step))
            record = {"kind": "train", "step": done, "epoch": batch.epoch, "loss": loss, "learning_rate": rate}
            told: dict[str, Any] = {"grad_norm": norm, "real_tokens": batch.real_tokens}
            self._folder.log(record | told | ({"digest": pending.digest} if pending.digest else {}))

    def warn(self, text: str) -> None:
        """Shows a warning, and keeps it for the report."""
        self._progress.message(f"warning: {text}")
        self.warnings.append(text)

    def interrupted(self, name: str) -> None:
        """A signal came."""
        self._progress.message(f"{name}: stopping after this step; once more stops at once, without saving")

    def evaluated(self, done: int, scores: dict[str, float], best: bool) -> None:
        """One evaluation on dev."""
        self._progress.evaluated(done, scores, "dev", best)
        self._folder.log({"kind": "eval", "step": done, "split": "dev", "scores": scores, "best": best})


def constants_of(setup: Setup, frozen: Flat) -> step.Constants:
    """What the steps of a run read, on the host."""
    words = prng.stream("dropout", recipe.stream_seeds(setup.recipe)["dropout"])
    weights = setup.class_weights()
    return step.Constants(frozen, prng.device_words(words), None if weights is None else jnp.asarray(weights))


def _not_finite(setup: Setup, batch: StepBatch, info: Info, loss: float, norm: float) -> UserError:
    """Names the step and the examples whose own loss is not a number."""
    finite = info.all_finite()
    fix = "lower optim.learning_rate, check the data named here"
    if finite.all():
        return UserError(f"step {batch.step + 1}", f"the loss is {loss}, the gradient's norm {norm}", fix)
    example = batch.arrays["example"]
    if finite.shape != example.shape:  # one loss an example: at its first token
        example = np.take_along_axis(example, batch.arrays["firsts"], axis=-1)
    bad = sorted({int(number) for number in example[~finite]})
    examples = setup.corpus.splits["train"]
    named = ", ".join(examples.where[number] for number in bad[:5]) + (" ..." if len(bad) > 5 else "")
    what = f"the loss of {len(bad)} of {len(batch.examples)} examples is not a number: {named} (examples {bad[:5]})"
    return UserError(f"step {batch.step + 1}", what, fix)
