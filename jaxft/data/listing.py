"""A capped list of problems: a file with 100,000 bad lines says so in 21."""

from __future__ import annotations

from types import TracebackType

from jaxft.errors import Problems

LIMIT = 20


class Listing:
    """Hands the first `limit` problems on to `problems`; leaving the `with` block adds how many more there were.

    path: the file, named in that last line. count: problems so far, with those not handed on.
    """

    def __init__(self, problems: Problems, path: str, limit: int = LIMIT) -> None:
        self.problems = problems
        self.path = path
        self.limit = limit
        self.count = 0

    def add(self, where: str, what: str, fix: str = "") -> None:
        self.count += 1
        if self.count <= self.limit:
            self.problems.add(where, what, fix)

    def __enter__(self) -> Listing:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.count > self.limit:
            self.problems.add(self.path, f"… and {self.count - self.limit:,} more like these")
