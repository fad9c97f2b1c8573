"""`jaxft check RECIPE`: every problem of a recipe and its data at once, before anything is compiled."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from rich.console import Console
from rich.text import Text

from jaxft import overrides
from jaxft.cli.explore import WithExploration
from jaxft.errors import Problem, Problems

LARGEST = 100_000
"""Bytes of a recipe."""
HELP = "validates a recipe and its data, all problems at once"


@dataclass(frozen=True)
class Check(overrides.WithRecipe):
    """Validates a recipe, its data and its model; tells every problem and warning at once, and what training takes.

    Exit code 2 if there is a problem. Keys can be overridden as for `jaxft train`, and for `jaxft explore` where the
    file has a section `explore`.
    """


@dataclass(frozen=True)
class CheckExploration(WithExploration):
    """Validates the recipe of an exploration, its data and its model; tells every problem and warning at once.

    Exit code 2 if there is a problem. Keys can be overridden as for `jaxft explore`.
    """


def main(argv: Sequence[str]) -> int:
    """Runs the command; 0 without problems. Raises UserError."""
    from jaxft import api

    command = CheckExploration if any(map(_explores, argv)) else Check
    args = overrides.parse(command, argv, "jaxft check")
    found = api.examine(args.keys)
    _print_warnings(found)
    found.raise_if_any()
    warned = f", {len(found.warnings)} warning{'s' * (len(found.warnings) > 1)}" if found.warnings else ""
    print(f"{args.recipe}: no problems{warned}")
    _print_facts(found.facts)
    return 0


def _explores(word: str) -> bool:
    """Whether it is the file of an exploration. What cannot be read is told later."""
    path = Path(word)
    try:
        if word.startswith("-") or not path.is_file() or path.stat().st_size > LARGEST:
            return False
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return False
    return isinstance(tree, dict) and "explore" in tree


def _print_facts(facts: dict[str, str]) -> None:
    for name, value in facts.items():
        print(textwrap.fill(value, 80, initial_indent=f"  {name:<10}", subsequent_indent=" " * 12))


def _print_warnings(problems: Problems) -> None:
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    for warning in problems.warnings:
        console.print(_line(warning))
    sys.stderr.flush()


def _line(warning: Problem) -> Text:
    return Text.assemble(("warning: ", "bold yellow"), str(warning))
