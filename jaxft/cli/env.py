"""`jaxft env`: what a bug report needs to know."""

from __future__ import annotations

import json
from typing import Any

import tyro

from jaxft import recipe as recipes_
from jaxft import recipes
from jaxft.recipe import Recipe, stream_seeds
from jaxft.report.run_folder import RunFolder

HELP = "versions, devices, settings and seeds, for a bug report"


def show(recipe: tyro.conf.Positional[str] = "", json: bool = False) -> int:
    """Prints versions, devices, settings and the seed of every stream, for a bug report.

    Args:
        recipe: The recipe whose seeds are shown: a file, a shipped one, or a run folder. Empty: those by default.
        json: As JSON.
    """
    from jaxft.report.env import environment

    found = {**environment(), "seeds": stream_seeds(_recipe(recipe))}
    print(_as_json(found) if json else "\n".join(_lines(found)))
    return 0


def _recipe(name: str) -> Recipe:
    if not name:
        return Recipe()
    folder = RunFolder(name)
    return recipes_.load(folder.recipe if folder.holds_run else recipes.find(name))


def main(argv: list[str]) -> int:
    return tyro.cli(show, args=argv, prog="jaxft env", config=(tyro.conf.FlagCreatePairsOff,))


def _as_json(found: dict[str, Any]) -> str:
    return json.dumps(found, indent=2)


def _lines(found: dict[str, Any], indent: str = "") -> list[str]:
    lines = []
    for name, value in found.items():
        if isinstance(value, dict) and value:
            lines += [f"{indent}{name}", *_lines(value, indent + "  ")]
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list) else "-" if value in (None, {}) else value
            lines.append(f"{indent}{name:<{18 - len(indent)}} {text}")
    return lines
