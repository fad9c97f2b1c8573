"""Inputs on which every implementation of a product with weights must agree; shared by tests and benchmarks."""

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


def make(case: Case, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x f32 [..., K], w f32 [K, N], and a gradient of the product [..., N]; of unit variance, as the product."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(*case.tokens, case.width))
    w = rng.normal(size=(case.width, case.features)) / case.width**0.5
    gradient = rng.normal(size=(*case.tokens, case.features))
    return x.astype(np.float32), w.astype(np.float32), gradient.astype(np.float32)
