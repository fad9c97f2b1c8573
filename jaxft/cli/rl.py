"""`jaxft rl RECIPE [--key value ...]`: reinforcement learning; `--list` names what there is; `--replay RUN` watches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import tyro

from jaxft import arguments, overrides, recipes
from jaxft import recipe as recipe_module
from jaxft.cli.train import to_the_end
from jaxft.rl.recipe import RlRecipe

HELP = "learns by reinforcement as a recipe says; writes curves, report and agent"


@dataclass(frozen=True)
class Rl(overrides.WithRecipe):
    """Learns by reinforcement as a recipe says. Every key can be overridden: --rl.seeds 3 --rl.explore.end 0.01

    In the folder of an unfinished run it goes on with that run, from its last checkpoint. Two other uses:
    `jaxft rl --list` names environments, agents and recipes; `jaxft rl --replay RUN` plays what a run learned.
    """

    keys: Annotated[  # type: ignore[assignment]
        RlRecipe, tyro.conf.arg(name=""), overrides.RECIPE_KEY
    ] = field(default_factory=RlRecipe)
    overwrite: bool = False
    """Replace the run that is in the folder."""
    quiet: bool = False
    """Print nothing but problems."""

    SHIPPED: ClassVar[str] = recipes.RL


@dataclass(frozen=True)
class Replay:
    """Plays what a run learned, greedily, and draws an episode."""

    replay: str
    """The run folder, or its model/."""
    episodes: int = 100
    """How many are played for the mean."""
    seed: int = 1
    """Of the episodes' starts and chances."""
    picture: str = ""
    """Where to draw the first episode: a .gif that moves or a .png strip; empty: episode.gif beside the report."""


def main(argv: Sequence[str]) -> int:
    """Runs the command; 0 on success. Raises UserError, and KeyboardInterrupt with a word on what is left."""
    if list(argv) == ["--list"]:
        return _list()
    if any(arg.partition("=")[0] == "--replay" for arg in argv):
        from jaxft.rl.watch import watch

        asked = arguments.parse(Replay, argv, "jaxft rl")
        print(watch(asked.replay, asked.episodes, asked.seed, asked.picture))
        return 0
    args = overrides.parse(Rl, argv, "jaxft rl")
    recipe_module.check(args.keys)
    from jaxft.rl.run import run

    return to_the_end(run, args)


def _list() -> int:
    from jaxft.rl import agents, envs

    parts = {
        "environments": envs.names(),
        "agents": agents.LINES,
        "recipes": {name: f"jaxft rl {name}" for name in recipes.names(recipes.RL)},
    }
    for title, lines in parts.items():
        width = max(map(len, lines))
        print(f"{title}:", *(f"  {name:<{width}}  {line}" for name, line in lines.items()), "", sep="\n")
    return 0
