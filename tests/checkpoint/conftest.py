"""`faults`: benchmarks/checkpoint_faults.py, loaded by its path, as tests see no folder of it."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def faults() -> Iterator[ModuleType]:
    path = Path(__file__).parents[2] / "benchmarks" / "checkpoint_faults.py"
    spec = importlib.util.spec_from_file_location("checkpoint_faults", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="session")
def shim(faults: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """failing_io.c as a library to preload."""
    library = faults.compile_shim(tmp_path_factory.mktemp("shim"))
    if library is None:
        pytest.skip("needs Linux and a C compiler named cc")
    return library
