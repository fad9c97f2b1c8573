"""The training loop, as a straight story: batch, step, log, evaluate, keep the best, stop."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxft import prng, recipe
from jaxft.data.batches import StepBatch
from jaxft.data.prefetch import Prefetch
from jaxft.errors import UserError
from jaxft.evaluate.predict import Predictor
from jaxft.evaluate.score import Scored, score
from jaxft.report.progress import Progress
from jaxft.report.run_folder import RunFolder
from jaxft.train import optim, step
from jaxft.train.partition import Flat, flatten
from jaxft.train.setup import Setup
from jaxft.train.stop import EarlyStopping


@dataclass
class Clock:
    """Seconds of a run by what they were spent on, and the tokens that training saw."""

    started: float = field(default_factory=time.perf_counter)
    first_step_s: float = 0.0
    train_s: float = 0.0
    real_tokens: int = 0
    padded_tokens: int = 0

    @property
    def wall_s(self) -> float:
        return time.perf_counter() - self.started


class Fitted(NamedTuple):
    """params: the best ones, as loaded, numpy. steps: taken. best_step: none without a dev set."""

    params: dict[str, Any]
    steps: int
    best_step: int | None
    stopped_early: bool
    clock: Clock
    compile_s: float
    input_stall_s: float
    shapes: tuple[tuple[int, ...], ...]


class _Pending(NamedTuple):
    batch: StepBatch
    info: step.Info


def fit(setup: Setup, folder: RunFolder, progress: Progress, evaluator: Evaluator, clock: Clock) -> Fitted:
    """Trains from the setup's parameters to the best ones. Raises UserError where the loss stops being a number."""
    train, num_steps = setup.recipe.train, setup.num_steps
    optimiser = optim.make(setup.recipe.optim, num_steps)
    learning_rate = optim.schedule(setup.recipe.optim, num_steps)
    trainable, frozen = setup.split()
    state = step.init(trainable, optimiser)
    constants = _constants(setup, frozen)
    compiled = step.Compiled(
        step.make(setup.model(training=True), setup.task, optimiser, setup.partition, train.label_smoothing),
        progress.compiling,
    )
    stopping = EarlyStopping(train.stop_metric or setup.task.default_metric, train.patience)
    eval_every = train.eval_every or setup.steps_per_epoch
    pending: deque[_Pending] = deque()
    log = Log(setup, folder, progress, learning_rate)
    since, before_compile = time.perf_counter(), 0.0

    with Prefetch(setup.batches().make, range(num_steps)) as batches:
        for batch in batches:
            state, info = compiled(state, _to_device(batch), jnp.uint32(batch.epoch), constants)
            pending.append(_Pending(batch, info))
            if len(pending) > 1:  # the device is busy with this step: look at the one before
                log.took(pending.popleft())
            clock.real_tokens += batch.real_tokens
            clock.padded_tokens += batch.padded_tokens
            done = batch.step + 1
            if done == 1:
                log.took(pending.popleft())
                clock.first_step_s = clock.wall_s
            if done % eval_every and done != num_steps:
                continue
            while pending:
                log.took(pending.popleft())
            clock.train_s += time.perf_counter() - since - (compiled.compile_s - before_compile)
            if evaluator.has_dev:
                scores = evaluator.scores("dev", setup.partition.join(setup.widen(state.trainable, done), frozen))
                best = stopping.observe(done, scores, None)
                if best:
                    stopping.best_params = _to_host(state.trainable)
                log.evaluated(done, scores, best)
                if stopping.should_stop:
                    break
            since, before_compile = time.perf_counter(), compiled.compile_s
        stall_s = batches.stall_s

    final = _to_host(state.trainable) if stopping.best_params is None else stopping.best_params
    params = setup.partition.whole(setup.widen(final, stopping.best_step or done), frozen)
    early = stopping.should_stop and done < num_steps
    return Fitted(params, done, stopping.best_step, early, clock, compiled.compile_s, stall_s, compiled.shapes)


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
    """Takes what steps tell: to the progress display, to metrics.jsonl, and to a halt where a loss is no number."""

    def __init__(self, setup: Setup, folder: RunFolder, progress: Progress, learning_rate: Any) -> None:
        self._setup, self._folder, self._progress, self._learning_rate = setup, folder, progress, learning_rate

    def took(self, pending: _Pending) -> None:
        """One finished step."""
        batch, done = pending.batch, pending.batch.step + 1
        loss, norm = float(pending.info.loss), float(pending.info.grad_norm)
        if not (np.isfinite(loss) and np.isfinite(norm)):
            raise _not_finite(self._setup, batch, pending.info, loss, norm)
        self._progress.step(done, loss, batch.real_tokens)
        if done % self._setup.recipe.train.log_every == 0 or done in (1, self._setup.num_steps):
            rate = float(self._learning_rate(batch.step))
            record = {"kind": "train", "step": done, "epoch": batch.epoch, "loss": loss, "learning_rate": rate}
            self._folder.log(record | {"grad_norm": norm, "real_tokens": batch.real_tokens})

    def evaluated(self, done: int, scores: dict[str, float], best: bool) -> None:
        """One evaluation on dev."""
        self._progress.evaluated(done, scores, "dev", best)
        self._folder.log({"kind": "eval", "step": done, "split": "dev", "scores": scores, "best": best})


def params_sha256(params: dict[str, Any]) -> str:
    """SHA-256 over path, type, shape and bytes of every parameter, in the order of their paths."""
    digest = hashlib.sha256()
    for path, leaf in sorted(flatten(params).items()):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{'/'.join(path)}\0{array.dtype}\0{array.shape}\0".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _constants(setup: Setup, frozen: Flat) -> step.Constants:
    words = prng.stream("dropout", recipe.stream_seeds(setup.recipe)["dropout"])
    weights = setup.class_weights()
    frozen = jax.tree.map(jnp.asarray, frozen)
    return step.Constants(frozen, prng.device_words(words), None if weights is None else jnp.asarray(weights))


def _to_device(batch: StepBatch) -> dict[str, jax.Array]:
    return {name: jnp.asarray(values) for name, values in batch.arrays.items()}


def _to_host(trainable: Flat) -> Flat:
    """A copy that outlives the donation of the state."""
    return {path: np.array(leaf, copy=True) for path, leaf in trainable.items()}


def _not_finite(setup: Setup, batch: StepBatch, info: step.Info, loss: float, norm: float) -> UserError:
    """Names the step and the examples whose own loss is not a number."""
    finite = np.asarray(info.finite)
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
