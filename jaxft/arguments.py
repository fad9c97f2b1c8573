"""Command-line options parsed by tyro; what is wrong with them becomes a UserError of one line each."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import io
import re
from collections.abc import Collection, Sequence
from typing import Any, TypeVar

import tyro

from jaxft.errors import Problems, UserError

_CONFIG = (tyro.conf.FlagCreatePairsOff, tyro.conf.PositionalMetavarFromFieldName)

Command = TypeVar("Command")


def parse(
    command: type[Command], argv: Sequence[str], prog: str, options: Collection[str] = (), **settings: Any
) -> Command:
    """An instance of the dataclass `command`, whose fields are the options.

    options: dotted names of those that lie deeper. settings: for tyro. Raises UserError; `--help` prints and raises
    SystemExit, as tyro does.
    """
    known = {field.name for field in dataclasses.fields(command)} | set(options)  # type: ignore[arg-type]
    _check_known(argv, prog, known | {"help"})
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            return tyro.cli(command, prog=prog, args=list(argv), config=_CONFIG, **settings)
    except SystemExit as exit:
        if exit.code == 0:
            raise
        raise UserError(prog, _in_a_line(told.getvalue()), f"`{prog} --help` lists the options") from None


def name_of(arg: str) -> str:
    """`--train.batch-size=8` as train.batch_size."""
    return arg.removeprefix("--").partition("=")[0].replace("-", "_")


def _check_known(argv: Sequence[str], prog: str, known: set[str]) -> None:
    problems = Problems()
    for arg in argv:
        if arg.startswith("--") and name_of(arg) not in known | {""}:
            problems.add(f"{prog}: {arg.partition('=')[0]}", "no such option", _nearest(name_of(arg), known))
    problems.raise_if_any()


def _nearest(name: str, known: set[str]) -> str:
    """The nearest option, also where a section is left out or is another one."""
    last = {key.rpartition(".")[2] for key in known}
    near = difflib.get_close_matches(name, sorted(known), n=1)
    for alike in difflib.get_close_matches(name.rpartition(".")[2], sorted(last), n=1) if not near else ():
        near = sorted(key for key in known if key.rpartition(".")[2] == alike)
    return "did you mean " + " or ".join(f"`--{key.replace('_', '-')}`" for key in near) + "?" if near else ""


def _in_a_line(told: str) -> str:
    """What tyro says in the first part of its box, without the title and the frame."""
    lines = [re.sub(r"^[\s│|]+|[\s│|]+$", "", line) for line in told.splitlines()]
    body = [line for line in lines if line][1:]
    rule = next((at for at, line in enumerate(body) if at and re.fullmatch(r"[─━═╰╯+-]+", line)), len(body))
    words = " ".join(line for line in body[:rule] if not re.fullmatch(r"[─━═╭╮╰╯+-]+", line))
    return words.rstrip(".") or "the options cannot be read"
