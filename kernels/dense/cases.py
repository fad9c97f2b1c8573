"""Inputs on which every implementation of a dense layer must agree; shared by tests and benchmarks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Case(NamedTuple):
    """Tokens of shape `tokens`, K features in, N out."""

    name: str
    tokens: tuple[int, ...]
    width: int
    features: int


CASES = (
    Case("one token", (1,), 8, 16),
    Case("odd", (3, 5), 33, 7),
    Case("minilm up", (11, 64), 384, 1536),
    Case("minilm down", (11, 64), 1536, 384),
)


def make(case: Case, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """f32: x [..., K], w [K, N], bias [N], and a gradient of the result [..., N]."""
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    w = draw(case.width, case.features) / np.float32(case.width**0.5)
    return draw(*case.tokens, case.width), w, draw(case.features), draw(*case.tokens, case.features)
