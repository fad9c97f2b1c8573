"""jaxft's side of `rl.py`: stepping alone, and whole training, as programs that can be run a stretch at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxft.prng import stream
from jaxft.rl import crowd, policies
from jaxft.rl import rollout as rollouts
from jaxft.rl.envs import control
from jaxft.rl.networks import Mlp
from jaxft.rl.policies import Choice
from jaxft.rl.recipe import Network, Ppo, Rl, RlOptim, RlRecipe, Train
from jaxft.rl.rollout import Seen
from jaxft.rl.setup import set_up

PPO_STEPS = 500_000
RECIPE = RlRecipe(
    rl=Rl(
        env="cartpole", agent="ppo", steps=PPO_STEPS, num_envs=4, rollout=128,
        ppo=Ppo(epochs=4, clip=0.2, gae_lambda=0.95, value_weight=0.5, entropy_weight=0.01),
    ),
    train=Train(batch_size=128),
    optim=RlOptim(learning_rate=2.5e-4, schedule="linear", clip_norm=0.5),
)  # fmt: skip
"""What purejaxrl's PPO has for CartPole: 4 x 128 steps an iteration, 4 passes over 4 batches, tanh 64-64 twice."""
STEPS_AN_ITERATION = RECIPE.rl.num_envs * RECIPE.rl.rollout


def stepper(policy: str, count: int, steps: int) -> tuple[Any, Callable[[Any], Any]]:
    """(what it begins with, what it was carried to and kept from that) of stepping alone. policy: random | network."""
    env, words = control.make("cartpole"), set_up(RECIPE).words(0)
    network = Mlp(Network(width=64, depth=2, activation="tanh"), (4,), 2, "values")
    trainable, frozen = network.init(stream("init", 0))
    params = jax.tree.map(jnp.asarray, trainable)

    def act(seen: Seen, chosen_by: Array) -> tuple[Choice, Array]:
        none = jnp.zeros((count,), jnp.float32)
        logits = jnp.zeros((count, 2), jnp.float32)
        if policy == "network":
            logits = network.apply(params, frozen, seen.observation).values
        return policies.choose(chosen_by, jax.nn.log_softmax(logits)), none

    def collect(actors: rollouts.Actors) -> Any:
        return rollouts.rollout(env, act, lambda action: action, actors, steps, words)

    begun = jax.jit(rollouts.begin, static_argnums=0)(env, jnp.arange(count, dtype=jnp.uint32), words.environment)
    return begun, jax.jit(collect)


class Training:
    """PPO of so many seeds. numerics: as in recipes."""

    def __init__(self, seeds: int, numerics: Any) -> None:
        self.setup = set_up(replace(RECIPE, rl=replace(RECIPE.rl, seeds=seeds), numerics=numerics))
        self.runs = crowd.of(self.setup)

    @property
    def steps_an_iteration(self) -> int:
        """Of all seeds."""
        return self.setup.steps_an_iteration * len(self.setup.seeds)

    def run(self, iterations: int) -> None:
        """So many of each seed, to their end."""
        self.runs.advance(self.setup.seeds, iterations)
