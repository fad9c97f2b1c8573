"""How fast are searches beside mctx's, on this machine?

    python benchmarks/search.py                    # about 15 minutes on two cores
    python benchmarks/search.py --only gumbel --rounds 9

One process, both programs compiled, then in turn, the order changing each round; a ratio is of the two times of one
round, and the table has the median (min-max) of rounds. The model is a hash that costs next to nothing, so the search
is what is timed; then a small network and MiniLM's encoder as models. Both give the same trees, to the bit
(search_equality.py). Writes results/search_DEVICE.json and its block of README.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import tables
from peers import machine
from search_models import encoder, hashed, mctx, network, searched

from jaxft import search

ACTIONS = 8
TURN_S = 0.1
"""Least time of a program in a round: short searches are run several times."""
MATCHED_DEPTH, GROWTH = 8, (128, 1024)
"""Of the searches whose time a simulation is compared over their number; those numbers."""


@dataclass(frozen=True)
class Case:
    """model: hash, network or encoder. goal: of the ratio; none: reported."""

    policy: str
    batch: int
    simulations: int
    goal: float | None = None
    max_depth: int | None = None
    model: str = "hash"

    @property
    def name(self) -> str:
        depth = f", depth {self.max_depth}" if self.max_depth else ""
        return f"{self.policy}, {self.model}, B {self.batch:,}, N {self.simulations:,}{depth}"


def cases() -> Iterator[Case]:
    """What is compared."""
    for policy in ("gumbel", "muzero"):
        yield Case(policy, 64, 32, 1.0)
        yield Case(policy, 64, 128, 4.5)
        yield Case(policy, 64, 512, 12.0)
        yield Case(policy, 1, 32, 1.0)
        yield Case(policy, 1, 128, 1.0)
        yield Case(policy, 1024, 32, 1.5)
        for simulations in GROWTH:
            yield Case(policy, 64, simulations, max_depth=MATCHED_DEPTH)
        yield Case(policy, 64, 128, model="network")
        yield Case(policy, 8, 32, model="encoder")


def prepared(case: Case) -> tuple[dict[str, Any], tuple[Any, ...]]:
    """Searches of both, not compiled yet, and their arguments."""
    rng = np.random.default_rng(0)
    if case.model == "hash":
        params, model, state = (), hashed(ACTIONS), rng.integers(0, 2**32, case.batch, np.uint32)
    elif case.model == "network":
        params, model = network(ACTIONS)
        state = rng.normal(size=(case.batch, params["on"].shape[0])).astype(np.float32)
    else:
        params, model = encoder(ACTIONS)
        state = np.full((case.batch, 16), 101, np.int32)
    logits = rng.normal(size=(case.batch, ACTIONS)).astype(np.float32)
    value = rng.normal(size=case.batch).astype(np.float32)
    settings = {"num_simulations": case.simulations, "max_depth": case.max_depth}
    both = {
        name: jax.jit(searched(module, case.policy, model, **settings))
        for name, module in (("jaxft", search), ("mctx", mctx))
    }
    return both, jax.device_put((params, jax.random.key(0), state, logits, value))


def in_turn(programs: dict[str, Any], arguments: dict[str, Any], rounds: int) -> dict[str, list[float]]:
    """Seconds of one run of each program in each round, the order changing from round to round."""
    repeats = {}
    for name, program in programs.items():
        jax.block_until_ready(program(*arguments[name]))
        since = time.perf_counter()
        jax.block_until_ready(program(*arguments[name]))
        repeats[name] = max(1, round(TURN_S / (time.perf_counter() - since)))
    times: dict[str, list[float]] = {name: [] for name in programs}
    for number in range(rounds):
        for name in list(programs)[:: 1 if number % 2 else -1]:
            since = time.perf_counter()
            for _ in range(repeats[name]):
                jax.block_until_ready(programs[name](*arguments[name]))
            times[name].append((time.perf_counter() - since) / repeats[name])
    return times


def spread(numbers: list[float]) -> dict[str, float]:
    """Median, least, greatest."""
    return {"median": statistics.median(numbers), "min": min(numbers), "max": max(numbers)}


def measure(case: Case, rounds: int) -> dict[str, Any]:
    """Microseconds a simulation, seconds to compile, and ratios of both."""
    both, arguments = prepared(case)
    compile_s: dict[str, float] = {}
    programs = {}
    for name, function in both.items():
        since = time.perf_counter()
        programs[name] = function.lower(*arguments).compile()
        compile_s[name] = time.perf_counter() - since
    times = in_turn(programs, dict.fromkeys(programs, arguments), rounds)
    ratios = [theirs / ours for theirs, ours in zip(times["mctx"], times["jaxft"], strict=True)]
    us = {name: statistics.median(values) / case.simulations * 1e6 for name, values in times.items()}
    return {"name": case.name, "goal": case.goal, "us": us, "ratio": spread(ratios), "compile_s": compile_s}


def growth(policy: str, rounds: int) -> dict[str, dict[str, float]]:
    """Time a simulation at the greater number of simulations over that at the lesser, at the same depth."""
    programs, arguments = {}, {}
    for count in GROWTH:
        both, given = prepared(Case(policy, 64, count, max_depth=MATCHED_DEPTH))
        for name, function in both.items():
            programs[f"{name} {count}"], arguments[f"{name} {count}"] = function, given
    times = in_turn(programs, arguments, rounds)
    few, many = GROWTH
    return {
        name: spread(
            [b / many / (a / few) for a, b in zip(times[f"{name} {few}"], times[f"{name} {many}"], strict=True)]
        )
        for name in ("jaxft", "mctx")
    }


def shown(results: list[dict[str, Any]], grown: dict[str, Any]) -> str:
    """The tables."""
    head = ["search", "mctx, µs a simulation", "jaxft", "ratio: median (min–max)", "goal", "compile, s: mctx", "jaxft"]
    rows = []
    for one in results:
        goal = "—"
        if one["goal"] is not None:
            goal = f"{one['goal']:.1f} {'✓' if one['ratio']['median'] >= one['goal'] else '✗'}"
        us, compile_s = one["us"], one["compile_s"]
        ratio = f"**{tables.spread(one['ratio'], 2)}**"
        numbers = [f"{us['mctx']:,.1f}", f"{us['jaxft']:,.1f}", ratio, goal]
        rows.append([one["name"], *numbers, f"{compile_s['mctx']:.1f}", f"{compile_s['jaxft']:.1f}"])
    text = tables.markdown(head, rows)
    for policy, told in grown.items():
        what = f"Time a simulation from N {GROWTH[0]:,} to N {GROWTH[1]:,} at depth {MATCHED_DEPTH}, {policy}"
        ours, theirs = (tables.spread(told[name], 2) for name in ("jaxft", "mctx"))
        text += f"\n\n{what}: jaxft × {ours} (goal ≤ 1.50), mctx × {theirs}."
    total = {name: sum(one["compile_s"][name] for one in results) for name in ("jaxft", "mctx")}
    return text + f"\n\nTo compile all of them: jaxft {total['jaxft']:.0f} s, mctx {total['mctx']:.0f} s."


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="", help="searches whose name contains this; README.md then stays as it is")
    options = parser.parse_args()
    results = []
    for case in cases():
        if options.only in case.name:
            results.append(measure(case, options.rounds))
            one = results[-1]
            us = {name: round(value, 1) for name, value in one["us"].items()}
            print(one["name"], us, f"{one['ratio']['median']:.2f}", flush=True)
    grown = {} if options.only else {policy: growth(policy, options.rounds) for policy in ("gumbel", "muzero")}
    text = shown(results, grown)
    print(text)
    if options.only:
        return
    device, versions = machine.gpu() or machine.cpu(), machine.versions("jax", "jaxlib", "mctx")
    tree = {"date": machine.today(), "device": device, "versions": versions, "rounds": options.rounds}
    path = tables.RESULTS / f"search_{machine.slug(device)}.json"
    path.write_text(json.dumps(tree | {"results": results, "growth": grown}, indent=1) + "\n", "utf-8")
    where = f"{device}, {machine.today()}, jax {versions['jax']}, mctx {versions['mctx']}; {options.rounds} rounds."
    tables.fill("search", f"{where}\n\n{text}")


if __name__ == "__main__":
    main()
