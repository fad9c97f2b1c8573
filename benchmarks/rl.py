"""CartPole-v1: do all seeds learn, how long does that take, and how fast is it beside CleanRL, gymnasium and purejaxrl?

    python benchmarks/rl.py                        # about 7 minutes on two quiet cores
    python benchmarks/rl.py --quick                # 2 minutes; README.md and results/ stay as they are
    python benchmarks/rl.py --only rates,training  # parts of it: learning, rates, training; shown only

learning  `jaxft rl cartpole` and `cartpole_ppo` as they are, ten seeds each, from the command to its end with nothing
          compiled before, and one seed of CleanRL's dqn_jax (peers/cleanrl_dqn.py, in an environment of its own), all
          its 500,000 steps, a tenth at a time before and after each run of jaxft. With --quick, two seeds, and the
          500,000 steps are reckoned from 2,000 at the beginning of each tenth.
rates     Steps of many environments alone, random and with a 64-64 network: jaxft, purejaxrl's design
          (rl_purejaxrl.py) and three ways of gymnasium (peers/gymnasium_envs.py), in turn.
training  PPO as a whole: jaxft with one seed, with ten one after another and ten vectorised, and purejaxrl's design
          with one and ten, in turn.

Writes results/rl_DEVICE.json and its block of README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import environments
import interleave
import jax
import rl_programs
import rl_purejaxrl
import tables
from interleave import Absent, Peer, Worker, say, spread
from peers import machine

PARTS = ("learning", "rates", "training")
RECIPES = ("cartpole", "cartpole_ppo")
CLEANRL_STEPS, SLICES, QUICK_SLICE = 500_000, 10, 2_000
COUNTS, POLICIES, ROLLOUT = (8, 64, 1024), ("random", "network"), 128
KINDS = ("sync", "async", "vector")
MOST_PROCESSES = 64  # of gymnasium's AsyncVectorEnv, which has one for each environment
TURN_S = 0.25
"""Least time of a program in a round: short ones run several times."""
SEEDS = 10

Program = Callable[[int], float]
"""Repeats -> seconds."""


# --- learning --------------------------------------------------------------------------------------------------------


@dataclass
class CleanRl:
    """CleanRL's run. start_s: from the command to the first step, compiling included. seconds, cpu_s, busy: of tenths;
    busy is others' share of the processors."""

    worker: Worker
    start_s: float
    whole: bool
    seconds: list[float]
    cpu_s: list[float]
    busy: list[float]

    def advance(self, until: int) -> None:
        """Slices, until there have been so many."""
        steps = CLEANRL_STEPS // SLICES if self.whole else QUICK_SLICE
        while len(self.seconds) < until:
            one = self.worker.run(steps)
            scale = CLEANRL_STEPS // SLICES / steps
            self.seconds.append(one["seconds"] * scale)
            self.cpu_s.append(one["cpu_s"] * scale)
            self.busy.append(one.get("others_busy", 0.0))
            say(f"cleanrl dqn_jax: tenth {len(self.seconds)}: {steps / one['seconds']:,.0f} steps/s")

    def tree(self) -> dict[str, Any]:
        how = "measured, all of it" if self.whole else f"reckoned from {SLICES} x {QUICK_SLICE:,} steps"
        wall = self.start_s + sum(self.seconds)
        tree = {"wall_s": wall, "how": how, "start_s": self.start_s, "tenths_s": self.seconds}
        tree |= {"cpu_s": sum(self.cpu_s), "others_busy": self.busy}
        return tree | {"versions": self.worker.hello["versions"], "steps": CLEANRL_STEPS, "seeds": 1}


def started_cleanrl(whole: bool) -> CleanRl:
    """Its process, ready for the first step. Raises Absent, or CalledProcessError where it has no environment."""
    stride = () if whole else ("--stride", str(CLEANRL_STEPS // SLICES))
    peer = Peer("cleanrl", "cleanrl_dqn.py", stride, python=environments.cleanrl(say))
    since = time.perf_counter()
    worker = Worker(peer)
    return CleanRl(worker, time.perf_counter() - since, whole, [], [], [])


def learning(quick: bool) -> dict[str, Any]:
    """What both recipes come to and how long they and CleanRL take."""
    tree: dict[str, Any] = {}
    cleanrl = None
    try:
        cleanrl = started_cleanrl(whole=not quick)
        cleanrl.advance(3)
    except (Absent, subprocess.CalledProcessError) as reason:
        tree["cleanrl"] = {"absent": machine.without_places(str(reason))}
        say(f"cleanrl: absent: {reason}")
    try:
        for recipe, until in zip(RECIPES, (7, SLICES), strict=True):
            tree[recipe] = learnt(recipe, quick)
            if cleanrl:
                cleanrl.advance(until)
        if cleanrl:
            tree["cleanrl"] = cleanrl.tree()
    finally:
        if cleanrl:
            cleanrl.worker.close()
    if "wall_s" in tree["cleanrl"]:
        tree["ratios"] = {recipe: tree["cleanrl"]["wall_s"] / tree[recipe]["wall_s"] for recipe in RECIPES}
    return tree


def learnt(recipe: str, quick: bool) -> dict[str, Any]:
    """A run of the command, with a compilation cache of its own."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [sys.executable, "-m", "jaxft.cli.main", "rl", recipe, "--quiet", "--out", str(out)]
        command += ["--rl.seeds", "2"] if quick else []
        variables = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(Path(folder) / "compiled")}
        ticks, cpu_s, since = interleave.others_ticks(os.getpid()), children_s(), time.perf_counter()
        subprocess.run(command, check=True, env=variables)
        wall_s, cpu_s = time.perf_counter() - since, children_s() - cpu_s
        report = json.loads((out / "report.json").read_text("utf-8"))
    now = interleave.others_ticks(os.getpid())
    busy = None
    if ticks is not None and now is not None:
        others_s = (now - ticks) / os.sysconf("SC_CLK_TCK") - cpu_s
        busy = max(0.0, others_s / (wall_s * machine.cores()))
    names = ("agent", "threshold", "converged", "env_steps", "env_steps_per_s", "compile_s", "numerics", "device")
    tree = {name: report[name] for name in names}
    tree |= {"seeds": len(report["by_seed"]), "wall_s": wall_s, "cpu_s": cpu_s, "others_busy": busy}
    say(f"jaxft rl {recipe}: {wall_s:.1f} s, {len(tree['converged'])} of {tree['seeds']} seeds converged")
    return tree


def children_s() -> float:
    """Seconds of processor time of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


# --- in turn ---------------------------------------------------------------------------------------------------------


def in_turn(programs: dict[str, Program], rounds: int, turn_s: float) -> dict[str, list[float]]:
    """Seconds a run of each program in each round, the order changing from round to round. They have run before."""
    repeats = {name: max(1, round(turn_s / program(1))) for name, program in programs.items()}
    times: dict[str, list[float]] = {name: [] for name in programs}
    for number in range(rounds):
        for name in list(programs)[:: 1 if number % 2 else -1]:
            times[name].append(programs[name](repeats[name]) / repeats[name])
    return times


def over(times: dict[str, list[float]], work: dict[str, int], ours: str, theirs: str) -> dict[str, float]:
    """Spread over rounds of ours over theirs in work a second."""
    scale = work[ours] / work[theirs]
    return spread([scale * b / a for a, b in zip(times[ours], times[theirs], strict=True)])


def compiled(function: Any, carried: Any) -> tuple[Program, float]:
    """A program that goes on from what it was carried to, and the seconds its compiling took. function: of what is
    carried, to (what it was carried to, what was kept)."""
    since = time.perf_counter()
    run = function.lower(carried).compile()
    compile_s = time.perf_counter() - since
    place = [carried]

    def program(repeats: int) -> float:
        since = time.perf_counter()
        for _ in range(repeats):
            place[0], *kept = run(place[0])
            jax.block_until_ready((place[0], kept))
        return time.perf_counter() - since

    program(1)
    return program, compile_s


# --- rates -----------------------------------------------------------------------------------------------------------


def rates(rounds: int, turn_s: float) -> list[dict[str, Any]]:
    """Environment steps a second of each way, for each number of environments and policy."""
    return [rate(count, policy, rounds, turn_s) for count in COUNTS for policy in POLICIES]


def rate(count: int, policy: str, rounds: int, turn_s: float) -> dict[str, Any]:
    programs: dict[str, Program] = {}
    work: dict[str, int] = {}
    for name, module in (("jaxft", rl_programs), ("purejaxrl", rl_purejaxrl)):
        carried, function = module.stepper(policy, count, ROLLOUT)
        programs[name], _ = compiled(function, carried)
        work[name] = count * ROLLOUT
    workers = []
    try:
        for kind in KINDS:
            if kind != "async" or count <= MOST_PROCESSES:
                arguments = ("--kind", kind, "--envs", str(count), "--policy", policy)
                workers.append(Worker(Peer(kind, "gymnasium_envs.py", arguments)))
                programs[kind], work[kind] = gymnasium_program(workers[-1]), count
        times = in_turn(programs, rounds, turn_s)
    finally:
        for worker in workers:
            worker.close()
    fastest = min((kind for kind in KINDS if kind in times), key=lambda kind: statistics.median(times[kind]))
    found = {name: spread([work[name] / second for second in seconds]) for name, seconds in times.items()}
    ratios = {"purejaxrl": over(times, work, "jaxft", "purejaxrl"), "gymnasium": over(times, work, "jaxft", fastest)}
    say(f"{count} environments, {policy}: " + ", ".join(f"{name} {one['median']:,.0f}" for name, one in found.items()))
    return {"envs": count, "policy": policy, "rates": found, "fastest_gymnasium": fastest, "ratios": ratios}


def gymnasium_program(worker: Worker) -> Program:
    """Steps of all of a worker's environments."""
    worker.run(20)
    return lambda repeats: worker.run(repeats)["seconds"]


# --- training --------------------------------------------------------------------------------------------------------


def training(rounds: int, iterations: int) -> dict[str, Any]:
    """Environment steps a second, of all seeds together, of whole training. iterations: of each program in a round."""
    programs: dict[str, Program] = {}
    work: dict[str, int] = {}
    compile_s: dict[str, float] = {}
    for name, seeds, numerics in (
        ("jaxft, 1 seed", 1, "canonical"),
        (f"jaxft, {SEEDS} seeds, one program each", SEEDS, "canonical"),
        (f"jaxft, {SEEDS} seeds, vectorised", SEEDS, "fast"),
    ):
        trained = rl_programs.Training(seeds, numerics)
        programs[name], work[name] = jaxft_program(trained, iterations), trained.steps_an_iteration * iterations
        compile_s[name] = trained.runs.compile_s
    for seeds in (1, SEEDS):
        name = "purejaxrl, 1 seed" if seeds == 1 else f"purejaxrl, {seeds} seeds, vectorised"
        carried, function = purejaxrl(seeds, iterations)
        programs[name], compile_s[name] = compiled(function, carried)
        work[name] = seeds * rl_programs.STEPS_AN_ITERATION * iterations
    times = in_turn(programs, rounds, 0.0)
    found = {
        name: {"env_steps_per_s": spread([work[name] / second for second in seconds]), "compile_s": compile_s[name]}
        for name, seconds in times.items()
    }
    one, apart, together, their_one, their_many = times
    pairs = ((one, their_one), (apart, their_many), (together, their_many), (apart, one), (together, apart))
    ratios = {f"{a} / {b}": over(times, work, a, b) for a, b in pairs}
    for name, values in found.items():
        say(f"PPO: {name}: {values['env_steps_per_s']['median']:,.0f} environment steps/s")
    return {"programs": found, "ratios": ratios, "iterations": iterations}


def jaxft_program(trained: rl_programs.Training, iterations: int) -> Program:
    """So many iterations of each seed."""

    def program(repeats: int) -> float:
        since = time.perf_counter()
        for _ in range(repeats):
            trained.run(iterations)
        return time.perf_counter() - since

    program(1)
    return program


def purejaxrl(seeds: int, iterations: int) -> tuple[Any, Any]:
    """(what it begins with, the program) of its PPO with our settings."""
    rl, batch_size = rl_programs.RECIPE.rl, rl_programs.RECIPE.train.batch_size
    batches, whole = rl.num_envs * rl.rollout // batch_size, rl.steps // rl_programs.STEPS_AN_ITERATION
    ppo = rl_purejaxrl.Ppo(rl.num_envs, rl.rollout, rl.ppo.epochs, batches, whole)
    if seeds == 1:
        return jax.jit(ppo.begin)(jax.random.key(0)), jax.jit(lambda carried: ppo.train(carried, iterations))
    begun = jax.jit(jax.vmap(ppo.begin))(jax.random.split(jax.random.key(0), seeds))
    return begun, jax.jit(jax.vmap(lambda carried: ppo.train(carried, iterations)))


# --- shown -----------------------------------------------------------------------------------------------------------


def shown(record: dict[str, Any]) -> str:
    """The record as Markdown."""
    where = f"{record['device']}, {record['date']}, `{record['command']}`."
    show = {"learning": shown_learning, "rates": shown_rates, "training": shown_training}
    texts = [show[part](record[part]) for part in PARTS if part in record]
    versions = ", ".join(f"{package} {version}" for package, version in record["versions"].items())
    return "\n\n".join([where, *texts, f"- {versions}"])


def shown_learning(tree: dict[str, Any]) -> str:
    head = ["run", "seeds that pass", "steps until then: median (min–max)", "wall, s", "compiling", "CPU, s"]
    head.append("others busy")
    rows = []
    for recipe in RECIPES:
        one = tree[recipe]
        steps = tables.spread(spread([float(step) for step in one["converged"].values()])) if one["converged"] else "—"
        busy = "—" if one["others_busy"] is None else f"{one['others_busy']:.0%}"
        passed = f"{len(one['converged'])} of {one['seeds']}"
        seconds = [f"{one[name]:.1f}" for name in ("wall_s", "compile_s", "cpu_s")]
        rows.append([f"`jaxft rl {recipe}`", passed, steps, *seconds, busy])
    theirs = tree["cleanrl"]
    if "absent" in theirs:
        return f"{tables.markdown(head, rows)}\n\nCleanRL's dqn_jax: absent: {theirs['absent']}"
    busy = f"{statistics.mean(theirs['others_busy']):.0%}"
    what = f"CleanRL's dqn_jax, 1 seed, {CLEANRL_STEPS:,} steps"
    seconds = [f"{theirs['wall_s']:.1f}", f"in {theirs['start_s']:.1f} of starting", f"{theirs['cpu_s']:.1f} of steps"]
    rows.append([what, "not asked", "—", *seconds, busy])
    lines = [
        f"Wall time, one seed of CleanRL over {tree[recipe]['seeds']} seeds of `{recipe}`: **{ratio:.2f}**."
        for recipe, ratio in tree["ratios"].items()
    ]
    lines.append(f"CleanRL's {CLEANRL_STEPS:,} steps: {theirs['how']}.")
    return f"{tables.markdown(head, rows)}\n\n{' '.join(lines)}"


def shown_rates(found: list[dict[str, Any]]) -> str:
    columns = {"jaxft": "jaxft", "purejaxrl": "purejaxrl's design", "vector": "gymnasium, vectorised"}
    columns |= {"sync": "gymnasium, sync", "async": "gymnasium, async"}
    beside = ["jaxft / purejaxrl's design: median (min–max)", "jaxft / fastest gymnasium"]
    rows = []
    for one in found:
        numbers = [f"{one['rates'][name]['median']:,.0f}" if name in one["rates"] else "—" for name in columns]
        ratios = [f"**{tables.spread(one['ratios'][name], 2)}**" for name in ("purejaxrl", "gymnasium")]
        rows.append([f"{one['envs']:,}, {one['policy']}", *numbers, *ratios])
    return tables.markdown(["environments, actions: steps/s", *columns.values(), *beside], rows)


def shown_training(tree: dict[str, Any]) -> str:
    head = ["PPO, 4 x 128 steps an iteration", "environment steps/s, all seeds: median (min–max)", "compiling, s"]
    rows = [
        [name, tables.spread(one["env_steps_per_s"]), f"{one['compile_s']:.1f}"]
        for name, one in tree["programs"].items()
    ]
    ratios = [[name, f"**{tables.spread(value, 2)}**"] for name, value in tree["ratios"].items()]
    ratio_head = ["ratio of environment steps/s, within a round", "median (min–max)"]
    return f"{tables.markdown(head, rows)}\n\n{tables.markdown(ratio_head, ratios)}"


def main() -> None:
    options = arguments()
    device, load, versions = machine.gpu() or machine.cpu(), machine.load(), ("jaxft", "jax", "jaxlib", "flax", "optax")
    record: dict[str, Any] = {
        "command": machine.command("rl.py", sys.argv[1:]),
        "device": device,
        "date": machine.today(),
        "load_average": load,
        "versions": machine.versions(*versions, "gymnax", "gymnasium", "numpy"),
    }
    rounds, turn_s = (2, TURN_S / 5) if options.quick else (options.rounds, TURN_S)
    measure: dict[str, Callable[[], Any]] = {
        "learning": lambda: learning(options.quick),
        "rates": lambda: rates(rounds, turn_s),
        "training": lambda: training(rounds, 10 if options.quick else 50),
    }
    for part in options.only:
        record[part] = measure[part]()
    text = shown(record)
    print(text)
    path = options.out
    if path is None and not options.quick and set(options.only) == set(PARTS):
        path = tables.RESULTS / f"rl_{machine.slug(device)}.json"
        tables.fill("rl", text)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record, indent=1) + "\n", "utf-8")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two seeds, short turns")
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(PARTS), help=f"of {','.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, help="result file; README.md then stays as it is")
    options = parser.parse_args()
    unknown = sorted(set(options.only) - set(PARTS))
    if unknown:
        parser.error(f"--only: unknown {', '.join(unknown)}; known: {', '.join(PARTS)}")
    return options


if __name__ == "__main__":
    main()
