"""Inputs on which every implementation of segment-masked attention must agree; shared by tests and benchmarks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jaxft.kernels.dropout.cases import make_address
from jaxft.kernels.dropout.reference import Address


class Case(NamedTuple):
    """B rows of L tokens, H heads of width Dh; `lengths` are the segments of every row, the rest is padding."""

    name: str
    rows: int
    tokens: int
    heads: int
    head_width: int
    lengths: tuple[int, ...]
    rate: float


CASES = (
    Case("one segment", 2, 16, 2, 8, (16,), 0.0),
    Case("padded", 2, 16, 2, 8, (11,), 0.1),
    Case("packed", 4, 64, 12, 32, (20, 7, 33), 0.1),
    Case("base packed", 2, 128, 12, 64, (50, 50, 20), 0.1),
    Case("all padding", 1, 16, 2, 8, (), 0.5),
)


def make(case: Case, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, Address]:
    """q, k, v f32 [B, L, H, Dh], segments int32 [B, L], address."""
    rng = np.random.default_rng(seed)
    shape = (case.rows, case.tokens, case.heads, case.head_width)
    q, k, v = (rng.normal(size=shape).astype(np.float32) for _ in range(3))
    segments = np.zeros((case.rows, case.tokens), np.int32)
    position = np.zeros((case.rows, case.tokens), np.uint32)
    start = 0
    for number, length in enumerate(case.lengths, 1):
        segments[:, start : start + length] = number
        position[:, start : start + length] = np.arange(length)
        start += length
    address = make_address(case.rows, case.tokens, seed)._replace(position=position)
    return q, k, v, segments, address
