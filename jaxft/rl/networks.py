"""Networks of agents: observations in, what the agent's head says out.

    values             Q(s, a): f32 [B, A]
    policy, gaussian   logits [B, A] (or means [B, D] and one log-deviation a dimension), and the value [B]

Parameters are path -> leaf, as everywhere in training; initial values are functions of the `init` stream and of the
parameter's own path.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxft import prng
from jaxft.model.initial import normal
from jaxft.rl.recipe import Network as Settings
from jaxft.train.partition import Flat, flatten, nest

ACTIVATIONS = {"tanh": nn.tanh, "relu": nn.relu}
SMALL = 0.01
"""Gain of a policy's last layer: at first all actions are about as likely (Andrychowicz et al. 2021, section 3.2)."""


class Output(NamedTuple):
    """values: [B, A], action values or logits or means. state_value: [B], nothing but zeros from a network of action
    values. log_std: [D] of a Gaussian policy, else none."""

    values: Array
    state_value: Array
    log_std: Array | None = None


class Network(Protocol):
    """A network of an agent."""

    def init(self, words: prng.Words) -> tuple[Flat, Flat]:
        """(trainable, frozen) parameters, numpy f32. words: of the `init` stream."""
        ...

    def apply(self, trainable: Flat, frozen: Flat, observation: Any) -> Output:
        """Of observations [B, ...]."""
        ...


class _Tower(nn.Module):
    """Hidden layers and an output layer: [B, ...] -> [B, outputs]."""

    width: int
    depth: int
    activation: str
    outputs: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = x.reshape(x.shape[0], -1).astype(jnp.float32)
        for layer in range(self.depth):
            x = ACTIVATIONS[self.activation](nn.Dense(self.width, name=f"hidden_{layer}")(x))
        return nn.Dense(self.outputs, name="out")(x)


class Mlp:
    """Multilayer perceptrons; a policy and its value function share nothing.

    observation: shape of one. outputs: numbers of actions, or dimensions of a continuous one.
    """

    def __init__(self, settings: Settings, observation: tuple[int, ...], outputs: int, head: str) -> None:
        """head: values | policy | gaussian."""
        self._observation, self._head = observation, head
        tower = (settings.width, settings.depth, settings.activation)
        self._towers = {"values": _Tower(*tower, outputs)}
        if head != "values":
            self._towers = {"policy": _Tower(*tower, outputs), "value": _Tower(*tower, 1)}
        self._outputs = outputs

    def init(self, words: prng.Words) -> tuple[Flat, Flat]:
        """Orthogonal kernels (Saxe et al. 2014), gain √2, of the last layer 1 or, of a policy, `SMALL`; biases 0."""
        example = jax.ShapeDtypeStruct((1, *self._observation), jnp.float32)
        flat: Flat = {}
        for name, tower in self._towers.items():
            shapes = jax.eval_shape(tower.init, jax.random.key(0), example)["params"]
            for path, leaf in flatten(shapes).items():
                gain = np.sqrt(2.0) if path[0] != "out" else SMALL if name == "policy" else 1.0
                flat[(name, *path)] = _initial((name, *path), leaf.shape, gain, words)
        if self._head == "gaussian":
            flat[("policy", "log_std")] = np.zeros((self._outputs,), np.float32)
        return flat, {}

    def apply(self, trainable: Flat, frozen: Flat, observation: Any) -> Output:
        params = nest(trainable)
        if self._head == "values":
            values: Any = self._towers["values"].apply({"params": params["values"]}, observation)
            return Output(values, jnp.zeros(observation.shape[:1], jnp.float32))
        policy = dict(params["policy"])
        log_std = policy.pop("log_std", None)
        means: Any = self._towers["policy"].apply({"params": policy}, observation)
        value: Any = self._towers["value"].apply({"params": params["value"]}, observation)
        return Output(means, value[:, 0], log_std)


def _initial(path: tuple[str, ...], shape: tuple[int, ...], gain: float, words: prng.Words) -> np.ndarray:
    if path[-1] == "bias":
        return np.zeros(shape, np.float32)
    numbers = normal(prng.path_words(words, "/".join(path)), (max(shape), min(shape)))
    q, r = np.linalg.qr(numbers)
    q = q * np.sign(np.diag(r))  # so that all orthogonal matrices are alike likely (Mezzadri 2007)
    return (gain * (q if shape[0] >= shape[1] else q.T)).astype(np.float32)
