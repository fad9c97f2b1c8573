from __future__ import annotations

import pytest

from jaxft.errors import Problem, Problems, UserError


def test_a_problem_is_one_line_with_where_what_and_fix():
    problem = Problem("data.csv:7", "label 'x' is unknown", "use ham or spam")
    assert str(problem) == "data.csv:7: label 'x' is unknown — use ham or spam"
    assert str(Problem("seed", "is negative")) == "seed: is negative"


def test_all_problems_are_raised_at_once_and_warnings_are_not():
    problems = Problems()
    problems.warn("data", "3 texts occur twice")
    problems.raise_if_any()
    problems.add("a", "first")
    problems.take(UserError("b", "second", "mend it"))
    with pytest.raises(UserError) as caught:
        problems.raise_if_any()
    assert caught.value.problems == (Problem("a", "first"), Problem("b", "second", "mend it"))
    assert str(caught.value) == "a: first\nb: second — mend it"
    assert [warning.where for warning in problems.warnings] == ["data"]


def test_an_error_of_problems_accepts_any_iterable():
    error = UserError.of(Problem(str(i), "wrong") for i in range(3))
    assert [problem.where for problem in error.problems] == ["0", "1", "2"]
