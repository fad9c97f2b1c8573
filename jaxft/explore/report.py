"""The report of an exploration: the verdict in sentences, tables, curves and the tree, and the schedule as a recipe."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path as File
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator
from rich.console import Console

from jaxft import prng
from jaxft.explore import picture, statistics
from jaxft.explore.account import Account, Path
from jaxft.explore.statistics import Estimate
from jaxft.report import plots, tables
from jaxft.report.run_folder import RunFolder, plain
from jaxft.search.grown import Grown

LEVEL = 0.05
"""Chance that any schedule at all is called better or worse than one that is as good."""
SCHEDULE, CURVES, TREE, FRESH = "schedule.yaml", "anytime", "tree", "fresh_seeds"


@dataclass(frozen=True)
class Found:
    """What one searcher found. score: on the search split, none of the default, which nobody searched; fresh: on test,
    from fresh seeds; fresh_search: of the same runs, what the search looks at. The higher, the better."""

    name: str
    path: Path
    score: float | None
    account: Account | None
    fresh: Sequence[float]
    fresh_search: Sequence[float]


@dataclass(frozen=True, kw_only=True)
class Result:
    """The outcome. found: the default first, then the searcher, then its rivals. metric: on test; search_metric: on the
    search split."""

    metric: str
    search_metric: str
    strategies: Sequence[str]
    found: Sequence[Found]
    segment_steps: int
    score_steps: float
    budget: float
    trained: int
    sizes: Mapping[str, int]
    wall_s: float
    peak_memory_mb: float | None
    device: str
    seeds: Mapping[str, int]
    words: prng.Words

    @property
    def best(self) -> Found:
        """The searcher's."""
        return self.found[1]

    def improvement(self, over: Found) -> Estimate:
        """The probability that a run of the found schedule is better than one of another."""
        words = prng.path_words(self.words, f"{self.best.name} over {over.name}")
        return statistics.probability_of_improvement(np.asarray(self.best.fresh), np.asarray(over.fresh), words)

    def middle(self, one: Found) -> Estimate:
        """The interquartile mean over fresh seeds."""
        return statistics.interval(np.asarray(one.fresh), prng.path_words(self.words, f"mean of {one.name}"))

    @cached_property
    def p_values(self) -> dict[Path, float]:
        """Each other schedule that was found -> p of the difference, by Holm's correction for all of them."""
        others = {one.path: one.fresh for one in self.found if one.path != self.best.path}
        values = [statistics.p_value(np.asarray(self.best.fresh), np.asarray(fresh)) for fresh in others.values()]
        return dict(zip(others, statistics.holm(values), strict=True))


def verdict(result: Result) -> list[str]:
    """What can be said, and what cannot."""
    best, lines, p_values = result.best, [], result.p_values
    seeds = len(best.fresh)
    for other in (one for one in result.found if one is not best):
        what = "the recipe as it is" if other.account is None else f"what {other.name} found"
        if other.path == best.path:
            lines.append(f"It is the same schedule as {what}.")
            continue
        chance, p = result.improvement(other), p_values[other.path]
        told = f"probability of improvement {chance.value:.2f} ({chance.low:.2f} to {chance.high:.2f}), p {p:.3f}"
        word = ("better than" if chance.value > 0.5 else "worse than") if p < LEVEL else "not told apart from"
        lines.append(f"On test, from {seeds} fresh seeds, it is {word} {what}: {_gap(result, best, other)}, {told}.")
    count = len(p_values)
    if count and statistics.least_p(seeds) * count >= LEVEL:
        enough = next(runs for runs in itertools.count(seeds) if statistics.least_p(runs) * count < LEVEL)
        lines.append(f"Fewer than {enough} fresh seeds cannot tell so many schedules apart: explore.confirm_seeds.")
    if best.score == -np.inf:
        lines.append("Every schedule that the search tried diverged.")
    elif best.score is not None and np.isfinite(best.fresh_search).all():
        drop = best.score - float(statistics.iqm(np.asarray(best.fresh_search)[:, None]))
        if drop > 0:
            what = f"The search saw {result.search_metric} {best.score:.4f}"
            lines.append(f"{what}; fresh seeds on test give {drop:.4f} less.")
    return lines


def _gap(result: Result, best: Found, other: Found) -> str:
    """How far apart two schedules are."""
    diverged = [sum(not np.isfinite(score) for score in one.fresh) for one in (best, other)]
    if any(diverged):
        return f"of its runs {diverged[0]} diverged, of the other's {diverged[1]}"
    return f"{result.metric} {float(result.middle(best).value - result.middle(other).value):+.4f}"


def _number(value: float | np.ndarray) -> str:
    return f"{value:.4f}" if np.isfinite(value) else "diverged"


def grid(result: Result) -> tables.Grid:
    """A row a searcher."""
    rows = []
    for one in result.found:
        middle = result.middle(one)
        found = np.isfinite(middle.value)
        rows.append(
            (
                one.name,
                " ".join(map(str, one.path)),
                "—" if one.account is None else f"{one.account.spent:,.0f}",
                "—" if one.score is None else _number(one.score),
                _number(middle.value) + (f" ({_number(middle.low)} to {_number(middle.high)})" if found else ""),
            )
        )
    header = ("searcher", "schedule", "steps", f"search {result.search_metric}", f"test {result.metric}, fresh seeds")
    return tables.Grid("What was found", header, tuple(rows))


def legend(result: Result) -> tables.Grid:
    """The strategies by number."""
    rows = tuple((str(number), what) for number, what in enumerate(result.strategies))
    return tables.Grid("Strategies", ("number", "what it changes"), rows)


def write(folder: RunFolder, result: Result, tree: Grown | None, schedule: str) -> None:
    """The recipe found, pictures, report.md and, last, report.json."""
    folder.write_text(folder.path / SCHEDULE, schedule)
    _curves(folder.plot(CURVES), result)
    _fresh(folder.plot(FRESH), result)
    folder.plot(TREE).unlink(missing_ok=True)  # of an exploration that this one replaces
    if tree is not None:
        account = result.best.account
        lost = {one.path for one in account.sightings if one.score == -np.inf} if account is not None else set()
        picture.png(tree, folder.plot(TREE), result.best.path, result.strategies, result.search_metric, lost)
    folder.write_text(folder.report_md, markdown(result, folder, tree is not None))
    folder.write_json(folder.report_json, to_json(result))


def markdown(result: Result, folder: RunFolder, has_tree: bool) -> str:
    """report.md."""
    sizes = ", ".join(f"{count:,} {name}" for name, count in result.sizes.items())
    parts = [
        "# Strategies explored\n",
        "\n".join(f"- {line}" for line in verdict(result)) + "\n",
        tables.to_markdown(grid(result)),
        f"Schedules are numbers of strategies, one a segment of {result.segment_steps} gradient steps. Steps include "
        f"looks at the search split, {result.score_steps:.1f} each. Intervals (95 %) are bootstrapped over the fresh "
        "seeds, of the interquartile mean; p is of Mann and Whitney's test (over all permutations, up to 10 seeds), "
        f"by Holm's correction for {len(result.p_values)} comparisons; schedules are told apart below {LEVEL}.\n",
        tables.to_markdown(legend(result)),
        f"![best score by gradient steps]({CURVES}.png)\n",
        f"![scores on test from fresh seeds]({FRESH}.png)\n",
    ]
    if has_tree:
        parts.append(f"![the tree]({TREE}.png)\n")
    parts.append(f"Examples: {sizes}. {result.device}, {result.wall_s:,.0f} s, {result.trained} segments trained.\n")
    parts.append(f"The schedule found, as a recipe: `jaxft train {folder.path / SCHEDULE}`\n")
    return "\n".join(parts)


AS_THEY_ARE = (
    *("metric", "search_metric", "strategies", "segment_steps", "score_steps", "budget", "trained", "sizes"),
    *("wall_s", "peak_memory_mb", "device", "seeds"),
)
"""What report.json takes from a result without a change."""


def to_json(result: Result) -> dict[str, Any]:
    """The tree of report.json."""
    tree: dict[str, Any] = {"task": "explore"} | {name: getattr(result, name) for name in AS_THEY_ARE}
    tree["verdict"] = verdict(result)
    p_values = result.p_values
    tree["found"] = [_by_searcher(result, one, p_values.get(one.path)) for one in result.found]
    return plain(tree)


def _by_searcher(result: Result, one: Found, p_value: float | None) -> dict[str, Any]:
    row: dict[str, Any] = {"searcher": one.name, "path": one.path, "search": one.score, "test_fresh": one.fresh}
    row["test_iqm"], row["test_fresh_search"] = result.middle(one)._asdict(), one.fresh_search
    if one is not result.best:
        row["improvement_over"] = result.improvement(one)._asdict() | {"p": p_value}
    if one.account is not None:
        account = one.account
        row |= {"spent": account.spent, "segments": account.segments, "states": len(account.states)}
        row["looks"] = account.scores
        row["sightings"] = [(sighting.spent, sighting.path, sighting.score) for sighting in account.sightings]
    return row


def show(result: Result, folder: RunFolder, console: Console) -> None:
    """Prints the table, the verdict and where the rest is."""
    console.print(tables.to_rich(grid(result)))
    for number in sorted(set(result.best.path)):
        console.print(f"{number}: {result.strategies[number]}", markup=False, highlight=False)
    for line in verdict(result):
        console.print(line, markup=False, highlight=False)
    for what, name in (("report", folder.report_md), ("train it", f"jaxft train {folder.path / SCHEDULE}")):
        console.print(f"{what + ':':10}{name}", markup=False, highlight=False, soft_wrap=True)


# --- pictures --------------------------------------------------------------------------------------------------------

_COLOURS = (plots.BLUE, plots.ORANGE, plots.GREEN, plots.RED)


def _look_of(number: int) -> tuple[str, str]:
    """(colour, style of lines) of a row of the table: the default is grey."""
    turn, which = divmod(number - 1, len(_COLOURS))
    return (plots.GREY, "-") if number == 0 else (_COLOURS[which], ("-", "--", ":", "-.")[turn % 4])


def _curves(path: File, result: Result) -> None:
    """The best score that each searcher had seen by so many gradient steps."""
    with plots.drawing(path, 8, 4) as figure:
        axes = figure.add_subplot()
        for number, one in enumerate(result.found):
            if one.account is None:
                continue
            steps = [sighting.spent for sighting in one.account.sightings] + [result.budget]
            best = statistics.curve(one.account, steps)
            colour, style = _look_of(number)
            axes.step(steps, best, style, where="post", color=colour, linewidth=2, label=one.name)
        axes.set(title=f"Best {result.search_metric} of a whole run on the search split", xlabel="gradient steps")
        axes.set_xlim(0, result.budget)
        axes.legend(loc="best")


def _fresh(path: File, result: Result) -> None:
    """Every run from a fresh seed, and their interquartile means with intervals."""
    with plots.drawing(path, 8, 0.6 * len(result.found) + 1.6) as figure:
        axes = figure.add_subplot()
        names = [one.name for one in result.found]
        for row, one in enumerate(result.found):
            middle, (colour, _) = result.middle(one), _look_of(row)
            there = [score for score in one.fresh if np.isfinite(score)]
            axes.plot(there, [row] * len(there), "o", color=colour, alpha=0.4, markersize=6)
            if np.isfinite(middle).all():
                axes.plot([middle.low, middle.high], [row, row], color=colour, linewidth=3)
                axes.plot([middle.value], [row], "D", color=colour, markersize=9)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.set_title(f"Test {result.metric} from fresh seeds: interquartile mean, 95 % interval")
