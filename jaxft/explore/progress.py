"""What an exploration shows while it searches: a live bar in a terminal, plain lines anywhere else."""

from __future__ import annotations

import math
import time
from collections import Counter
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as RichProgress

from jaxft.explore.account import Account
from jaxft.report.tables import printable


class Progress:
    """Shows searchers, one after the other, as a context manager. metric: the name of what is looked at. every_s: least
    seconds between two plain lines."""

    def __init__(
        self, metric: str, *, quiet: bool = False, console: Console | None = None, every_s: float = 10.0
    ) -> None:
        self._metric = metric
        self._quiet, self._every_s, self._console = quiet, every_s, console or Console()
        self._live: RichProgress | None = None
        self._task = TaskID(0)
        self._line_at = time.monotonic()
        self._name = ""

    def __enter__(self) -> Progress:
        if self._console.is_terminal and not self._quiet:
            columns = (TextColumn("{task.description}"), BarColumn(None), TextColumn("{task.fields[status]}"))
            self._live = RichProgress(*columns, console=self._console, expand=True, refresh_per_second=4)
            self._task = self._live.add_task("", total=1.0, status="")
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def begins(self, name: str) -> None:
        """A searcher's turn."""
        self._name = name
        self.message(f"{name} searches")

    def confirms(self) -> None:
        """The turn of runs from fresh seeds."""
        self._name = "confirming"
        self.message("trains what was found again, from fresh seeds")

    def looked(self, account: Account) -> None:
        """After a look at the search split: the best schedule, and how many states there are after each segment."""
        best = account.best()
        told = "no whole run yet"
        if best is not None:
            schedule = " ".join(map(str, best.path))
            told = f"{schedule} diverged" if best.score == -math.inf else f"{schedule}: {self._metric} {best.score:.4f}"
        lengths = Counter(map(len, account.states))
        width = " ".join(str(lengths[depth]) for depth in range(1, account.world.depth + 1))
        spent, budget = f"{account.spent:,.0f}", f"{account.budget:,.0f}"
        self._show(account.spent, account.budget, f"{told}, states {width}", f"{spent}/{budget} steps")

    def confirmed(self, done: int, total: int) -> None:
        """So many of the fresh runs are done."""
        self._show(done, total, "on fresh seeds", f"{done} of {total} runs")

    def _show(self, done: float, total: float, status: str, place: str) -> None:
        if self._live is not None:
            self._live.update(
                self._task, completed=done, total=total, description=f"{self._name} {place}", status=status
            )
            return
        now = time.monotonic()
        if now - self._line_at >= self._every_s:
            self._line_at = now
            self.message(f"{self._name}: {place}, {status}")

    def message(self, text: str) -> None:
        """One line above the bar."""
        if not self._quiet:
            self._console.print(printable(text), markup=False, highlight=False, soft_wrap=True)
