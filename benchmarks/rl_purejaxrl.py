"""Reinforcement learning wholly on the device as purejaxrl has it (Lu et al. 2022): its design and its defaults.

gymnax's own `step`, which begins the next episode by itself and computes a start for it at every step, mapped over the
environments and scanned over time; a key is split at each step, once for the action and once for the environments, and
again by gymnax; a wrapper of each environment keeps its returns. PPO with clipped values, permuted minibatches by
scans; all in one program. Many seeds are a `vmap` over the key. No code of purejaxrl's is here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

Carried = Any

ENV, PARAMS = gymnax.make("CartPole-v1")
DISCOUNT, GAE_LAMBDA, CLIP = 0.99, 0.95, 0.2
VALUE_WEIGHT, ENTROPY_WEIGHT = 0.5, 0.01
LEARNING_RATE, CLIP_NORM = 2.5e-4, 0.5


# --- environments ----------------------------------------------------------------------------------------------------


class Logged(NamedTuple):
    """An environment and what is told of it: running sums, and those of the episode that ended last."""

    env: Any
    returns: Array
    lengths: Array
    last_returns: Array
    last_lengths: Array
    steps: Array


def reset(key: Array) -> tuple[Array, Logged]:
    """(observation, state) of one environment."""
    seen, env = ENV.reset(key, PARAMS)
    none, zero = jnp.float32(0), jnp.int32(0)
    return seen, Logged(env, none, zero, none, zero, zero)


def step(key: Array, state: Logged, action: Array) -> tuple[Array, Logged, Array, Array, dict[str, Array]]:
    """(observation, state, reward, whether the episode ended, what is told) of one environment."""
    seen, env, reward, terminated, truncated, _ = ENV.step(key, state.env, action, PARAMS)
    done = terminated | truncated
    returns, lengths = state.returns + reward, state.lengths + 1
    state = Logged(
        env,
        jnp.where(done, 0.0, returns),
        jnp.where(done, 0, lengths),
        jnp.where(done, returns, state.last_returns),
        jnp.where(done, lengths, state.last_lengths),
        state.steps + 1,
    )
    told = {"returns": state.last_returns, "lengths": state.last_lengths, "steps": state.steps, "ended": done}
    return seen, state, reward, done, told


class Kept(NamedTuple):
    """What is kept of steps, [T, n]."""

    done: Array
    action: Array
    value: Array
    reward: Array
    log_prob: Array
    seen: Array
    told: dict[str, Array]


Act = Callable[[Array, Array], tuple[Array, Array, Array]]
"""(key, observations [n, 4]) -> (actions, log-probabilities, values), [n] each."""


def collect(act: Act, carried: tuple[Any, Array, Array], count: int, steps: int) -> tuple[Any, Kept]:
    """`steps` steps of `count` environments. carried: (their states, observations, key)."""

    def one(carried: tuple[Any, Array, Array], _: None) -> tuple[Any, Kept]:
        state, seen, key = carried
        key, act_key = jax.random.split(key)
        action, log_prob, value = act(act_key, seen)
        key, step_key = jax.random.split(key)
        after, state, reward, done, told = jax.vmap(step)(jax.random.split(step_key, count), state, action)
        return (state, after, key), Kept(done, action, value, reward, log_prob, seen, told)

    return jax.lax.scan(one, carried, None, steps)


def begin(key: Array, count: int) -> tuple[Any, Array, Array]:
    """Environments at the start of their first episodes, and a key."""
    key, reset_key = jax.random.split(key)
    seen, state = jax.vmap(reset)(jax.random.split(reset_key, count))
    return state, seen, key


# --- networks --------------------------------------------------------------------------------------------------------


class Tower(nn.Module):
    """4 -> 64 -> 64 -> outputs, tanh."""

    outputs: int
    gain: float = 1.0

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for _ in range(2):
            x = nn.tanh(nn.Dense(64, kernel_init=nn.initializers.orthogonal(np.sqrt(2)))(x))
        return nn.Dense(self.outputs, kernel_init=nn.initializers.orthogonal(self.gain))(x)


class ActorCritic(nn.Module):
    """(logits [B, 2], values [B])."""

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, Array]:
        return Tower(2, 0.01)(x), Tower(1)(x)[..., 0]


def drawn(key: Array, logits: Array) -> tuple[Array, Array]:
    """(actions [n], their log-probabilities) of logits [n, 2]."""
    action = jax.random.categorical(key, logits)
    return action, log_prob_of(logits, action)


def log_prob_of(logits: Array, action: Array) -> Array:
    return jnp.take_along_axis(jax.nn.log_softmax(logits), action[:, None], -1)[:, 0]


def stepper(policy: str, count: int, steps: int) -> tuple[Any, Callable[[Any], Any]]:
    """(what it begins with, what it was carried to and kept from that) of stepping alone. policy: random | network."""
    tower = Tower(2)
    params = tower.init(jax.random.key(1), jnp.zeros((1, 4)))

    def act(key: Array, seen: Array) -> tuple[Array, Array, Array]:
        logits = jnp.zeros((count, 2)) if policy == "random" else jnp.asarray(tower.apply(params, seen))
        return *drawn(key, logits), jnp.zeros(count)

    return jax.jit(begin, static_argnums=1)(jax.random.key(0), count), jax.jit(lambda c: collect(act, c, count, steps))


# --- proximal policy optimisation ------------------------------------------------------------------------------------


class Batch(NamedTuple):
    """What is learned from, [B]."""

    kept: Kept
    advantage: Array
    target: Array


@dataclass(frozen=True)
class Ppo:
    """A whole training. iterations: of collecting and learning, over which the learning rate falls to 0."""

    num_envs: int
    rollout: int
    epochs: int
    batches: int
    iterations: int

    @property
    def _optimiser(self) -> optax.GradientTransformation:
        def rate(update: Any) -> Any:
            return LEARNING_RATE * (1.0 - (update // (self.batches * self.epochs)) / self.iterations)

        return optax.chain(optax.clip_by_global_norm(CLIP_NORM), optax.adam(rate, eps=1e-5))

    def begin(self, key: Array) -> Carried:
        """(parameters, optimiser state, environments) of a seed."""
        key, init_key = jax.random.split(key)
        params = ActorCritic().init(init_key, jnp.zeros((1, 4)))
        return params, self._optimiser.init(params), begin(key, self.num_envs)

    def train(self, carried: Carried, iterations: int) -> tuple[Carried, dict[str, Array]]:
        """So many iterations; what the environments told, [iterations, T, n]."""
        return jax.lax.scan(self._iterate, carried, None, iterations)

    def _iterate(self, carried: Carried, _: Any) -> tuple[Carried, dict[str, Array]]:
        params, state, world = carried

        def act(key: Array, seen: Array) -> tuple[Array, Array, Array]:
            logits, value = _apply(params, seen)
            return *drawn(key, logits), value

        (env, seen, key), kept = collect(act, world, self.num_envs, self.rollout)
        advantage = advantages(kept, _apply(params, seen)[1])
        batch = Batch(kept, advantage, advantage + kept.value)
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)

        def epoch(carried: tuple[Any, Any, Array], _: None) -> tuple[Any, Array]:
            params, state, key = carried
            key, order_key = jax.random.split(key)
            order = jax.random.permutation(order_key, self.num_envs * self.rollout)
            parts = jax.tree.map(lambda x: x[order].reshape(self.batches, -1, *x.shape[1:]), flat)
            (params, state), losses = jax.lax.scan(self._update, (params, state), parts)
            return (params, state, key), losses

        (params, state, key), _ = jax.lax.scan(epoch, (params, state, key), None, self.epochs)
        return (params, state, (env, seen, key)), kept.told

    def _update(self, carried: tuple[Any, Any], batch: Batch) -> tuple[Any, Array]:
        params, state = carried
        loss, gradients = jax.value_and_grad(loss_of)(params, batch)
        changes, state = self._optimiser.update(gradients, state, params)
        return (optax.apply_updates(params, changes), state), loss


def _apply(params: Any, seen: Array) -> tuple[Array, Array]:
    found: Any = ActorCritic().apply(params, seen)
    return found


def advantages(kept: Kept, last: Array) -> Array:
    """Generalised advantage estimates [T, n]. last: value of what was seen at the end, [n]."""

    def back(later: tuple[Array, Array], now: Kept) -> tuple[tuple[Array, Array], Array]:
        advantage, value = later
        delta = now.reward + DISCOUNT * value * (1 - now.done) - now.value
        advantage = delta + DISCOUNT * GAE_LAMBDA * (1 - now.done) * advantage
        return (advantage, now.value), advantage

    return jax.lax.scan(back, (jnp.zeros_like(last), last), kept, reverse=True, unroll=16)[1]


def loss_of(params: Any, batch: Batch) -> Array:
    """Clipped ratios, clipped values, entropy."""
    kept = batch.kept
    logits, value = _apply(params, kept.seen)
    ratio = jnp.exp(log_prob_of(logits, kept.action) - kept.log_prob)
    advantage = (batch.advantage - batch.advantage.mean()) / (batch.advantage.std() + 1e-8)
    surrogate = jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - CLIP, 1 + CLIP) * advantage).mean()
    near = kept.value + jnp.clip(value - kept.value, -CLIP, CLIP)
    errors = jnp.maximum(jnp.square(value - batch.target), jnp.square(near - batch.target))
    log_probs = jax.nn.log_softmax(logits)
    entropy = -(jnp.exp(log_probs) * log_probs).sum(-1).mean()
    return -surrogate + VALUE_WEIGHT * 0.5 * errors.mean() - ENTROPY_WEIGHT * entropy
