"""Dialogues as token ids, put together on the device from utterances that were tokenised once, on the host.

    turns       4 1 -1 -1                   numbers of utterances, -1 where nothing is said any more
    tokens     [CLS] is it soft ? yes . is it alive ? no . [SEP]  0  0
    positions     0   1  2  3   4  5  6  7  8  9   10 11 12   13   0  0
    segments      1   1  1  1   1  1  1  1  1  1    1  1  1    1   0  0

Pieces of words do not reach over spaces and punctuation, so the tokens are those of the whole text, tokenised at once.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxft import assets
from jaxft.data.encode import load_tokenizer

Observation = dict[str, jax.Array]
"""Of a text: tokens, types, positions, segments int32 [L], and firsts int32 [1], where it starts: 0."""


@functools.cache
def tokenizer_of(model: str) -> Any:
    """The tokenizer of a model, by asset name, folder or hub id."""
    return load_tokenizer(Path(assets.resolve_model(model)))


@dataclass(frozen=True, eq=False)
class Utterances:
    """U utterances of W tokens at most. pieces: int32 [U, W], 0 behind the last token. sizes: int32 [U]. first, last:
    the tokens before and after a text."""

    pieces: jax.Array
    sizes: jax.Array
    first: int
    last: int

    @classmethod
    def of(cls, texts: Sequence[str], model: str) -> Utterances:
        """Tokenised as that model wants it."""
        tokenizer = tokenizer_of(model)
        ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
        pieces = np.zeros((len(ids), max(map(len, ids))), np.int32)
        for row, tokens in zip(pieces, ids, strict=True):
            row[: len(tokens)] = tokens
        sizes = jnp.asarray([len(tokens) for tokens in ids], jnp.int32)
        return cls(jnp.asarray(pieces), sizes, tokenizer.cls_token_id, tokenizer.sep_token_id)

    def longest(self, turns: int) -> int:
        """Most tokens that a dialogue of so many utterances may have."""
        return 2 + turns * self.pieces.shape[1]

    def observe(self, turns: jax.Array, length: int) -> Observation:
        """The dialogue of utterances int32 [S], those that are -1 after all others, in `length` tokens.

        A longer one than that is cut at its end; `longest(S)` holds any.
        """
        sizes = jnp.where(turns >= 0, self.sizes[jnp.maximum(turns, 0)], 0)
        ends = 1 + jnp.cumsum(sizes)
        at = jnp.arange(length, dtype=jnp.int32)
        turn = jnp.minimum(jnp.searchsorted(ends, at, side="right").astype(jnp.int32), len(turns) - 1)
        inside = jnp.clip(at - (ends - sizes)[turn], 0, self.pieces.shape[1] - 1)
        said = self.pieces[jnp.maximum(turns[turn], 0), inside]
        total = ends[-1]
        tokens = jnp.where(at < total, said, jnp.where(at == total, self.last, 0))
        segments = (at <= total).astype(jnp.int32)
        return {
            "tokens": jnp.where(at == 0, self.first, tokens),
            "types": jnp.zeros_like(at),
            "positions": at * segments,
            "segments": segments,
            "firsts": jnp.zeros(1, jnp.int32),
        }
