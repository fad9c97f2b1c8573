"""Replaying a reinforcement learning run: all of it once more, compared with what it recorded, to the bit.

Compared are, after each round and for each seed, what metrics.jsonl has of learning and of the evaluation; and at the
end of a finished run the SHA-256 of all seeds' parameters and optimiser states. Nothing is written. Left out: starting
at a checkpoint, as `train/replay.py` does; a run is replayed from its beginning.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

from jaxft import compilation, cpu_threads, recipe
from jaxft.errors import UserError
from jaxft.report.env import environment
from jaxft.report.run_folder import RunFolder, plain
from jaxft.rl import converge, crowd
from jaxft.rl.loop import Course, learned_sha256, told
from jaxft.rl.progress import Progress
from jaxft.rl.recipe import RlRecipe
from jaxft.rl.setup import Setup, set_up
from jaxft.train import resume
from jaxft.train.replay import EXPLAINS, Verdict

Tree = dict[str, Any]
Key = tuple[str, int, int]
"""Of a record: kind, step, seed."""


def replay(
    folder: RunFolder, first: int = 1, last: int | None = None, *, devices: int | None = None, quiet: bool = False
) -> Verdict:
    """Replays a run up to the last round of at most `last` steps of a seed (none: to the end); `Verdict.compared`
    counts records.

    devices: to compute on; none: as the recipe says. Raises UserError where there is no such run, or none that can be
    replayed so.
    """
    records, report, was = _recorded(folder)
    chosen = recipe.load(folder.recipe, RlRecipe)
    if devices is not None:
        chosen = dataclasses.replace(chosen, mesh=dataclasses.replace(chosen.mesh, data=devices))
        recipe.check(chosen)
    if first != 1:
        raise UserError("--steps", "a reinforcement learning run is replayed from its beginning", "1:last, or none")
    resume.take_threads(folder)
    compilation.keep()
    setup = set_up(chosen)
    end = max(step for _, step, _ in records)
    rounds = [round for round in range(1, setup.rounds + 1) if setup.steps(round) <= (last or end)]
    if not rounds or (last or end) > end:
        raise UserError("--steps", f"1:{last} is not within the run's rounds, {setup.steps(1)} to {end} steps")
    with Progress(setup.steps(rounds[-1]), quiet=quiet) as progress:
        runs = crowd.of(setup, progress.compiling)
        done, compared, difference = 0, 0, ""
        for step, now in _rounds(setup, runs, rounds, progress):
            done = step
            for key, record in now.items():
                if key in records:
                    compared += 1
                    difference = difference or _differs(key, record, records[key])
            if difference:
                break
    hashed = bool(report) and done == end and not difference
    if hashed:
        sha256 = learned_sha256({seed: runs.to_host(seed) for seed in setup.seeds})
        if sha256 != report["params_sha256"]:
            difference = f"the parameters in the end have sha256 {sha256}, not {report['params_sha256']}"
    return Verdict(1, done, compared, difference, hashed, tuple(_changes(was, environment())), ())


def _recorded(folder: RunFolder) -> tuple[dict[Key, Tree], Tree, Tree]:
    """Records of rounds; report.json, empty for an unfinished run; env.json."""
    if not folder.holds_run:
        raise UserError(str(folder.path), "holds no run", "name the folder that a run wrote (`out` in its recipe)")
    records = {(record["kind"], record["step"], record["seed"]): record for record in folder.records()}
    if not any(kind == "train" for kind, _, _ in records):
        raise UserError(str(folder.path), "the run has no recorded round yet", "let it run")
    try:
        report = json.loads(folder.report_json.read_text("utf-8")) if folder.finished else {}
        return records, report, json.loads(folder.env.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(str(folder.path), f"cannot be read: {error}") from None


def _rounds(setup: Setup, runs: Any, rounds: list[int], progress: Progress) -> Iterator[tuple[int, dict[Key, Tree]]]:
    """Yields (steps of a seed, records) of the beginning and of each round, as rl/loop.py makes them."""
    courses = {seed: Course(seed) for seed in setup.seeds}

    def scored(round: int, seeds: list[int]) -> dict[Key, Tree]:
        step, found = setup.steps(round), {}
        for seed, episodes in runs.score(seeds, round).items():
            score = converge.score(*episodes)
            courses[seed].observe(score, step, setup.threshold, {})
            found["eval", step, seed] = {"kind": "eval", "step": step, "seed": seed} | score._asdict()
        return found

    yield 0, scored(0, list(setup.seeds))
    for round in rounds:
        alive = [seed for seed, course in courses.items() if course.goes_on(setup.recipe.rl.stop)]
        before, step = setup.steps(round - 1), setup.steps(round)
        reports = runs.advance(alive, (step - before) // setup.steps_an_iteration)
        learned = {
            ("train", step, seed): {"kind": "train", "step": step, "seed": seed} | told(report)
            for seed, report in reports.items()
        }
        yield step, learned | scored(round, alive)
        progress.round(step, courses)


def _differs(key: Key, now: Tree, record: Tree) -> str:
    """What of a record is not as it was; empty if nothing."""
    kind, step, seed = key
    same = json.loads(json.dumps(plain(now)))  # as the file has it
    told = [f"{name} {value}, recorded {record.get(name)}" for name, value in same.items() if value != record.get(name)]
    where = f"{kind} of seed {seed} after {step} steps"
    return f"{where} is the first record that differs: {'; '.join(told)}" if told else ""


def _changes(was: Tree, now: Tree) -> Iterator[str]:
    for key, old, new in resume.differences({k: was.get(k) for k in EXPLAINS}, {k: now.get(k) for k in EXPLAINS}):
        if key != f"flags.{cpu_threads.VARIABLE}":  # which this process sets itself: cpu_threads tells what came of it
            yield f"{key} was {old}, is {new}"
