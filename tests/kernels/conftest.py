"""The statistical battery of benchmarks/."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pytest

from tests.conftest import benchmark


@pytest.fixture(scope="session")
def battery() -> Iterator[ModuleType]:
    with benchmark("dropout_statistics") as module:
        yield module
