"""Searches and optimisers run as their users run them: with JAX's own promotion rules."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import pytest


@pytest.fixture(scope="session")
def as_users_do() -> Iterator[None]:
    """For what lives as long as the session."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(autouse=True)
def promotion() -> Iterator[None]:
    with jax.numpy_dtype_promotion("standard"):
        yield
