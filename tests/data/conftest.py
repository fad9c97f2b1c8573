"""Tokens without a tokenizer, for tests of order, packing and batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from jaxft.data.encode import Encoded


@pytest.fixture(scope="session")
def encoded() -> Callable[..., Encoded]:
    """Encoded examples of given lengths; token t of the data set has the id 1000 + t, so that any mix-up shows."""

    def make(lengths: Sequence[int], windows: Sequence[int] | None = None) -> Encoded:
        """lengths: int [P], of the pieces. windows: pieces of each example, 1 each by default."""
        counts = np.array([1] * len(lengths) if windows is None else windows)
        size = int(np.sum(lengths))
        return Encoded(
            tokens=np.arange(1000, 1000 + size, dtype=np.int32),
            types=(np.arange(size) % 2).astype(np.int32),
            words_at=np.full(size, -1, np.int32),
            offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            example=np.repeat(np.arange(len(counts)), counts).astype(np.int32),
            window=np.concatenate([np.arange(count) for count in counts]).astype(np.int32),
            lengths=np.add.reduceat(np.asarray(lengths), np.cumsum([0, *counts[:-1]])).astype(np.int32),
        )

    return make
