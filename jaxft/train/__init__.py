"""Training: state, optimiser, step, sums, loop, early stopping.

The package is also a function: `jaxft.train(recipe)` is `jaxft.api.train(recipe)`. Importing any module of this folder
binds the name `jaxft.train` to the package, so the package itself has to be what is called.
"""

from __future__ import annotations

import sys
import types
from typing import Any


class _CallablePackage(types.ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from jaxft import api

        return api.train(*args, **kwargs)


sys.modules[__name__].__class__ = _CallablePackage
