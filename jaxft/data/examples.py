"""Labelled examples as strings: what a task makes of rows, and what splits, checks and tokenising work on."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Examples:
    """E examples of one source.

    texts: text, or list of words (tag). pairs: second texts, if the task has them.
    labels: class name; list of class names (multi-label); one IOB2 tag a word (tag). None: unlabelled.
    where: `file:line` of each example. ids: unique names, if the data has a column for them.
    source, sha256: of the rows they came from; a part of them keeps both.
    """

    texts: list[Any]
    pairs: list[str] | None
    labels: list[Any] | None
    where: list[str]
    source: str
    sha256: str
    ids: list[str] | None = None

    def __post_init__(self) -> None:
        for name in ("pairs", "labels", "where", "ids"):
            column = getattr(self, name)
            if column is not None and len(column) != len(self.texts):
                raise ValueError(f"{len(column)} {name} for {len(self.texts)} texts")

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def is_tagged(self) -> bool:
        """Whether the texts are lists of words."""
        return bool(self.texts) and not isinstance(self.texts[0], str)

    @property
    def is_multi_label(self) -> bool:
        return bool(self.labels) and not self.is_tagged and not isinstance(self.labels[0], str)

    def take(self, indices: Iterable[int]) -> Examples:
        """The examples at `indices`, in that order."""
        indices = list(indices)
        columns = {
            name: None if column is None else [column[i] for i in indices]
            for name in ("texts", "pairs", "labels", "where", "ids")
            for column in [getattr(self, name)]
        }
        return dataclasses.replace(self, **columns)

    def contents(self) -> list[str]:
        """What each example says, without case and spacing; equal contents are the same to an uncased model."""
        texts = (" ".join(text) for text in self.texts) if self.is_tagged else self.texts
        folded = [" ".join(text.casefold().split()) for text in texts]
        if self.pairs is None:
            return folded
        return [f"{text}\0{' '.join(pair.casefold().split())}" for text, pair in zip(folded, self.pairs, strict=True)]
