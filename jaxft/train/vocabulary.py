"""The words that a run can meet: only their embeddings go through the optimiser.

A word that no training text holds has no gradient, so AdamW and SGD move its embedding by weight decay alone, which is
one number for all of them. Training therefore holds the rows in use, numbered 0, 1, ..., and the rest is filled in
where all words are needed: to evaluate and to save. CoNLL-2003 has 14,097 of MiniLM's 30,522 words; word embeddings are
half of MiniLM's parameters.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxft.data.encode import Encoded
from jaxft.train.partition import Flat

WORD = ("encoder", "embeddings", "word")


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """ids: of the words in use, ascending, int [W]. table: the initial embeddings of all words, f32 [V, D]."""

    ids: np.ndarray
    table: np.ndarray

    @classmethod
    def of(cls, encoded: Encoded, table: np.ndarray) -> Vocabulary:
        """The words of tokenised texts, and padding's."""
        return cls(np.union1d(encoded.tokens, [0]), table)

    def narrow(self, params: Flat) -> Flat:
        """Parameters with the rows in use of their word embeddings."""
        return {**params, WORD: params[WORD][self.ids]}

    def widen(self, params: Flat, decay: float) -> Flat:
        """The inverse: words that are not in use have their initial embedding times `decay`."""
        table: Any = self.table * np.float32(decay)
        table[self.ids] = np.asarray(params[WORD])
        return {**params, WORD: table}

    def renumber(self, encoded: Encoded) -> Encoded:
        """The texts with tokens counted among the words in use."""
        return dataclasses.replace(encoded, tokens=np.searchsorted(self.ids, encoded.tokens).astype(np.int32))
