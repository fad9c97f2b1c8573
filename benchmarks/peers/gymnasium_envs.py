"""Steps of gymnasium's CartPole-v1, many at once, with NumPy alone: no framework is loaded, so its processes may fork.

    sync      SyncVectorEnv: one after another in this process
    async     AsyncVectorEnv: a process each
    vector    gymnasium's own vectorised CartPole: NumPy over all of them

Actions are random or drawn from a tanh network of NumPy. Episodes begin again at once, but in `vector`, which knows
only to spend a step on it; those steps count.
"""

from __future__ import annotations

import argparse
import time

import gymnasium
import machine
import numpy as np
import protocol

NAME, WIDTH = "CartPole-v1", 64


class Stepper:
    """Environments under way, as a `Trainer` of protocol.py: a step is one of each of them."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.kind, self.count = options.kind, options.envs
        self.envs = make(options.kind, options.envs)
        self.seen, _ = self.envs.reset(seed=0)
        self.rng = np.random.default_rng(0)
        self.layers = layers(self.rng) if options.policy == "network" else None

    def run(self, steps: int) -> tuple[float, int, int]:
        """(seconds, environment steps, the same)."""
        start = time.perf_counter()
        for _ in range(steps):
            self.seen, *_ = self.envs.step(self.actions())
        return time.perf_counter() - start, steps * self.count, steps * self.count

    def actions(self) -> np.ndarray:
        """int64 [n]."""
        if self.layers is None:
            return self.rng.integers(0, 2, self.count)
        x = self.seen
        for kernel, bias in self.layers[:-1]:
            x = np.tanh(x @ kernel + bias)
        logits = x @ self.layers[-1][0] + self.layers[-1][1]
        return np.argmax(logits + self.rng.gumbel(size=logits.shape), axis=-1)  # a draw from softmax(logits)

    def setting(self) -> str:
        return f"{self.kind}, {self.count} environments"

    def device_name(self) -> str:
        return machine.cpu()

    def peak_device_mb(self) -> float | None:
        return None


def make(kind: str, count: int) -> gymnasium.vector.VectorEnv:
    """So many environments."""
    if kind == "vector":
        return gymnasium.make_vec(NAME, num_envs=count, vectorization_mode="vector_entry_point")
    settings = {"autoreset_mode": gymnasium.vector.AutoresetMode.SAME_STEP}
    return gymnasium.make_vec(NAME, num_envs=count, vectorization_mode=kind, vector_kwargs=settings)


def layers(rng: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    """(kernel, bias) f32 of 4 -> 64 -> 64 -> 2."""
    sizes = (4, WIDTH, WIDTH, 2)
    return [
        (rng.normal(0, before**-0.5, (before, after)).astype(np.float32), np.zeros(after, np.float32))
        for before, after in zip(sizes[:-1], sizes[1:], strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=["sync", "async", "vector"], required=True)
    parser.add_argument("--envs", type=int, required=True)
    parser.add_argument("--policy", choices=["random", "network"], required=True)
    parser.add_argument("--serve", action="store_true", required=True, help="be a worker: commands on standard input")
    options = parser.parse_args()
    protocol.serve(lambda: Stepper(options), "gymnasium", "numpy")


if __name__ == "__main__":
    main()
