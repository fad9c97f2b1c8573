"""Which implementation of an operation runs: plain JAX (`xla`), or a Pallas kernel where there is one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

Implementation = Literal["xla", "pallas"]


def choose_for(
    operation: str, implementation: Implementation | None = None, known: Sequence[Implementation] = ("xla",)
) -> Implementation:
    """The implementation that a call would use, by default the first known one.

    Raises NotImplementedError for one that the operation does not have.
    """
    if implementation is not None and implementation not in known:
        raise NotImplementedError(f"{operation} has no {implementation!r} implementation; there is {', '.join(known)}")
    return implementation or known[0]
