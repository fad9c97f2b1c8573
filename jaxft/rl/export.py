"""A learned agent on the disk and back: `model/` with its weights, as safetensors, and agent.json, which tells how they
are used. Of an encoder it is a folder that `transformers` opens."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from jaxft import recipe
from jaxft.errors import UserError
from jaxft.report.run_folder import RunFolder
from jaxft.rl.encoder import Encoder
from jaxft.rl.env import Discrete, Env
from jaxft.rl.loop import Course
from jaxft.rl.recipe import RlRecipe
from jaxft.rl.setup import Setup, set_up
from jaxft.train.partition import Flat

WEIGHTS, AGENT = "model.safetensors", "agent.json"
FORMAT = 1


class Saved(NamedTuple):
    """An agent as it was exported."""

    setup: Setup
    trainable: Flat
    frozen: Flat
    facts: dict[str, Any]


def write(setup: Setup, course: Course, folder: RunFolder) -> None:
    """The best parameters of a seed."""
    folder.model.mkdir(exist_ok=True)
    if isinstance(setup.network, Encoder):
        frozen = setup.parameters(course.seed)[1]
        setup.network.save(folder.model, course.params, frozen, action_names(setup.env))
    else:
        tensors = {"/".join(path): np.ascontiguousarray(leaf) for path, leaf in course.params.items()}
        save_file(tensors, str(folder.model / WEIGHTS), metadata={"format": "np"})
    alone = dataclasses.replace(setup.recipe, rl=dataclasses.replace(setup.recipe.rl, begin_with=""))
    facts = {
        "format": FORMAT,
        "env": setup.recipe.rl.env,
        "agent": setup.recipe.rl.agent,
        "seed": course.seed,
        "step": course.best_step,
        "mean_return": None if course.best is None else course.best.mean,
        "recipe": recipe.to_tree(alone),
    }
    RunFolder.write_json(folder.model / AGENT, facts)


def action_names(env: Env) -> tuple[str, ...]:
    """What the actions are called: the labels of a data set, else their numbers."""
    assert isinstance(env.actions, Discrete)
    return tuple(getattr(env, "labels", None) or map(str, range(env.actions.count)))


def read(path: str | Path) -> Saved:
    """The agent of a run or of a `model/` folder. Raises UserError."""
    folder = Path(path)
    folder = folder / "model" if (folder / "model").is_dir() else folder
    try:
        facts = json.loads((folder / AGENT).read_text("utf-8"))
        tensors = load_file(folder / WEIGHTS)  # which says so where it is damaged
    except FileNotFoundError as error:
        fix = "name the folder that `jaxft rl` wrote (`out` in its recipe)"
        raise UserError(str(path), f"holds no agent: {error.filename} is missing", fix) from None
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(str(folder), f"cannot be read: {error}") from None
    if facts.get("format") != FORMAT:
        raise UserError(str(folder / AGENT), f"has format {facts.get('format')}, this jaxft reads {FORMAT}")
    setup = set_up(recipe.from_tree(facts["recipe"], str(folder / AGENT), RlRecipe))
    if isinstance(setup.network, Encoder):
        return Saved(setup, *setup.network.load(folder), facts)
    trainable, frozen = setup.parameters(facts["seed"])
    found = {tuple(name.split("/")): leaf for name, leaf in tensors.items()}
    shapes = {path: leaf.shape for path, leaf in trainable.items()}
    if {path: leaf.shape for path, leaf in found.items()} != shapes:
        raise UserError(str(folder / WEIGHTS), "holds other parameters than the agent of agent.json has")
    return Saved(setup, found, frozen, facts)
