"""CartPole-v1 by deep Q-learning in JAX as CleanRL publishes it (dqn_jax, Huang et al. 2022): its design, its defaults.

One gymnasium environment, stepped from Python; an action from a compiled network or, with probability epsilon, at
random; each step into a replay buffer of NumPy arrays; every ten steps a compiled update on 128 of them. No code of
CleanRL's is here. Three differences, all in favour of this peer: the argmax over actions is compiled with the network,
batches are not PyTorch tensors on the way, nothing is logged to TensorBoard. One of version: gymnasium 1 instead of
0.29, told to begin the next episode at once, as 0.29 does.

    python benchmarks/peers/cleanrl_dqn.py          # a whole run on its own, with its returns
"""

from __future__ import annotations

import argparse
import random
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import gymnasium
import jax
import jax.numpy as jnp
import machine
import numpy as np
import optax
import protocol

TOTAL_STEPS = 500_000
LEARNING_RATE = 2.5e-4
BUFFER_SIZE = 10_000
DISCOUNT = 0.99
TARGET_EVERY, TARGET_SHARE = 500, 1.0
BATCH_SIZE = 128
EPSILON_START, EPSILON_END, EPSILON_STEPS = 1.0, 0.05, TOTAL_STEPS // 2
LEARNING_STARTS, LEARN_EVERY, TELL_EVERY = 10_000, 10, 100


class QNetwork(nn.Module):
    """Values of the actions: [B, 4] -> [B, 2]."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for width in (120, 84):
            x = nn.relu(nn.Dense(width)(x))
        return nn.Dense(2)(x)


class Replay:
    """The last BUFFER_SIZE transitions, each field an array of its own."""

    def __init__(self, observation: tuple[int, ...]) -> None:
        self.seen, self.following = (np.zeros((BUFFER_SIZE, *observation), np.float32) for _ in range(2))
        self.action = np.zeros(BUFFER_SIZE, np.int64)
        self.reward, self.terminated = (np.zeros(BUFFER_SIZE, np.float32) for _ in range(2))
        self.added = 0

    def add(self, seen: Any, action: Any, reward: Any, terminated: Any, following: Any) -> None:
        at = self.added % BUFFER_SIZE
        self.seen[at], self.action[at], self.reward[at] = seen[0], action[0], reward[0]
        self.terminated[at], self.following[at] = terminated[0], following[0]
        self.added += 1

    def sample(self) -> tuple[np.ndarray, ...]:
        """BATCH_SIZE transitions, with replacement."""
        rows = np.random.randint(0, min(self.added, BUFFER_SIZE), BATCH_SIZE)
        fields = (self.seen, self.action, self.reward, self.terminated, self.following)
        return tuple(field[rows] for field in fields)


class Trainer:
    """A run under way. returns: of the latest episodes."""

    def __init__(self, options: argparse.Namespace) -> None:
        random.seed(options.seed)
        np.random.seed(options.seed)
        self.stride, self.number, self.returns = options.stride, 0, deque[float](maxlen=50)
        same_step = gymnasium.vector.AutoresetMode.SAME_STEP
        self.envs = gymnasium.vector.SyncVectorEnv([make_env(options.seed)], autoreset_mode=same_step)
        self.seen, _ = self.envs.reset(seed=options.seed)
        self.replay = Replay(self.seen.shape[1:])
        network, self.optimiser = QNetwork(), optax.adam(LEARNING_RATE)
        self.network = network
        self.params = self.target = network.init(jax.random.key(options.seed), self.seen)
        self.state = self.optimiser.init(self.params)
        self.act = jax.jit(lambda params, seen: jnp.argmax(network.apply(params, seen), axis=-1))  # type: ignore[arg-type]
        self.update = jax.jit(self.learn)
        self.blend = jax.jit(lambda new, old: optax.incremental_update(new, old, TARGET_SHARE))
        self.compile()

    def compile(self) -> None:
        """Compiles all there is, so that no slice of the run has it; it counts as part of starting."""
        jax.block_until_ready(self.act(self.params, self.seen))
        batch = self.replay.seen[:BATCH_SIZE], self.replay.action[:BATCH_SIZE], self.replay.reward[:BATCH_SIZE]
        rest = self.replay.terminated[:BATCH_SIZE], self.replay.following[:BATCH_SIZE]
        jax.block_until_ready(self.update(self.params, self.target, self.state, *batch, *rest))
        jax.block_until_ready(self.blend(self.params, self.target))

    def learn(
        self, params: Any, target: Any, state: Any, seen: Any, action: Any, reward: Any, terminated: Any, following: Any
    ) -> tuple[Any, Any, jax.Array, jax.Array]:
        """One update: (parameters, optimiser state, loss, values of the actions taken [B])."""
        future = jnp.max(jnp.asarray(self.network.apply(target, following)), axis=-1)
        wanted = reward + DISCOUNT * (1 - terminated) * future

        def loss_of(params: Any) -> tuple[jax.Array, jax.Array]:
            values = jnp.asarray(self.network.apply(params, seen))
            taken = jnp.take_along_axis(values, action[:, None], axis=-1)[:, 0]
            return jnp.mean(jnp.square(taken - wanted)), taken

        (loss, taken), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
        changes, state = self.optimiser.update(gradients, state, params)
        return optax.apply_updates(params, changes), state, loss, taken

    def run(self, steps: int) -> tuple[float, int, int]:
        """(seconds, environment steps, updates). The next call goes on, or with a stride begins that many steps later
        in the schedules."""
        begin, updates = self.number, 0
        start = time.perf_counter()
        for number in range(begin, begin + steps):
            self.step(number)
            if number > LEARNING_STARTS:
                if number % LEARN_EVERY == 0:
                    batch = self.replay.sample()
                    self.params, self.state, loss, taken = self.update(self.params, self.target, self.state, *batch)
                    updates += 1
                    if number % TELL_EVERY == 0:
                        _ = float(loss), np.asarray(taken).mean()  # which would be logged
                if number % TARGET_EVERY == 0:
                    self.target = self.blend(self.params, self.target)
        jax.block_until_ready((self.params, self.target))
        seconds = time.perf_counter() - start
        self.number = begin + (self.stride or steps)
        return seconds, steps, updates

    def step(self, number: int) -> None:
        """One step of the environment, into the buffer."""
        if random.random() < epsilon(number):
            action = np.array([self.envs.single_action_space.sample()])
        else:
            action = np.asarray(self.act(self.params, self.seen))
        following, reward, terminated, truncated, info = self.envs.step(action)
        if "final_info" in info:
            self.returns.append(float(info["final_info"]["episode"]["r"][0]))
        last = following.copy()
        if truncated[0]:
            last[0] = info["final_obs"][0]
        # where an episode terminated nothing is to be had after it, so the next one's first observation may stand there
        self.replay.add(self.seen, action, reward, terminated, last)
        self.seen = following

    def setting(self) -> str:
        return "f32, one environment stepped from Python, jitted action and update"

    def device_name(self) -> str:
        device = jax.devices()[0]
        return machine.cpu() if device.platform == "cpu" else device.device_kind

    def peak_device_mb(self) -> float | None:
        return machine.jax_peak_device_mb()


def make_env(seed: int) -> Callable[[], gymnasium.Env]:
    """The environment, when called."""

    def make() -> gymnasium.Env:
        env = gymnasium.wrappers.RecordEpisodeStatistics(gymnasium.make("CartPole-v1"))
        env.action_space.seed(seed)
        return env

    return make


def epsilon(number: int) -> float:
    """Linear, then constant."""
    return max(EPSILON_START + (EPSILON_END - EPSILON_START) / EPSILON_STEPS * number, EPSILON_END)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--stride", type=int, default=0, help="steps from the beginning of a slice to that of the next")
    parser.add_argument("--serve", action="store_true", help="be a worker: commands on standard input")
    options = parser.parse_args()
    if options.serve:
        protocol.serve(lambda: Trainer(options), "jax", "jaxlib", "flax", "optax", "gymnasium", "numpy")
        return
    trainer, tenth = Trainer(options), TOTAL_STEPS // 10
    for number in range(10):
        seconds, steps, updates = trainer.run(tenth)
        told = f"{steps / seconds:,.0f} steps/s, {updates:,} updates, return {np.mean(trainer.returns):.1f}"
        print(f"{(number + 1) * tenth:,} steps: {told}", flush=True)


if __name__ == "__main__":
    main()
