"""Inputs on which every implementation of addressed dropout must agree, to the bit; shared by tests and benchmarks."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxft.kernels.dropout.reference import Address


class Case(NamedTuple):
    """B rows of L tokens, D features, drop rate."""

    name: str
    rows: int
    tokens: int
    width: int
    rate: float


CASES = (
    Case("tiny", 1, 8, 16, 0.5),
    Case("minilm", 8, 64, 384, 0.1),
    Case("base", 4, 128, 768, 0.1),
    Case("odd", 3, 33, 130, 0.25),
)


def make(case: Case, seed: int = 0) -> tuple[np.ndarray, Address]:
    """x f32 [B, L, D] and an address whose rows hold one example each."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(case.rows, case.tokens, case.width)).astype(np.float32)
    return x, make_address(case.rows, case.tokens, seed)


def make_address(rows: int, tokens: int, seed: int = 0) -> Address:
    """Addresses of `rows` examples of `tokens` tokens."""
    example = np.repeat(np.arange(rows, dtype=np.uint32)[:, None], tokens, axis=1)
    position = np.repeat(np.arange(tokens, dtype=np.uint32)[None], rows, axis=0)
    key = jnp.asarray([seed, 12345], jnp.uint32)
    return Address(
        key, jnp.uint32(0), jnp.asarray(example), jnp.zeros_like(jnp.asarray(example)), jnp.asarray(position)
    )
