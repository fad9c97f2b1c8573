"""The report of a run: report.md and learning curves for people, report.json for programs, a table for the terminal."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from scipy.stats import t as student

from jaxft.report import plots, tables
from jaxft.report.run_folder import RunFolder, plain
from jaxft.rl.converge import Score, shown
from jaxft.rl.loop import Course

CURVES = "learning_curves"


@dataclass(frozen=True, kw_only=True)
class Result:
    """The outcome of a run. courses: of its seeds. steps: of a seed that went on to the end. env_steps: of all seeds.
    taken: of them since the command was given, in train_s seconds of learning, evaluation and compiling."""

    env: str
    agent: str
    threshold: float | None
    courses: tuple[Course, ...]
    best_seed: int
    tested: Mapping[int, Score]
    """Seed -> score of its best parameters on the test split, where the environment is a data set."""
    updates: Mapping[int, int]
    """Seed -> optimiser steps."""
    steps: int
    env_steps: int
    taken: int
    train_s: float
    wall_s: float
    compile_s: float
    peak_memory_mb: float | None
    numerics: str
    micro_batches: int
    device: str
    cpu_threads: int | None
    seeds: Mapping[str, Mapping[str, int]]
    params_sha256: str
    params_sha256_by_seed: Mapping[str, str]

    @property
    def converged(self) -> dict[int, int]:
        """Seed -> steps after which it had."""
        return {course.seed: course.converged for course in self.courses if course.converged is not None}

    @property
    def env_steps_per_s(self) -> float:
        return self.taken / max(self.train_s - self.compile_s, 1e-9)


def to_json(result: Result) -> dict[str, Any]:
    """The tree of report.json."""
    names = (
        "env", "agent", "threshold", "steps", "env_steps", "env_steps_per_s", "wall_s", "train_s", "compile_s",
        "peak_memory_mb",
        "numerics", "micro_batches", "device", "cpu_threads", "seeds", "params_sha256", "params_sha256_by_seed",
        "best_seed",
    )  # fmt: skip
    tree = {"task": "rl"} | {name: getattr(result, name) for name in names}
    tree["converged"] = {str(seed): step for seed, step in result.converged.items()}
    tree["before"] = _means(course.before for course in result.courses)
    tree["after"] = _means(course.last for course in result.courses)
    tree["test"] = _means(result.tested.values())
    tree["by_seed"] = {str(course.seed): _by_seed(course) | _rest(result, course.seed) for course in result.courses}
    return plain(tree)


def _means(scores: Any) -> dict[str, float]:
    found = [score.mean for score in scores if score is not None and np.isfinite(score.mean)]
    return {"mean_return": float(np.mean(found)), "worst_seed": min(found), "best_seed": max(found)} if found else {}


def _rest(result: Result, seed: int) -> dict[str, Any]:
    tested = result.tested.get(seed)
    return {"test": tested._asdict() if tested else None, "updates": result.updates.get(seed, 0)}


def _by_seed(course: Course) -> dict[str, Any]:
    scores = {name: getattr(course, name) for name in ("before", "best", "last")}
    tree: dict[str, Any] = {name: score._asdict() if score else None for name, score in scores.items()}
    return tree | {"best_step": course.best_step, "converged": course.converged, "failed": course.failed or None}


def write(folder: RunFolder, result: Result) -> None:
    """Writes the curves, report.md and, last, report.json."""
    curves(folder.records(), folder.plot(CURVES), result)
    folder.write_text(folder.report_md, markdown(result, folder))
    folder.write_json(folder.report_json, to_json(result))


def show(result: Result, folder: RunFolder, console: Console) -> None:
    """Prints the table of the seeds and where the rest is."""
    console.print(tables.to_rich(_grid(result)))
    console.print(sentence(result), markup=False, highlight=False)
    console.print(f"report: {folder.report_md}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"watch:  jaxft rl --replay {folder.path}", markup=False, highlight=False, soft_wrap=True)


def sentence(result: Result) -> str:
    """Whether it converged, and when."""
    done, all_ = len(result.converged), len(result.courses)
    if result.threshold is None:
        return f"{result.env} has no threshold to converge to; {result.steps:,} steps of each seed were taken."
    goal = f"the 95 % bound of the mean return of {_episodes(result)} episodes at {result.threshold:g} or more"
    if not done:
        return f"Did not converge: no seed of {all_} had {goal} within {result.steps:,} steps."
    steps = sorted(result.converged.values())
    spread = f"after {steps[0]:,} steps" if done == 1 else f"after {steps[0]:,} to {steps[-1]:,} steps"
    rest = "" if done == all_ else f"; {all_ - done} did not within {result.steps:,} steps"
    return f"Converged: {done} of {all_} seeds had {goal} {spread}{rest}."


def _episodes(result: Result) -> int:
    return next((course.last.episodes for course in result.courses if course.last is not None), 0)


def _grid(result: Result) -> tables.Grid:
    rows = []
    for course in result.courses:
        last = course.last
        after = "—" if last is None else f"{shown(last.mean)} ({shown(last.low)} to {shown(last.high)})"
        before = "—" if course.before is None else shown(course.before.mean)
        when = f"{course.converged:,}" if course.converged is not None else course.failed or "no"
        rows.append((str(course.seed), before, after, when))
    return tables.Grid(
        f"{result.agent} in {result.env}",
        ("seed", "mean return before", "after (95 % interval)", "converged after steps"),
        tuple(rows),
    )


def markdown(result: Result, folder: RunFolder) -> str:
    """The text of report.md."""
    facts = {
        "environment steps, all seeds": f"{result.env_steps:,}",
        "environment steps a second": f"{result.env_steps_per_s:,.0f}",
        "wall time": f"{result.wall_s:,.1f} s",
        "of that compiling": f"{result.compile_s:,.1f} s",
        "device": result.device,
    }
    again = shlex.join(["jaxft", "rl", str(folder.recipe), "--out", f"{folder.path}-again"])
    promise = (
        "Numerics: **canonical**: the same recipe gives the same parameters, to the bit, run again, gone on with, or "
        "on any number of devices that divides `train.micro_batches`; a seed gives the same bits alone or among others."
        if result.numerics == "canonical"
        else "Numerics: **fast**: all seeds in one vectorised program; no bits are promised."
    )
    parts = [
        f"# {result.agent} in {result.env}\n",
        f"**{sentence(result)}**\n",
        f"![learning curves]({CURVES}.png)\n",
        "## Seeds\n",
        tables.to_markdown(_grid(result)),
        "## Run\n",
        tables.to_markdown(tables.facts("Run", facts)),
        "## Do it again\n",
        f"```\n{again}\n```\n\n{promise}\n\nParameters and optimiser states (sha256): `{result.params_sha256}`\n",
    ]
    return "\n".join(parts)


# --- learning curves -------------------------------------------------------------------------------------------------


def curves(records: list[dict[str, Any]], path: Path, result: Result) -> None:
    """Mean return of the evaluations over steps, a thin line a seed and a thick one for their mean with its 95 %
    interval; below it, how greedy the exploration was and its entropy."""
    evals = [record for record in records if record["kind"] == "eval"]
    train = [record for record in records if record["kind"] == "train"]
    with plots.drawing(path, 8, 6.4) as drawn:
        top, bottom = drawn.subplots(2, 1, sharex=True, height_ratios=(3, 1.4))
        grid, lines = _lines(evals, "mean")
        for line in lines:
            top.plot(grid, line, color=plots.BLUE, alpha=0.25, linewidth=1)
        _band(top, grid, lines)
        if result.threshold is not None:
            top.axhline(result.threshold, color=plots.RED, linestyle="--", label=f"threshold {result.threshold:g}")
        top.set(title=f"Return of greedy episodes: {result.agent} in {result.env}", ylabel="mean return")
        top.legend(loc="best")
        for name, colour in (("greedy_share", plots.GREEN), ("entropy", plots.ORANGE)):
            grid, lines = _lines(train, name)
            if len(grid):
                bottom.plot(grid, np.nanmean(lines, axis=0), color=colour, label=name.replace("_", " "))
        bottom.set(title="Exploration", xlabel="environment steps a seed")
        if train:
            bottom.legend(loc="best")


def _lines(records: list[dict[str, Any]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """(steps [N], values [K, N]); a seed that stopped keeps its last value."""
    seeds = sorted({record["seed"] for record in records})
    grid = np.array(sorted({record["step"] for record in records}))
    lines = np.full((len(seeds), len(grid)), np.nan)
    for record in records:
        if record.get(name) is not None:
            lines[seeds.index(record["seed"]), np.searchsorted(grid, record["step"])] = record[name]
    for line in lines:
        for at in range(1, len(grid)):
            if np.isnan(line[at]):
                line[at] = line[at - 1]
    return grid, lines


def _band(axes: Any, grid: np.ndarray, lines: np.ndarray) -> None:
    mean, count = lines.mean(axis=0), len(lines)
    axes.plot(grid, mean, color=plots.BLUE, linewidth=2.5, label=f"mean of {count} seeds" if count > 1 else "mean")
    if count > 1:
        margin = student.ppf(0.975, count - 1) * lines.std(axis=0, ddof=1) / np.sqrt(count)
        axes.fill_between(grid, mean - margin, mean + margin, color=plots.BLUE, alpha=0.2, label="95 % interval")
