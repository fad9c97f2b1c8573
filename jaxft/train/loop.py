"""The training loop, as a straight story: batch, step, log, evaluate, keep the best, stop."""

from __future__ import annotations

import time
from collections import deque
from typing import Any, NamedTuple

from jaxft.data.batches import StepBatch
from jaxft.data.prefetch import Prefetch
from jaxft.errors import UserError
from jaxft.evaluate.predict import Predictions, Predictor
from jaxft.evaluate.score import Scored, score
from jaxft.report.progress import Progress
from jaxft.report.run_folder import RunFolder
from jaxft.train.clock import Clock
from jaxft.train.interrupt import Watch
from jaxft.train.log import Log, Taken
from jaxft.train.saver import Saver
from jaxft.train.setup import Setup
from jaxft.train.step import State
from jaxft.train.stepper import Stepper

DIGEST_EVERY = 10
"""Steps between digests of the parameters in metrics.jsonl (canonical numerics); one takes as long as reading them."""


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


def fit(setup: Setup, folder: RunFolder, progress: Progress, evaluator: Evaluator, clock: Clock) -> Fitted:
    """Trains from the folder's newest whole checkpoint, or from the setup's parameters, to the best parameters.

    Raises UserError where the loss stops being a number, and Interrupted, after a save, where a signal asked for it.
    """
    train, num_steps = setup.recipe.train, setup.num_steps
    trainable, frozen = setup.split()
    stepper = Stepper(setup, progress)
    log = Log(setup, folder, progress)
    saver = Saver(setup, folder, clock, log)
    start = saver.start(stepper.optimiser, trainable)
    stopping, done = start.stopping, start.step
    batches = setup.batches()
    ahead = range(done, done if stopping.should_stop else num_steps)
    eval_every, pending = train.eval_every or setup.steps_per_epoch, deque[Taken]()
    canonical = setup.recipe.numerics == "canonical"

    with Watch(log.interrupted) as watch, Prefetch(batches.make, ahead) as prefetched:
        expected = _rehearse(stepper, start.state, batches.make(done)) if ahead and canonical else None
        state = stepper.place(start.state)
        first = start.step + 1
        del start  # its arrays would stay on the host for as long as the run
        since, before_compile = time.perf_counter(), stepper.compile_s
        for batch in prefetched:
            state, info = stepper(state, batch)
            if expected is not None:
                expected = _compare(expected, stepper.digest(state))
            done = batch.step + 1
            digest = stepper.digest(state.trainable) if canonical and done % DIGEST_EVERY == 0 else None
            pending.append(Taken(batch, info, digest))
            if len(pending) > 1:  # the device is busy with this step: look at the one before
                log.took(pending.popleft())
            saver.tell_failure()
            clock.count(batch)
            if done == first:
                log.took(pending.popleft())
                clock.first_step_s = clock.session_s
            evaluates = done % eval_every == 0 or done == num_steps
            if not (evaluates or saver.is_due(done, evaluates) or watch.number):
                continue
            while pending:
                log.took(pending.popleft())
            clock.train_s += time.perf_counter() - since - (stepper.compile_s - before_compile)
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
            del host
            if stopping.should_stop:
                break
            since, before_compile = time.perf_counter(), stepper.compile_s

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
        compile_s=stepper.compile_s,
        input_stall_s=prefetched.stall_s,
        checkpoint_stall_s=saver.stall_s,
        num_devices=stepper.mesh.size,
        shapes=stepper.shapes,
        warnings=tuple(log.warnings),
    )


def _rehearse(stepper: Stepper, initial: State, batch: StepBatch) -> str:
    """Digest of the state after the first step, which is taken once more in earnest."""
    state, _ = stepper(stepper.place(initial), batch)
    stepper.digest(state.trainable)  # compiled now rather than in the middle of the run
    return stepper.digest(state)


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
        return self.judge(split, self.predict(split, params))

    def predict(self, split: str, params: Any) -> Predictions:
        """What the network says of a split."""
        setup, examples = self._setup, self._setup.corpus.splits[split]
        num_words = [len(text) for text in examples.texts] if examples.is_tagged else []
        return self._predictor(params, setup.datasets[split], setup.widths, num_words)

    def judge(self, split: str, predictions: Predictions) -> Scored:
        """The scores of predictions, which must be numbers."""
        return score(self._setup.task, self._setup.corpus.splits[split], predictions, self._setup.labels)
