"""`jaxft env`: versions, devices, and the seed of every stream."""

from __future__ import annotations

import json

from jaxft import prng
from jaxft.cli.main import main


def test_every_stream_has_its_seed(run, capsys):
    assert main(["env", str(run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["seeds"] == dict.fromkeys(prng.STREAMS, 0)
    assert found["cpu_threads"] >= 1 and found["packages"]["jax"]


def test_without_a_recipe_the_default_ones_are_shown(capsys):
    assert main(["env"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[lines.index("seeds") + 1].split() == ["init", "0"]


def test_no_such_recipe_is_an_error(capsys):
    assert main(["env", "nope"]) == 2
    assert "nope" in capsys.readouterr().err
