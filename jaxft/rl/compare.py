"""Reinforcement against supervised learning on one task: the same network from the same parameters, the same number of
environment steps and of updates, the same seeds; what they get, what it takes, and how noise moves it.

Each method, at each rate of noise, is a run of its own in a folder below `out`; what was interrupted goes on, and runs
that are finished are taken as they are.
Noise is what the method's teacher gets wrong: for supervised learning the label (`rl.clone.noise`), for reinforcement
learning the reward (the environment's option `reward_noise`, where it has that).
"""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from scipy.stats import t as student

from jaxft import recipe
from jaxft.errors import Problems, UserError
from jaxft.report import plots, tables
from jaxft.report.run_folder import RunFolder, plain
from jaxft.rl import envs
from jaxft.rl.recipe import CompareRecipe, Rl, RlRecipe, listed
from jaxft.rl.run import run
from jaxft.rl.setup import set_up
from jaxft.train import resume

SUPERVISED = "clone"


@dataclass(frozen=True)
class Run:
    """One method at one rate of noise, all seeds. report: its report.json. quality [K]: mean return on the test split,
    or where there is none of the last evaluation. length [K]: mean steps of those episodes. reached [K]: steps to the
    quality that all methods without noise reach, NaN if never."""

    method: str
    noise: float
    report: dict[str, Any]
    quality: np.ndarray
    length: np.ndarray
    reached: np.ndarray
    curve: tuple[np.ndarray, np.ndarray]

    @property
    def name(self) -> str:
        return f"{self.method}, noise {self.noise:g}"

    @property
    def updates(self) -> int:
        """Of a seed."""
        return max(told["updates"] for told in self.report["by_seed"].values())

    @property
    def seconds(self) -> float:
        """Of learning and evaluation, all seeds, without compiling."""
        return self.report["train_s"] - self.report["compile_s"]


def compare(chosen: CompareRecipe, *, overwrite: bool = False, console: Console | None = None) -> list[Run]:
    """Runs all methods, writes compare.json, compare.md and compare.png below `out`. Raises UserError."""
    console = console or Console()
    recipe.check(chosen)
    plan = list(variants(chosen))
    _check_updates(plan, chosen.compare.same_updates)
    found = []
    for name, one in plan:
        folder = RunFolder(one.out)
        console.print(f"== {name}", markup=False, highlight=False)
        if folder.finished and not overwrite:
            resume.check_recipe(recipe.load(folder.recipe, RlRecipe), one, one.out)
            console.print("is finished", markup=False, highlight=False)
        else:
            run(one, overwrite=overwrite, quiet=False, console=console)
        found.append((name, one, json.loads(folder.report_json.read_text("utf-8"))))
    runs = _judged(found)
    write(Path(chosen.out), chosen, runs)
    console.print(tables.to_rich(grid(runs)))
    for line in verdict(runs):
        console.print(line, markup=False, highlight=False)
    return runs


def variants(chosen: CompareRecipe) -> Iterator[tuple[str, RlRecipe]]:
    """(name, recipe) of each run."""
    values = {f.name: getattr(chosen, f.name) for f in dataclasses.fields(RlRecipe)}
    base = RlRecipe(**values)
    takes = list(inspect.signature(envs.check(base.rl.env).make).parameters)
    for noise in map(float, listed(chosen.compare.noise)):
        for method in listed(chosen.compare.methods):
            rl = dataclasses.replace(base.rl, agent=method, stop=False)  # type: ignore[arg-type]
            if method == SUPERVISED:
                rl = dataclasses.replace(rl, clone=dataclasses.replace(rl.clone, noise=noise))
            elif noise and "reward_noise" in takes:
                rl = dataclasses.replace(rl, options=", ".join(filter(None, (rl.options, f"reward_noise={noise}"))))
            elif noise:
                continue
            name = f"{method}-{noise:g}"
            yield name, dataclasses.replace(base, rl=rl, out=str(Path(chosen.out) / name))


def _check_updates(plan: list[tuple[str, RlRecipe]], same: bool) -> None:
    """Raises UserError where methods cannot be set up, or where they should but would not take the `same` number of
    updates."""
    problems, updates = Problems(), {}
    for name, one in plan:
        try:
            setup = set_up(one)
            updates[name] = setup.agent.num_updates * setup.iterations
        except UserError as error:
            problems.take(error)
    problems.raise_if_any()
    if same and len(set(updates.values())) > 1:
        told = ", ".join(f"{name} {count:,}" for name, count in updates.items())
        fix = (
            "rl.num_envs · rl.rollout = train.batch_size, rl.ppo.epochs: 1 and rl.dqn.updates: 1 give one an "
            "iteration; compare.same_updates: false lets them differ"
        )
        raise UserError("compare.methods", f"take different numbers of updates: {told}", fix)


# --- what came of it -------------------------------------------------------------------------------------------------


def _judged(found: list[tuple[str, RlRecipe, dict[str, Any]]]) -> list[Run]:
    curves = {name: _curve(RunFolder(one.out)) for name, one, _ in found}
    scores = {name: _scores(report) for name, _, report in found}
    quiet = [curves[name][1].max(axis=1).mean() for name, one, _ in found if _noise_of(one) == 0]
    goal = min(quiet) if quiet else np.inf
    return [
        Run(one.rl.agent, _noise_of(one), report, *scores[name], _reached(curves[name], goal), curves[name])
        for name, one, report in found
    ]


def _noise_of(one: RlRecipe) -> float:
    return float(one.out.rpartition("-")[2])


def _scores(report: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """(mean returns [K], mean lengths [K])."""
    told = [one["test"] or one["last"] for one in report["by_seed"].values()]
    scores = [score for score in told if score is not None]
    return np.array([score["mean"] for score in scores]), np.array([score["length"] for score in scores])


def _curve(folder: RunFolder) -> tuple[np.ndarray, np.ndarray]:
    """(steps [N], mean returns [K, N]) of the evaluations."""
    records = [record for record in folder.records() if record["kind"] == "eval"]
    seeds, steps = (sorted({record[key] for record in records}) for key in ("seed", "step"))
    values = np.full((len(seeds), len(steps)), np.nan)
    for record in records:
        values[seeds.index(record["seed"]), steps.index(record["step"])] = record["mean"]
    return np.array(steps), values


def _reached(curve: tuple[np.ndarray, np.ndarray], goal: float) -> np.ndarray:
    steps, values = curve
    first = [np.flatnonzero(line >= goal - 1e-9) for line in values]
    return np.array([steps[at[0]] if len(at) else np.nan for at in first])


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """(mean, low, high): 95 % of Student's t over the seeds; without end for one seed."""
    mean, count = float(values.mean()), len(values)
    if count < 2:
        return mean, -np.inf, np.inf
    margin = float(student.ppf(0.975, count - 1) * values.std(ddof=1) / np.sqrt(count))
    return mean, mean - margin, mean + margin


def improvement(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Probability that a seed of ours is better than one of theirs, ties half (Agarwal et al. 2021)."""
    return float(((ours[:, None] > theirs) + 0.5 * (ours[:, None] == theirs)).mean())


def grid(runs: list[Run]) -> tables.Grid:
    rows = []
    for one in runs:
        mean, low, high = interval(one.quality)
        never = int(np.isnan(one.reached).sum())
        reached = "never" if never == len(one.reached) else f"{np.nanmean(one.reached):,.0f}"
        rows.append(
            (
                one.name,
                f"{mean:.4f} ({low:.4f} to {high:.4f})",
                f"{one.quality.std(ddof=1):.4f}" if len(one.quality) > 1 else "—",
                f"{one.length.mean():.2f} ({one.length.min():.2f} to {one.length.max():.2f})",
                reached + (f" ({never} of {len(one.reached)} never)" if 0 < never < len(one.reached) else ""),
                f"{one.updates:,}",
                f"{one.seconds:,.0f}",
            )
        )
    header = (
        "method",
        "quality (95 % interval)",
        "deviation over seeds",
        "steps an episode (least to most)",
        "steps to the common level",
        "updates",
        "seconds",
    )
    return tables.Grid("Supervised and reinforcement learning", header, tuple(rows))


def verdict(runs: list[Run]) -> list[str]:
    """Where each wins, in sentences."""
    lines = []
    for noise in sorted({one.noise for one in runs}):
        among = [one for one in runs if one.noise == noise]
        taught = next((one for one in among if one.method == SUPERVISED), None)
        for other in among:
            if taught is None or other is taught:
                continue
            chance = improvement(taught.quality, other.quality)
            better, worse = (taught, other) if chance >= 0.5 else (other, taught)
            gap = better.quality.mean() - worse.quality.mean()
            lines.append(
                f"noise {noise:g}: {better.method} is better than {worse.method} by {gap:.4f}; a seed of it is better "
                f"with probability {max(chance, 1 - chance):.2f}."
            )
    for method in dict.fromkeys(one.method for one in runs):
        own = sorted((one for one in runs if one.method == method), key=lambda one: one.noise)
        if len(own) > 1:
            lost = own[0].quality.mean() - own[-1].quality.mean()
            lines.append(f"{method} loses {lost:.4f} from noise {own[0].noise:g} to {own[-1].noise:g}.")
    return lines


def write(folder: Path, chosen: CompareRecipe, runs: list[Run]) -> None:
    """compare.json, compare.md and compare.png."""
    tree = {
        "recipe": recipe.to_tree(chosen),
        "runs": [
            {
                "method": one.method,
                "noise": one.noise,
                "quality": one.quality,
                "length": one.length,
                "interval": interval(one.quality)[1:],
                "reached": one.reached,
                "steps": one.report["steps"],
                "updates": {seed: told["updates"] for seed, told in one.report["by_seed"].items()},
                "seconds": one.seconds,
                "params_sha256": one.report["params_sha256"],
            }
            for one in runs
        ],
        "device": runs[0].report["device"],
    }
    RunFolder.write_json(folder / "compare.json", plain(tree))
    _draw(folder / "compare.png", chosen.rl, runs)
    what = (
        "Quality is the mean return of greedy episodes: on the test split where the environment is a data set (one "
        "episode an example, so it is accuracy), else of the last evaluation. The common level is the least that the "
        "methods without noise reach on average. Seconds are of all seeds, without compiling."
    )
    parts = [
        f"# Supervised and reinforcement learning: {chosen.rl.env}\n",
        "![learning curves](compare.png)\n",
        tables.to_markdown(grid(runs)),
        what + "\n",
        "".join(f"- {line}\n" for line in verdict(runs)),
    ]
    RunFolder.write_text(folder / "compare.md", "\n".join(parts))


def _draw(path: Path, rl: Rl, runs: list[Run]) -> None:
    colours = (plots.BLUE, plots.ORANGE, plots.GREEN, plots.RED, plots.GREY)
    methods = list(dict.fromkeys(one.method for one in runs))
    with plots.drawing(path, 8, 4.8) as drawn:
        axes: Any = drawn.subplots()
        for one in runs:
            steps, values = one.curve
            colour = colours[methods.index(one.method) % len(colours)]
            mean = np.nanmean(values, axis=0)
            axes.plot(steps, mean, color=colour, linestyle="-" if one.noise == 0 else "--", label=one.name)
            if len(values) > 1:
                margin = student.ppf(0.975, len(values) - 1) * np.nanstd(values, axis=0, ddof=1) / np.sqrt(len(values))
                axes.fill_between(steps, mean - margin, mean + margin, color=colour, alpha=0.12)
        axes.set(title=f"{rl.env}, mean of {rl.seeds} seeds", xlabel="environment steps a seed", ylabel="mean return")
        axes.legend(loc="best")
