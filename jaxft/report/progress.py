"""Progress of a training run: a live bar in a terminal, plain lines anywhere else, nothing when quiet.

Throughput counts real tokens only, over the last steps, with compiling and evaluating left out; the time left counts
everything since the first step.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import timedelta
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as RichProgress

from jaxft.report.tables import printable

LAST_STEPS = 20  # what the throughput is taken over


class Progress:
    """Shows a run of `total_steps` steps. Use it as a context manager; its methods are called from the training loop.

        with Progress(300, metric="accuracy") as progress:
            progress.compiling("the training step")
            progress.step(1, loss=0.71, real_tokens=612)
            progress.evaluated(44, {"accuracy": 0.97}, best=True)

    metric: the score shown beside the bar. start_step: where a resumed run goes on. quiet: shows nothing.
    every_s: least seconds between two plain lines. console, clock: for tests.
    """

    def __init__(
        self,
        total_steps: int,
        *,
        metric: str = "",
        start_step: int = 0,
        quiet: bool = False,
        every_s: float = 10.0,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total, self._metric, self._quiet, self._every_s, self._clock = total_steps, metric, quiet, every_s, clock
        self._console = console or Console()
        self._step = start_step
        self._loss: float | None = None
        self._score: float | None = None
        self._line_at: float | None = None
        self._first: tuple[int, float] | None = None  # step and time from which the time left is reckoned
        self._last: float | None = None  # time of the last step, none after a pause
        self._compiling: float | None = None  # since when
        self._compiled = (0, 0.0)  # steps that waited for a compilation, and their seconds
        self._recent: deque[tuple[float, int]] = deque(maxlen=LAST_STEPS)  # seconds, real tokens
        self._live: RichProgress | None = None
        self._task = TaskID(0)

    def __enter__(self) -> Progress:
        if self._console.is_terminal and not self._quiet:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(None),
                TextColumn("{task.fields[status]}", markup=False),
            )
            live = RichProgress(*columns, console=self._console, expand=True, refresh_per_second=4)
            self._task = live.add_task(self._place(), total=self._total, completed=self._step, status="")
            live.start()
            self._live = live
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    # --- what the loop reports -------------------------------------------------------------------------------------

    def compiling(self, what: str) -> None:
        """Says that a compilation of `what` begins; it lasts until the next step."""
        self._last, self._compiling = None, self._clock()
        self._print(f"compiling {what} ...")
        self._refresh(f"compiling {what}")

    def step(self, step: int, loss: float | None = None, real_tokens: int = 0) -> None:
        """After step number `step` (the first is 1). loss: none where it has not been fetched from the device;
        real_tokens: of the steps since the last call."""
        now = self._clock()
        if self._last is not None:
            self._recent.append((now - self._last, real_tokens))
        if self._first is None:
            self._first = (step, now)
        elif self._compiling is not None:
            self._compiled = (self._compiled[0] + 1, self._compiled[1] + now - self._compiling)
        self._compiling = None
        self._step, self._last = step, now
        self._loss = self._loss if loss is None else float(loss)
        self._refresh(self.status())
        due = self._line_at is None or now - self._line_at >= self._every_s or step >= self._total
        if self._live is None and due:
            self._line_at = now
            self._print(f"{self._place()}  {self.status()}")

    def evaluated(self, step: int, scores: Mapping[str, float], split: str = "dev", best: bool = False) -> None:
        """After an evaluation on `split`; best: the scores are the best so far."""
        self._last = None  # the evaluation's time is not training time
        if split == "dev":
            self._score = scores.get(self._metric, self._score)
        text = ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
        self._print(f"step {step:,}: {split} {text}{' (best so far)' if best else ''}")
        self._refresh(self.status())

    def message(self, text: str) -> None:
        """Shows a line above the bar."""
        self._print(text)

    # --- what is shown ---------------------------------------------------------------------------------------------

    def status(self) -> str:
        """Loss, dev score, real tokens a second and time left, as far as they are known."""
        parts = []
        if self._loss is not None:
            parts.append(f"loss {self._loss:.4f}")
        if self._score is not None:
            parts.append(f"{self._metric} {self._score:.4f}")
        if self.real_tokens_per_s is not None:
            parts.append(f"{self.real_tokens_per_s:,.0f} tok/s")
        if self.left_s is not None:
            parts.append(f"{timedelta(seconds=round(self.left_s))} left")
        return "  ".join(parts)

    @property
    def real_tokens_per_s(self) -> float | None:
        """Over the last steps; none before the second step in a row."""
        seconds = sum(seconds for seconds, _ in self._recent)
        return sum(tokens for _, tokens in self._recent) / seconds if seconds > 0 else None

    @property
    def left_s(self) -> float | None:
        """Seconds left at the mean pace since the first step, evaluations included, compilations not; none before."""
        if self._first is None or self._last is None:
            return None
        steps = self._step - self._first[0] - self._compiled[0]
        if steps <= 0:
            return None
        return (self._last - self._first[1] - self._compiled[1]) / steps * max(self._total - self._step, 0)

    def _place(self) -> str:
        return f"step {self._step:,}/{self._total:,}"

    def _refresh(self, status: str) -> None:
        if self._live is not None:
            self._live.update(self._task, completed=self._step, description=self._place(), status=printable(status))

    def _print(self, text: str) -> None:
        for line in [] if self._quiet else text.split("\n"):  # soft_wrap: a line of a log stays one line
            self._console.print(printable(line), markup=False, highlight=False, soft_wrap=True)
