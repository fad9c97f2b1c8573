"""Searches are run as their users run them: with JAX's own promotion rules, which mctx needs."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import jax
import pytest

from tests.conftest import benchmark


@pytest.fixture(autouse=True)
def promotion() -> Iterator[None]:
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture(scope="session")
def equality() -> Iterator[ModuleType]:
    """benchmarks/search_equality.py."""
    with benchmark("search_equality") as module:
        yield module
