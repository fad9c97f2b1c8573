"""Classic control on the device: the physics of gymnax 1.0, the rules of gymnasium.

Compared step by step with gymnasium 1.3 (tests/rl/test_envs.py), from the same state with the same action: next state,
observation, reward and end agree for CartPole-v1, MountainCar-v0, Acrobot-v1 and Pendulum-v1. What is left of
difference: gymnasium computes in f64, gymnax in f32 (less than 1e-5 a step); an angle of the acrobot that is pi to the
bit is -pi here, which no observation shows; first states are drawn from the same distributions with other generators.
Corrected here: gymnax takes a force on the reacher that is outside of its action space as it is; here it counts as the
nearest inside, as in gymnasium's pendulum. Left out: gymnax's own start of the next episode, and its gradients.

The reacher has no counterpart in gymnasium (which needs MuJoCo for its own): two joints, each at its own angle to the
x axis, pushed to reach a goal, for exp(-squared distance) a step. Goals are uniform in a square, so some are out of
reach.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxft.errors import UserError
from jaxft.rl.env import Box, Discrete, Outcome


class _Known(NamedTuple):
    gymnax: str
    actions: Discrete | Box
    threshold: float | None
    max_steps: int
    line: str


_KNOWN = {
    "cartpole": _Known("CartPole-v1", Discrete(2), 475.0, 500, "balance a pole on a cart; 1 a step"),
    "mountain_car": _Known("MountainCar-v0", Discrete(3), -110.0, 200, "rock a weak car out of a valley; -1 a step"),
    "acrobot": _Known("Acrobot-v1", Discrete(3), -100.0, 500, "swing two links up by the joint between; -1 a step"),
    # gymnasium names no threshold. Agents that RL Zoo publishes for it report means of -174 to -196 (SAC, TD3) and
    # -230 (PPO), each with a spread of about 100 between episodes: the start decides most of it.
    "pendulum": _Known("Pendulum-v1", Box((-2.0,), (2.0,)), -200.0, 200, "swing a pendulum up and hold it; continuous"),
    # Nobody has named one.
    "reacher": _Known(
        "Reacher-misc", Box((-1.0,) * 2, (1.0,) * 2), None, 100, "bring two joints to a goal; continuous"
    ),
}

NAMES = {name: known.line for name, known in _KNOWN.items()}


def make(name: str) -> Control:
    """One of `NAMES`. gymnax, which brings matplotlib and seaborn with it, is imported here; UserError where it is
    missing."""
    _gymnax(name)
    known = _KNOWN[name]
    return Control(name, known.actions, known.threshold, known.max_steps)


@dataclass(frozen=True)
class Control:
    """An environment of gymnax. A state is gymnax's own: a dataclass of f32 numbers, and `time`, the steps taken."""

    name: str
    actions: Discrete | Box
    threshold: float | None
    max_steps: int

    def reset(self, key: Array) -> tuple[Any, Array]:
        env, params = _gymnax(self.name)
        with lenient():
            observation, state = env.reset_env(key, params)
        return strong(state), strong(observation)

    def step(self, state: Any, action: Array, key: Array) -> Outcome:
        env, params = _gymnax(self.name)
        if isinstance(self.actions, Box):
            low, high = (jnp.asarray(bound, jnp.float32) for bound in (self.actions.low, self.actions.high))
            action = jnp.clip(action, low, high)
        with lenient():
            observation, state, reward, terminated, _ = env.step_env(key, state, action, params)
            truncated = env.is_truncated(state, params)
        return strong(Outcome(state, observation, reward, terminated, truncated))


@cache
def _gymnax(name: str) -> tuple[Any, Any]:
    """gymnax's environment and its parameters, without the arrays of a trace that may be under way."""
    with jax.ensure_compile_time_eval(), lenient():
        try:
            import gymnax
        except ModuleNotFoundError as error:
            if error.name != "gymnax":
                raise
            raise UserError("rl.env", "gymnax is not installed", 'pip install "jaxft[control]"') from None
        return gymnax.make(_KNOWN[name].gymnax)


@contextmanager
def lenient() -> Iterator[None]:
    """Types and ranks of operands as NumPy lets them be: for code of others."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def strong(tree: Any) -> Any:
    """The same numbers as f32, i32 and bool whose types are not weak, so that a scan may carry them."""

    def one(leaf: Any) -> Array:
        leaf = jnp.asarray(leaf)
        if leaf.dtype == jnp.bool_:
            return leaf
        kind = jnp.float32 if jnp.issubdtype(leaf.dtype, jnp.floating) else jnp.int32
        return jax.lax.convert_element_type(leaf, kind)

    return jax.tree.map(one, tree)
