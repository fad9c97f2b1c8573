"""Errors a user can act on: where it is, what is wrong, how to mend it.

Checks collect `Problem`s in a `Problems` list and raise once, so that a user sees every problem of a recipe or a file
in one go. The command line prints one line a problem and exits with code 2.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong (or, as a warning, suspicious).

    where: file, `file:line`, or recipe key such as `train.batch_size`.
    what: what was expected and what came, with the numbers.
    fix: what to change; may be empty.
    """

    where: str
    what: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" + (f" — {self.fix}" if self.fix else "")


class UserError(Exception):
    """Something the user can mend; holds one `Problem` or many. Exit code 2 on the command line."""

    def __init__(self, where: str, what: str, fix: str = ""):
        self.problems: tuple[Problem, ...] = (Problem(where, what, fix),)
        super().__init__(str(self.problems[0]))

    @classmethod
    def of(cls, problems: Iterable[Problem]) -> UserError:
        """One error out of several problems (at least one)."""
        problems = tuple(problems)
        error = cls(problems[0].where, problems[0].what, problems[0].fix)
        error.problems = problems
        error.args = ("\n".join(map(str, problems)),)
        return error


class Problems:
    """Collects problems and warnings; `raise_if_any` raises all the problems at once."""

    def __init__(self) -> None:
        self.errors: list[Problem] = []
        self.warnings: list[Problem] = []

    def add(self, where: str, what: str, fix: str = "") -> None:
        self.errors.append(Problem(where, what, fix))

    def warn(self, where: str, what: str, fix: str = "") -> None:
        self.warnings.append(Problem(where, what, fix))

    def take(self, error: UserError) -> None:
        """Keeps the problems of an error caught elsewhere."""
        self.errors.extend(error.problems)

    def raise_if_any(self) -> None:
        if self.errors:
            raise UserError.of(self.errors)
