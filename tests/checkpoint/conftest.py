"""`faults`: benchmarks/checkpoint_faults.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import benchmark


@pytest.fixture(scope="session")
def faults() -> Iterator[ModuleType]:
    with benchmark("checkpoint_faults") as module:
        yield module


@pytest.fixture(scope="session")
def shim(faults: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """failing_io.c as a library to preload."""
    library = faults.compile_shim(tmp_path_factory.mktemp("shim"))
    if library is None:
        pytest.skip("needs Linux and a C compiler named cc")
    return library
