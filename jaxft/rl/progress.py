"""What a run shows while it learns: a live bar in a terminal, plain lines anywhere else, nothing when quiet."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as RichProgress

from jaxft.report.tables import printable
from jaxft.rl.converge import shown

if TYPE_CHECKING:
    from jaxft.rl.loop import Course


class Progress:
    """Shows a run of `total_steps` steps a seed, as a context manager. worked_s: seconds of learning and scoring.

    console, every_s (least seconds between two plain lines): for tests.
    """

    def __init__(
        self, total_steps: int, *, quiet: bool = False, console: Console | None = None, every_s: float = 10.0
    ) -> None:
        self._total, self._quiet, self._every_s = total_steps, quiet, every_s
        self._console = console or Console()
        self._live: RichProgress | None = None
        self._task = TaskID(0)
        self._line_at: float | None = None
        self.worked_s = 0.0

    def __enter__(self) -> Progress:
        if self._console.is_terminal and not self._quiet:
            columns = (TextColumn("{task.description}"), BarColumn(None), TextColumn("{task.fields[status]}"))
            live = RichProgress(*columns, console=self._console, expand=True, refresh_per_second=4)
            self._task = live.add_task("0 steps", total=self._total, status="")
            live.start()
            self._live = live
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Around what takes the device's time."""
        since = time.perf_counter()
        yield
        self.worked_s += time.perf_counter() - since

    def compiling(self, what: str) -> None:
        """Says that a compilation of `what` begins."""
        self.message(f"compiling {what} ...")

    def interrupted(self, name: str) -> None:
        """A signal came."""
        self.message(f"{name}: stopping after this round; once more stops at once, without saving")

    def round(self, step: int, courses: Mapping[int, Course]) -> None:
        """After an evaluation at `step`."""
        status = self._status(courses)
        if self._live is not None:
            self._live.update(self._task, completed=step, description=f"{step:,} steps", status=status)
            return
        now = time.monotonic()
        if self._line_at is None or now - self._line_at >= self._every_s or step >= self._total:
            self._line_at = now
            self.message(f"{step:,} of {self._total:,} steps: {status}")

    def message(self, text: str) -> None:
        """One line above the bar."""
        if not self._quiet:
            self._console.print(printable(text), markup=False, highlight=False, soft_wrap=True)

    def _status(self, courses: Mapping[int, Course]) -> str:
        means = [course.last.mean for course in courses.values() if course.last is not None]
        status = f"mean return {shown(min(means))}" if means else ""
        if len(means) > 1:
            status += f" to {shown(max(means))}"
        done = sum(course.converged is not None for course in courses.values())
        return f"{status}, {done} of {len(courses)} converged"
