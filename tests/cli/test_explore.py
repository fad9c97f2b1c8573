"""`jaxft explore` as it is typed. What an exploration does: tests/explore."""

from __future__ import annotations

from typing import Any

import pytest

from jaxft import recipes
from jaxft.cli import explore
from jaxft.cli.main import main
from jaxft.explore.searchers import SEARCHERS


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, dict[str, Any]]]:
    """(recipe, options) of each exploration that would be run."""
    found: list[tuple[Any, dict[str, Any]]] = []
    monkeypatch.setattr("jaxft.explore.run.run", lambda chosen, **options: found.append((chosen, options)))
    return found


def told(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """On standard error, of what is refused."""
    assert main(["explore", *argv]) == 2
    return capsys.readouterr().err


def test_the_list_names_every_searcher_with_its_source_and_the_recipes(capsys):
    assert main(["explore", "--list"]) == 0
    searchers, shipped = capsys.readouterr().out.removeprefix("searchers:\n").split("\nrecipes:\n")
    lines = searchers.splitlines()
    assert [line.split()[0] for line in lines] == list(SEARCHERS)
    for line, searcher in zip(lines, SEARCHERS.values(), strict=True):
        assert searcher.what in line and line.endswith(f"({searcher.source})" if searcher.source else searcher.what)
    names = recipes.names(recipes.EXPLORE)
    assert [line.split() for line in shipped.split("\n") if line] == [
        [name, "jaxft", "explore", name] for name in names
    ]


def test_without_a_recipe_the_embedded_one_is_explored_and_named(asked, capsys):
    assert main(["explore"]) == 0
    assert explore.DEFAULT in recipes.names(recipes.EXPLORE)
    assert capsys.readouterr().out == f"no recipe named: this is `jaxft explore {explore.DEFAULT}`\n"
    assert main(["explore", explore.DEFAULT]) == 0
    assert capsys.readouterr().out == ""
    (first, options), (second, _) = asked
    assert first == second and options == {"overwrite": False, "quiet": False}


def test_keys_can_be_overridden(asked):
    changes = ["--explore.rivals", "[beam, tpe]", "--explore.budget", "2000", "--explore.segments", "3"]
    changes += ["--explore.strategies", "[{dropout: 0.3}]", "--explore.grid.learning_rate", "[0.5, 2]"]
    assert main(["explore", "sms_spam", *changes, "--overwrite", "--quiet"]) == 0
    chosen, options = asked[0]
    assert options == {"overwrite": True, "quiet": True}
    found = chosen.explore
    assert (found.rivals, found.budget, found.segments) == (("beam", "tpe"), 2000, 3)
    assert [one.dropout for one in found.strategies] == [0.3] and found.grid.learning_rate == (0.5, 2.0)


def test_an_unknown_recipe_is_answered_with_the_nearest(asked, capsys):
    assert told(["sms_spm"], capsys) == (
        "error: sms_spm: neither a recipe file nor a shipped recipe — did you mean `sms_spam`?\n"
    )
    far = told(["nothing_like_it"], capsys)
    assert "shipped: " in far and "`jaxft explore --list` names searchers" in far
    assert not asked


def test_options_without_a_recipe_are_told_what_ships(asked, capsys):
    assert "no recipe named — shipped: " in told(["--explore.budget", "100"], capsys)


def test_what_is_wrong_is_told_before_anything_runs(asked, capsys):
    argv = ["sms_spam", "--explore.searcher", "mtcs", "--explore.rivals", "[grids]", "--explore.budget", "0"]
    lines = told(argv, capsys).splitlines()
    assert [line.split(": ")[1:3] for line in lines] == [
        ["explore.budget", "must be at least 1, is 0"],
        ["explore.searcher", "there is no searcher 'mtcs' — did you mean `mcts`?"],
        ["explore.rivals", "there is no searcher 'grids' — did you mean `grid`?"],
    ]
    assert not asked
    near = told(["sms_spam", "--explore.bugdet", "3"], capsys)
    assert "--explore.bugdet" in near and "--explore.budget" in near


def test_help_has_the_keys_with_what_they_mean(capsys):
    assert main(["explore", "--help"]) == 0
    out = capsys.readouterr().out
    for name in ("--explore.budget", "--explore.rivals", "--explore.keep-mb", "--explore.grid.freeze", "--overwrite"):
        assert name in out, name


def test_check_takes_the_recipe_of_an_exploration(capsys, tmp_path):
    path = str(recipes.find("sms_spam", recipes.EXPLORE))
    assert main(["check", path, "--explore.budget", "2000"]) == 0
    assert "4 strategies, 4 segments of 12 steps; 2,000 steps a searcher" in " ".join(capsys.readouterr().out.split())
    assert main(["check", path, "--explore.budget", "3", "--explore.metric", "acuracy"]) == 2
    errors = capsys.readouterr().err
    assert "error: explore.budget: 3 gradient steps do not pay" in errors and "did you mean `accuracy`?" in errors
    assert main(["check", path, "--explore.leafs", "3"]) == 2
    assert "leaves" in capsys.readouterr().err
    broken = tmp_path / "broken.yaml"
    broken.write_text("explore: [")
    assert main(["check", str(broken)]) == 2
    assert f"{broken}:1" in capsys.readouterr().err
