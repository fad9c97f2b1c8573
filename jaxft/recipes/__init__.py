"""Recipes that ship with jaxft, as YAML files; `find` lets a command take one by name."""

from __future__ import annotations

import difflib
from pathlib import Path

from jaxft.errors import UserError


def names() -> list[str]:
    """The shipped recipes."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.yaml"))


def find(name_or_path: str) -> Path:
    """The file itself where it exists, else the shipped recipe of that name. Raises UserError for neither."""
    path = Path(name_or_path)
    if path.is_file():
        return path
    if name_or_path in names():
        return Path(__file__).parent / f"{name_or_path}.yaml"
    near = difflib.get_close_matches(name_or_path, names(), n=1)
    fix = f"did you mean `{near[0]}`?" if near else f"shipped: {', '.join(names())}; `jaxft init TASK` prints a new one"
    raise UserError(name_or_path, "neither a recipe file nor a shipped recipe", fix)
