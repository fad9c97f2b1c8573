"""Tasks, one file each: how rows become examples and targets, the loss, decoding and scores.

Every module of this folder that holds a module-level `TASK` is a task; adding one is adding a file. Importing this
package imports no JAX: a task brings it in when its loss is first called.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import pkgutil
from types import MappingProxyType
from typing import TYPE_CHECKING

from jaxft.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jaxft.tasks.base import Task


def names() -> tuple[str, ...]:
    """Names of all tasks, sorted."""
    return tuple(_registry())


def get(name: str) -> Task:
    """The task of that name. Raises UserError with the known names."""
    try:
        return _registry()[name]
    except KeyError:
        near = difflib.get_close_matches(name, names(), n=1)
        fix = f"did you mean `{near[0]}`?" if near else ""
        raise UserError("task", f"unknown task {name!r}; known: {', '.join(names())}", fix) from None


@functools.cache
def _registry() -> Mapping[str, Task]:
    found: dict[str, Task] = {}
    for info in sorted(pkgutil.iter_modules(__path__), key=lambda info: info.name):
        module = importlib.import_module(f"{__name__}.{info.name}")
        task = getattr(module, "TASK", None)
        if task is None:
            continue  # a helper such as `iob`
        if task.name in found:
            raise RuntimeError(f"two tasks are named {task.name!r}; the second is in {module.__file__}")
        found[task.name] = task
    return MappingProxyType(dict(sorted(found.items())))
