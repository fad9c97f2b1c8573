"""`jaxft env`: what a bug report needs to know."""

from __future__ import annotations

import json
from typing import Any

import tyro

HELP = "versions, devices and settings, for a bug report"


def show(json: bool = False) -> int:
    """Prints versions, devices and settings, for a bug report.

    Args:
        json: As JSON.
    """
    from jaxft.report.env import environment

    found = environment()
    print(_as_json(found) if json else "\n".join(_lines(found)))
    return 0


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
