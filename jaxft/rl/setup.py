"""Setting up: from a recipe to an environment, an agent and a network, everything checked before the first compile."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import numpy as np
import optax
import yaml

from jaxft import draws, prng, recipe
from jaxft.errors import Problems, UserError
from jaxft.mesh import devices
from jaxft.recipe import Recipe
from jaxft.rl import agents, envs
from jaxft.rl.agents.base import Agent
from jaxft.rl.agents.table import TableNetwork
from jaxft.rl.alphazero import THRESHOLDS, BoardPlayer, SelfPlayProgram
from jaxft.rl.encoder import Encoder
from jaxft.rl.env import Box, Env
from jaxft.rl.networks import Mlp, Network
from jaxft.rl.program import Program
from jaxft.rl.recipe import RlRecipe
from jaxft.rl.rollout import Words
from jaxft.train import optim
from jaxft.train.partition import Flat

TRAINING, EVALUATION = 0, 1
"""What of the environment stream is for what."""


@dataclass(frozen=True)
class Setup:
    """What a run consists of. judge: the environment of evaluations, another split of the data where there are splits.
    threshold: mean return to converge to; none where the run just goes on. iterations: of a
    seed. per_round: of them between evaluations."""

    recipe: RlRecipe
    env: Env
    judge: Env
    agent: Agent
    network: Network
    optimiser: optax.GradientTransformation
    threshold: float | None
    iterations: int
    per_round: int

    @property
    def steps_an_iteration(self) -> int:
        return self.recipe.rl.num_envs * self.recipe.rl.rollout

    @property
    def rounds(self) -> int:
        """Evaluations after the first step."""
        return -(-self.iterations // self.per_round)

    def steps(self, round: int) -> int:
        """Environment steps of a seed after so many rounds."""
        return min(round * self.per_round, self.iterations) * self.steps_an_iteration

    @property
    def seeds(self) -> range:
        """The seed of each run, as `seed` of a recipe for it alone would have it."""
        return range(self.recipe.seed, self.recipe.seed + self.recipe.rl.seeds)

    def stream_seeds(self, seed: int) -> dict[str, int]:
        """Stream -> seed in force, of the run with that seed."""
        return recipe.stream_seeds(dataclasses.replace(self.recipe, seed=seed))

    def words(self, seed: int) -> Words:
        """Streams of the run with that seed, on the device."""

        def of(name: str) -> jax.Array:
            return prng.device_words(prng.stream(name, self.stream_seeds(seed)[name]))

        world = of("environment")
        return Words(of("explore"), of("order"), draws.fold_in(world, TRAINING), draws.fold_in(world, EVALUATION))

    def parameters(self, seed: int) -> tuple[Flat, Flat]:
        """Initial (trainable, frozen) parameters of the run with that seed. Raises UserError where those of
        `rl.begin_with` are of another network."""
        trainable, frozen = self.network.init(prng.stream("init", self.stream_seeds(seed)["init"]))
        if not self.recipe.rl.begin_with:
            return trainable, frozen
        own, given = trainable | frozen, self._given
        if {path: leaf.shape for path, leaf in own.items()} != {path: leaf.shape for path, leaf in given.items()}:
            what = f"the agent in {self.recipe.rl.begin_with} has another network than this {self.recipe.rl.agent}"
            raise UserError("rl.begin_with", what, "the same rl.network, and an agent with the same outputs")
        return {path: given[path] for path in trainable}, {path: given[path] for path in frozen}

    @cached_property
    def _given(self) -> Flat:
        """Parameters of the agent to begin with."""
        from jaxft.rl import export  # which sets up what it reads

        saved = export.read(self.recipe.rl.begin_with)
        return {path: np.asarray(leaf) for path, leaf in (saved.trainable | saved.frozen).items()}

    def program(self) -> Program | SelfPlayProgram:
        if isinstance(self.agent, BoardPlayer):
            return SelfPlayProgram(self.recipe, self.agent, self.optimiser)
        mesh = devices.choose(self.recipe.mesh.data, self.recipe.train.micro_batches)
        return Program(self.recipe, self.env, self.judge, self.agent, self.optimiser, self.threshold, mesh)


def set_up(chosen: RlRecipe) -> Setup:
    """Checks the recipe and makes what it names. Raises UserError."""
    recipe.check(chosen)
    rl = chosen.rl
    env = make_env(chosen)
    agents.check(chosen, env)
    plays = rl.agent == "alphazero"
    own = THRESHOLDS[rl.env] if plays else env.threshold
    threshold = rl.threshold if rl.threshold is not None else own
    if rl.stop and threshold is None:
        what = f"{rl.env} names no mean return at which it counts as solved, so nothing tells when to stop"
        raise UserError("rl.threshold", what, "set it, or set rl.stop to false")
    network: Any = BoardPlayer(chosen, env) if plays else make_network(chosen, env)
    agent: Any = network if plays else agents.make(chosen, env, network)
    iterations = rl.steps // (rl.num_envs * rl.rollout)
    optimiser = optim.make(chosen.optim, iterations * agent.num_updates)
    per_round = max(1, rl.eval_every // (rl.num_envs * rl.rollout))
    judge = make_env(chosen, "dev") if hasattr(env, "split") else env
    setup = Setup(chosen, env, judge, agent, network, optimiser, threshold, iterations, per_round)
    if rl.begin_with:
        setup.parameters(chosen.seed)  # raises where there are none
    return setup


def make_env(chosen: RlRecipe, split: str | None = None) -> Env:
    """The environment of a recipe, with its options, its model and its data. split: instead of the training data.

    Raises UserError.
    """
    rl, family = chosen.rl, envs.check(chosen.rl.env)
    takes = list(inspect.signature(family.make).parameters)[1:]
    settings = _options(rl.options, takes)
    if "model" in takes:
        settings.setdefault("model", chosen.model)
    if "data" in takes and chosen.data.train:
        settings["data"] = Recipe(task="classify", model=chosen.model, data=chosen.data)
    if split is not None:
        settings["split"] = split
    return family.make(rl.env, **settings)


def _options(text: str, takes: list[str]) -> dict[str, Any]:
    """name=value, name=value as a dict; values are read as in YAML. Raises UserError."""
    settings, problems = {}, Problems()
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        near = difflib.get_close_matches(name, takes, n=1)
        if not equals:
            problems.add("rl.options", f"{part!r} has no value", "name=value, separated by commas")
        elif name not in takes:
            known = f"known: {', '.join(takes)}" if takes else "it takes none"
            problems.add("rl.options", f"no such option: {name!r}", f"did you mean `{near[0]}`?" if near else known)
        else:
            settings[name] = yaml.safe_load(value)
    problems.raise_if_any()
    return settings


def make_network(chosen: RlRecipe, env: Env) -> Network:
    """The network of a recipe. Raises UserError where it cannot read what the environment shows."""
    shown = observation_of(env)
    continuous = isinstance(env.actions, Box)
    head = agents.head_of(chosen.rl.agent)
    head = "gaussian" if continuous and head == "policy" else head
    outputs = env.actions.size if isinstance(env.actions, Box) else env.actions.count
    if isinstance(shown, dict) != (chosen.rl.network.kind == "bert"):
        what = f"{chosen.rl.env} shows {'text' if isinstance(shown, dict) else 'numbers'}"
        raise UserError("rl.network.kind", what, "bert" if isinstance(shown, dict) else "mlp")
    if isinstance(shown, dict):
        return Encoder(chosen, outputs, head)
    if chosen.rl.agent == "q_learning":
        return TableNetwork(shown.shape[0], outputs)
    return Mlp(chosen.rl.network, shown.shape, outputs, head)


def observation_of(env: Env) -> Any:
    """Shape and type of an observation."""
    words = jax.ShapeDtypeStruct((2,), np.uint32)
    return jax.eval_shape(lambda words: env.reset(draws.keys(words))[1], words)
