"""Setting up: from a recipe to an environment, an agent and a network, everything checked before the first compile."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import optax

from jaxft import prng, recipe
from jaxft.errors import UserError
from jaxft.mesh import devices
from jaxft.rl import agents, draws, envs
from jaxft.rl.agents.base import Agent
from jaxft.rl.agents.table import TableNetwork
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
    """What a run consists of. threshold: mean return to converge to; none where the run just goes on. iterations: of a
    seed. per_round: of them between evaluations."""

    recipe: RlRecipe
    env: Env
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
        """Initial (trainable, frozen) parameters of the run with that seed."""
        return self.network.init(prng.stream("init", self.stream_seeds(seed)["init"]))

    def program(self) -> Program:
        mesh = devices.choose(self.recipe.mesh.data, self.recipe.train.micro_batches)
        return Program(self.recipe, self.env, self.agent, self.optimiser, self.threshold, mesh)


def set_up(chosen: RlRecipe) -> Setup:
    """Checks the recipe and makes what it names. Raises UserError."""
    recipe.check(chosen)
    rl = chosen.rl
    env = envs.make(rl.env)
    agents.check(chosen, env)
    threshold = rl.threshold if rl.threshold is not None else env.threshold
    if rl.stop and threshold is None:
        what = f"{rl.env} names no mean return at which it counts as solved, so nothing tells when to stop"
        raise UserError("rl.threshold", what, "set it, or set rl.stop to false")
    network = make_network(chosen, env)
    agent = agents.make(chosen, env, network)
    iterations = rl.steps // (rl.num_envs * rl.rollout)
    optimiser = optim.make(chosen.optim, iterations * agent.num_updates)
    per_round = max(1, rl.eval_every // (rl.num_envs * rl.rollout))
    return Setup(chosen, env, agent, network, optimiser, threshold, iterations, per_round)


def make_network(chosen: RlRecipe, env: Env) -> Network:
    """The network of a recipe. Raises UserError where it cannot read what the environment shows."""
    shown = observation_of(env)
    continuous = isinstance(env.actions, Box)
    head = agents.head_of(chosen.rl.agent)
    head = "gaussian" if continuous and head == "policy" else head
    outputs = env.actions.size if isinstance(env.actions, Box) else env.actions.count
    if isinstance(shown, dict):
        what = f"{chosen.rl.env} shows text, which an MLP cannot read"
        raise UserError("rl.network.kind", what, "an environment that shows numbers")
    if chosen.rl.agent == "q_learning":
        return TableNetwork(shown.shape[0], outputs)
    return Mlp(chosen.rl.network, shown.shape, outputs, head)


def observation_of(env: Env) -> Any:
    """Shape and type of an observation."""
    words = jax.ShapeDtypeStruct((2,), np.uint32)
    return jax.eval_shape(lambda words: env.reset(draws.keys(words))[1], words)
