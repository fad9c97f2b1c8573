"""Environments by name. A family of them is a file of this folder with `NAMES` and `make(name)`."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from types import ModuleType
from typing import Any

from jaxft.errors import UserError
from jaxft.rl.env import Env


def families() -> dict[str, ModuleType]:
    """File name -> module, of all families."""
    names = sorted(found.name for found in pkgutil.iter_modules(__path__))
    return {name: importlib.import_module(f"{__name__}.{name}") for name in names}


def names() -> dict[str, str]:
    """Environment -> a line about it."""
    return {name: line for family in families().values() for name, line in family.NAMES.items()}


def make(name: str, **settings: Any) -> Env:
    """The environment of that name; settings: of its family. Raises UserError where there is none."""
    return check(name).make(name, **settings)


def check(name: str) -> ModuleType:
    """The family that has an environment of that name. Raises UserError where there is none."""
    for family in families().values():
        if name in family.NAMES or (hasattr(family, "prefix") and name.startswith(family.prefix)):
            return family
    known = names()
    near = difflib.get_close_matches(name, known, n=1)
    fix = f"did you mean `{near[0]}`?" if near else "`jaxft rl --list` names them all"
    raise UserError("rl.env", f"there is no environment {name!r}", fix)
