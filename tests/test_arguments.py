from __future__ import annotations

from dataclasses import dataclass

import pytest
import tyro

from jaxft import arguments
from jaxft.errors import UserError


@dataclass(frozen=True)
class Fetch:
    """Fetches."""

    name: tyro.conf.Positional[str]
    """What to fetch."""
    max_size: int = 3
    """In MB."""
    all: bool = False


def parse(*argv: str) -> Fetch:
    return arguments.parse(Fetch, argv, "jaxft fetch")


@pytest.mark.parametrize("option", ["--max-size", "--max_size"])
def test_both_spellings_and_both_ways_to_give_a_value(option: str):
    assert parse("x", option, "5") == parse("x", f"{option}=5") == parse(option, "5", "x") == Fetch("x", 5)
    assert parse("x", "--all").all


def test_every_unknown_option_is_told_with_the_nearest():
    with pytest.raises(UserError) as caught:
        parse("x", "--max-sise", "5", "--al", "--zebra")
    assert str(caught.value).splitlines() == [
        "jaxft fetch: --max-sise: no such option — did you mean `--max-size`?",
        "jaxft fetch: --al: no such option — did you mean `--all`?",
        "jaxft fetch: --zebra: no such option",
    ]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], ["NAME", "required"]),
        (["x", "--max-size", "big"], ["--max-size", "'big'"]),
        (["x", "--max-size"], ["--max-size", "value"]),
        (["x", "y"], ["y"]),
    ],
)
def test_what_tyro_finds_is_one_line_without_a_frame(argv: list[str], said: list[str], capsys):
    with pytest.raises(UserError) as caught:
        parse(*argv)
    line = str(caught.value)
    assert "\n" not in line and not set("│╭─|") & set(line) and line.endswith("`jaxft fetch --help` lists the options")
    assert all(word in line for word in said)
    assert capsys.readouterr() == ("", "")


def test_help_is_printed(capsys):
    with pytest.raises(SystemExit) as caught:
        parse("--help")
    assert caught.value.code == 0
    assert "In MB." in capsys.readouterr().out
