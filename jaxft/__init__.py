"""jaxft: fine-tunes BERT-family encoders in JAX/Flax.

`jaxft.train` and `jaxft.load` are the Python API (see `jaxft.api`). They are looked up on first use, so that importing
the package costs nothing and touches no device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxft.api import load, train

__version__ = "0.1.0"
__all__ = ["__version__", "load", "train"]


def __getattr__(name: str) -> Any:
    if name == "train":  # the folder of that name, which can be called: see its docstring
        import importlib

        return importlib.import_module("jaxft.train")
    if name == "load":
        from jaxft import api

        return api.load
    raise AttributeError(f"module 'jaxft' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
