"""Addressed dropout: the entry point that the rest of jaxft calls."""

from __future__ import annotations

from functools import partial

from jax import Array

from jaxft.kernels.dropout import reference
from jaxft.kernels.dropout.reference import Address, Words, token_words
from jaxft.kernels.implementation import Implementation, choose_for

__all__ = ["Address", "Words", "choose", "dropout", "token_words"]

choose = partial(choose_for, "dropout")
"""(implementation) -> the one that a call would use."""


def dropout(
    x: Array,
    words: Words | None,
    *,
    rate: float,
    implementation: Implementation | None = None,
) -> Array:
    """Dropout whose mask bits have addresses.

    x: [..., D]. words: [...], of its tokens at this site, from `token_words`; None leaves x as it is (evaluation).
    rate: 0 <= rate < 1.
    """
    choose(implementation)
    if words is None or rate == 0.0:
        return x
    if not 0.0 < rate < 1.0:
        raise ValueError(f"a dropout rate lies from 0 up to but not including 1, is {rate}")
    return reference.dropout(x, words, rate)
