"""The statistical battery of benchmarks/, loaded by its path: tests see no folder of it."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def battery() -> Iterator[ModuleType]:
    path = Path(__file__).parents[2] / "benchmarks" / "dropout_statistics.py"
    spec = importlib.util.spec_from_file_location("dropout_statistics", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]
