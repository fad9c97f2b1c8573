"""What canonical numerics cost: the same steps of 8 micro-batches in canonical and in fast numerics, in turn.

    python benchmarks/canonical_cost.py               # about 10 minutes on two cores
    python benchmarks/canonical_cost.py --rounds 5

MiniLM on CoNLL-2003, packed, with dropout, f32 on CPU. One process with 8 emulated devices holds four trainers: both
numerics on 1 device and on 8. A round is one step of each, in an order that turns; ratios are of steps of one round.
Memory is what the step's largest program needs: arrays alive when it starts, and its temporary memory as XLA tells.
Writes results/canonical_cost.{json,md} and its block of README.md.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import time
from typing import Any

import jax
import numpy as np
import tables
from peers import machine

from jaxft import allocator
from jaxft.data.batches import StepBatch
from jaxft.mesh import devices
from jaxft.recipe import Data, Recipe, Train
from jaxft.train import optim, step
from jaxft.train.compiled import Compiled
from jaxft.train.setup import Setup, set_up
from jaxft.train.stepper import constants_of

DEVICES, MICRO_BATCHES = 8, 8
ALLOWED = 1.10
"""Times that a canonical step may take as long as a fast one."""


class Trainer:
    """Steps of one kind of numerics on so many devices."""

    def __init__(self, setup: Setup, numerics: Any, size: int) -> None:
        self.numerics, self.size = numerics, size
        optimiser = optim.make(setup.recipe.optim, setup.num_steps)
        trainable, frozen = setup.split()
        functions = step.make(setup.model(training=True), setup.task, optimiser, setup.partition, 0.0)
        self.compiled = Compiled(functions, devices.choose(size, MICRO_BATCHES), numerics=numerics)
        self.state = self.compiled.place(step.init(trainable, optimiser))
        self.constants = self.compiled.place(constants_of(setup, frozen))

    def step(self, batch: StepBatch) -> float:
        """Seconds of one step."""
        begin = time.perf_counter()
        self.state, info = self.compiled(self.state, batch.arrays, batch.epoch, self.constants)
        jax.block_until_ready((self.state, info))
        return time.perf_counter() - begin


def gradients_held(setup: Setup, batch: StepBatch) -> dict[str, float]:
    """Numerics -> memory beside state and constants on one device, in gradients; programs' temporary memory counts."""
    size = sum(leaf.nbytes for leaf in setup.split()[0].values())
    found = {}
    for numerics in ("canonical", "fast"):
        trainer = Trainer(setup, numerics, 1)
        most, before = 0, live_bytes()
        lookup = trainer.compiled._program

        def watched(key: tuple, jitted: Any, *arguments: Any, lookup: Any = lookup, before: int = before) -> Any:
            nonlocal most
            program = lookup(key, jitted, *arguments)
            analysis = program.memory_analysis()
            new = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
            most = max(most, live_bytes() - before + analysis.temp_size_in_bytes + new)
            return program

        trainer.compiled._program = watched  # type: ignore[method-assign]
        trainer.step(batch)
        found[numerics] = most / size
        del trainer
    return found


def live_bytes() -> int:
    return sum(array.nbytes for array in jax.live_arrays())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    allocator.tune()  # as the command line does
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={DEVICES}"  # before JAX starts its backend
    train = Train(epochs=1, batch_size=32, micro_batches=MICRO_BATCHES, row_tokens=64)
    setup = set_up(Recipe(task="tag", model="minilm", data=Data(train="conll2003", max_tokens=64), train=train))
    batches = setup.batches()
    shape = max(batches.shapes)
    steps = [batch for batch in map(batches.make, range(100)) if batch.shape == (MICRO_BATCHES, *shape[:2])]
    memory = gradients_held(setup, steps[0])
    trainers = [Trainer(setup, numerics, size) for size in (1, DEVICES) for numerics in ("canonical", "fast")]
    for trainer in trainers:
        for _ in range(2):  # compile, warm up
            trainer.step(steps[0])
    seconds: dict[tuple[str, int], list[float]] = {(t.numerics, t.size): [] for t in trainers}
    for number in range(options.rounds):
        for at in range(len(trainers)):
            trainer = trainers[(at + number) % len(trainers)]
            seconds[trainer.numerics, trainer.size].append(trainer.step(steps[number % len(steps)]))
        print(number, {f"{name} {size}": f"{s[-1]:.2f}" for (name, size), s in seconds.items()}, flush=True)
    text = report(seconds, memory, shape)
    print(text)
    (tables.RESULTS / "canonical_cost.md").write_text(text + "\n", "utf-8")
    tree = {"seconds": {f"{name}, {size}": values for (name, size), values in seconds.items()}, "gradients": memory}
    (tables.RESULTS / "canonical_cost.json").write_text(json.dumps(tree, indent=1) + "\n", "utf-8")
    tables.fill("canonical_cost", text)


def report(seconds: dict[tuple[str, int], list[float]], memory: dict[str, float], shape: tuple[int, ...]) -> str:
    """Medians, ratios with spread, memory against the bound."""
    rows = []
    for size in (1, DEVICES):
        ratios = np.divide(seconds["canonical", size], seconds["fast", size])
        low, high = np.percentile(ratios, [25, 75])
        middle = statistics.median(ratios)
        medians = [f"{statistics.median(seconds[name, size]):.2f}" for name in ("fast", "canonical")]
        verdict = "holds" if middle <= ALLOWED else "**missed**"
        rows.append([str(size), *medians, f"{middle:.2f} ({low:.2f}–{high:.2f})", verdict])
    head = ["devices", "fast, s a step", "canonical, s a step", "ratio (quartiles)", f"at most {ALLOWED:.2f}"]
    bound = memory["fast"] + math.log2(MICRO_BATCHES)
    held = f"Memory on one device beside the state, in gradients: fast {memory['fast']:.2f}, canonical "
    held += (
        f"{memory['canonical']:.2f}, at most {bound:.2f}: {'holds' if memory['canonical'] <= bound else '**missed**'}."
    )
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions("jax", "jaxlib").items())
    where = (
        f"{MICRO_BATCHES} micro-batches of {shape[0]} x {shape[1]} tokens, {len(next(iter(seconds.values())))} rounds, "
    )
    return "\n\n".join([tables.markdown(head, rows), held, f"{where}{machine.cpu()}, {machine.today()}, {versions}"])


if __name__ == "__main__":
    main()
