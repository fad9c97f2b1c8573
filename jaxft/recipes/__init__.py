"""Recipes that ship with jaxft, as YAML files; `find` lets a command take one by name.

Those of supervised runs lie here, those of reinforcement learning in `rl/`, those that compare both in
`compare/`, explorations in `explore/`.
"""

from __future__ import annotations

import difflib
from pathlib import Path

from jaxft.errors import UserError

SUPERVISED, RL, COMPARE, EXPLORE = ".", "rl", "compare", "explore"
"""Folders of the kinds of recipes."""
_LISTED = "`jaxft rl --list` names environments and agents"
ADVICE = {
    SUPERVISED: "`jaxft init TASK` prints a new one",
    RL: _LISTED,
    COMPARE: _LISTED,
    EXPLORE: "`jaxft explore --list` names searchers",
}


def names(kind: str = SUPERVISED) -> list[str]:
    """The shipped recipes."""
    return sorted(path.stem for path in (Path(__file__).parent / kind).glob("*.yaml"))


def find(name_or_path: str, kind: str = SUPERVISED) -> Path:
    """The file itself where it exists, else the shipped recipe of that name. Raises UserError for neither."""
    path, known = Path(name_or_path), names(kind)
    if path.is_file():
        return path
    if name_or_path in known:
        return Path(__file__).parent / kind / f"{name_or_path}.yaml"
    near = difflib.get_close_matches(name_or_path, known, n=1)
    fix = f"did you mean `{near[0]}`?" if near else f"shipped: {', '.join(known)}; {ADVICE[kind]}"
    raise UserError(name_or_path, "neither a recipe file nor a shipped recipe", fix)
