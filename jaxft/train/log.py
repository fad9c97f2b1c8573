"""What a run tells while it trains: to the progress display, metrics.jsonl, in warnings; and a halt at a NaN loss."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from jaxft.data.batches import StepBatch
from jaxft.errors import UserError
from jaxft.report.progress import Progress
from jaxft.report.run_folder import RunFolder
from jaxft.train import optim
from jaxft.train.compiled import Info
from jaxft.train.setup import Setup


class Taken(NamedTuple):
    """A step that was handed to the device. digest: of the parameters after it, where one is recorded."""

    batch: StepBatch
    info: Info
    digest: str | None


class Log:
    """Takes what steps tell: to the progress display, to metrics.jsonl, and to a halt where a loss is no number.

    warnings: what the user was warned of while training.
    """

    def __init__(self, setup: Setup, folder: RunFolder, progress: Progress) -> None:
        self._setup, self._folder, self._progress = setup, folder, progress
        self._learning_rate: Any = optim.schedule(setup.recipe.optim, setup.num_steps)
        self.warnings: list[str] = []

    def took(self, taken: Taken) -> None:
        """One finished step."""
        batch, info, done = taken.batch, taken.info, taken.batch.step + 1
        loss, norm = np.asarray(info.loss).item(), float(info.grad_norm)
        if not (np.isfinite(loss) and np.isfinite(norm)):
            raise _not_finite(self._setup, batch, info, loss, norm)
        self._progress.step(done, loss, batch.real_tokens)
        if done % self._setup.recipe.train.log_every == 0 or done in (1, self._setup.num_steps):
            factor = self._setup.strategy_at(batch.step).learning_rate
            rate = float(self._learning_rate(batch.step)) * factor
            record = {"kind": "train", "step": done, "epoch": batch.epoch, "loss": loss, "learning_rate": rate}
            told: dict[str, Any] = {"grad_norm": norm, "real_tokens": batch.real_tokens}
            self._folder.log(record | told | ({"digest": taken.digest} if taken.digest else {}))

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
