"""A small BERT with random weights, and rows of tokens, for tests of the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from jaxft import prng
from jaxft.model.config import BertConfig
from jaxft.model.initial import initialise

INIT = prng.stream("init", 0)


@pytest.fixture(scope="session")
def small() -> BertConfig:
    return BertConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=24,
        max_position_embeddings=20,
        initializer_range=0.3,
    )


@pytest.fixture(scope="session")
def draw() -> Callable[..., dict]:
    """Random parameters, biases and LayerNorm too, so that a mix-up of any two shows."""

    def make(config: BertConfig, head: str, num_labels: int = 0, seed: int = 1) -> dict:
        import jax

        rng = np.random.default_rng(seed)
        params = initialise(config, head, num_labels, INIT)
        return jax.tree.map(lambda leaf: leaf + 0.1 * rng.standard_normal(leaf.shape, np.float32), params)

    return make


@pytest.fixture(scope="session")
def pack() -> Callable[..., dict[str, np.ndarray]]:
    """Rows of examples as the model takes them."""

    def make(
        examples: Sequence[Sequence[int]], rows: Sequence[Sequence[int]], tokens: int, pairs: int | None = None
    ) -> dict[str, np.ndarray]:
        """rows: which examples lie in each row. tokens: L. pairs: token type 1 from that position on."""
        shape, most = (len(rows), tokens), max(len(row) for row in rows)
        names = ("tokens", "types", "positions", "segments")
        batch = {name: np.zeros(shape, np.int32) for name in names}
        batch |= {name: np.zeros(shape, np.uint32) for name in ("example", "occurrence")}
        batch["firsts"] = np.zeros((len(rows), most), np.int32)
        for r, row in enumerate(rows):
            start = 0
            for s, number in enumerate(row):
                length = len(examples[number])
                place = (r, slice(start, start + length))
                batch["tokens"][place] = examples[number]
                batch["positions"][place] = np.arange(length)
                batch["types"][place] = 0 if pairs is None else np.arange(length) >= pairs
                batch["segments"][place] = s + 1
                batch["example"][place] = number
                batch["firsts"][r, s] = start
                start += length
        return batch

    return make


@pytest.fixture(scope="session")
def ragged() -> list[list[int]]:
    """Examples of several lengths for `small`, token 2 first as [CLS]."""
    rng = np.random.default_rng(5)
    return [[2, *rng.integers(3, 50, length - 1).tolist()] for length in (9, 4, 1, 12, 6)]
