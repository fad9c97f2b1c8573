"""Host or device: how long a segment of training takes where the host hands out its steps, and where the device loops.

    python benchmarks/explore_place.py          # about 6 minutes on two cores

For models of several sizes: segments of 10 steps and a look at the search split, the same path in both worlds, in turn
within a round; compiling is told apart. Writes results/explore_place.json and its block of README.md.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tables

from jaxft import compilation
from jaxft.explore.on_device import OnDevice
from jaxft.explore.world import Training
from jaxft.recipe import Data, Optim, Recipe, Train
from jaxft.report.env import environment
from jaxft.strategy import Strategy
from jaxft.train.setup import set_up

RESULTS = Path(__file__).parent / "results"
DEPTH, SEGMENT_STEPS = 3, 10
STRATEGIES = (Strategy(), Strategy(learning_rate=3.0, freeze="encoder"))
SIZES = {
    "head alone, 1 layer, batch 4": (1, 4, 1),
    "1 layer, batch 4": (1, 4, 0),
    "1 layer, batch 16": (1, 16, 0),
    "2 layers, batch 16": (2, 16, 0),
    "6 layers, batch 16": (6, 16, 0),
}
"""Layers, examples a step, the strategy."""


def measure(layers: int, batch_size: int, action: int, rounds: int) -> dict[str, Any]:
    """Seconds of a segment with its look, round by round, in both places; and of compiling."""
    data = Data(train="trec", dev=0.1, test=0.2, search=0.02, limit=100, max_tokens=24)
    train = Train(steps=DEPTH * SEGMENT_STEPS, batch_size=batch_size, layers=layers)
    setup = set_up(Recipe(data=data, train=train, optim=Optim(learning_rate=1e-3)), STRATEGIES)
    shape: dict[str, Any] = {"depth": DEPTH, "segment_steps": SEGMENT_STEPS, "metric": "accuracy"}
    there = OnDevice(setup, STRATEGIES, **shape)
    both = jax.jit(lambda run, action: (lambda after: (after, there.look(after)))(there.segment(run, action)))
    number, since = jnp.int32(action), time.perf_counter()
    program = both.lower(there.initial(), number).compile()
    compile_s = {"device": time.perf_counter() - since}
    here = Training(setup, STRATEGIES, **shape)
    since = time.perf_counter()
    here.scores((action,))
    compile_s["host, the first segment included"] = time.perf_counter() - since
    root, seconds = there.initial(), {"host": [], "device": []}
    for _ in range(rounds):
        again = Training.__new__(Training)
        again.__dict__.update(here.__dict__, _kept=type(here._kept)(), _scores={})
        since = time.perf_counter()
        again.scores((action,))
        seconds["host"].append(time.perf_counter() - since)
        since = time.perf_counter()
        jax.block_until_ready(program(root, number))
        seconds["device"].append(time.perf_counter() - since)
    return {"seconds": seconds, "compile_s": compile_s}


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    compilation.keep()
    found, rows = {}, []
    for name, size in SIZES.items():
        one = found[name] = measure(*size, args.rounds)
        host, device = (np.array(one["seconds"][place]) for place in ("host", "device"))
        ratio = np.median(host / device)
        rows.append([name, f"{np.median(host):.2f}", f"{np.median(device):.2f}", f"**{ratio:.2f}**"])
        print(*rows[-1], flush=True)
    tree: dict[str, Any] = {"environment": environment(), "found": found}
    (RESULTS / "explore_place.json").write_text(json.dumps(tree, indent=1) + "\n", encoding="utf-8")
    head = ["a segment of 10 steps, and a look", "host, s", "device, s", "host / device"]
    tables.fill(
        "explore-place", f"{environment()['cpu']}, {args.rounds} rounds, medians.\n\n{tables.markdown(head, rows)}"
    )


if __name__ == "__main__":
    main()
