"""Does searching a schedule pay? Every searcher on real tasks with few labels, judged on test from fresh seeds.

    python benchmarks/explore_live.py run --seeds 5        # hours on two cores; goes on where it was stopped
    python benchmarks/explore_live.py report

A world is a task and a seed: two layers of MiniLM, 4 strategies, 4 segments of 12 steps, as in explore_table.py. All
searchers have the same budget in gradient steps, looks at the search split included. What each one found is trained
again from fresh seeds and scored on test. Scores are kept in --folder; a world's searchers share what is computed, but
each pays for all that it trains.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import tables
from explore_table import RESULTS, WORLDS, table_of, world

from jaxft import compilation, prng
from jaxft.explore import statistics
from jaxft.explore.account import Account
from jaxft.explore.confirm import confirm
from jaxft.explore.journal import Journal
from jaxft.explore.searchers import MCTS, SEARCHERS, play
from jaxft.report.env import environment
from jaxft.report.run_folder import RunFolder
from jaxft.train.setup import set_up

PREFIX_LIVE = "explore_live_"
BUDGET_RUNS = 16
"""Whole runs that the budget pays for, each scored once."""


def run_world(folder: Path, name: str, seed: int, fresh_seeds: int) -> None:
    """All searchers in one world, and the confirmations; writes the world's result."""
    place, result = folder / f"{name}_{seed}", RESULTS / f"{PREFIX_LIVE}{name}_{seed}.json"
    if result.is_file():
        return
    records = RunFolder(place).create(resume=True)
    journal = Journal(records)
    searched, setup, strategies = world(name, seed, journal)
    table = table_of(name, seed)
    if table.is_file():
        searched.recall({tuple(map(int, key)): row for key, row in json.loads(table.read_text())["table"].items()})
    budget = BUDGET_RUNS * (searched.depth * searched.segment_steps + searched.score_steps)
    accounts = {}
    for searcher in SEARCHERS:
        accounts[searcher] = play(searcher, Account(searched, budget), prng.stream("explore", seed))
        best = accounts[searcher].best()
        print(f"{place.name} {searcher:20} {best and best.score} {best and best.path}", flush=True)
    paths = list(dict.fromkeys(account.best().path for account in accounts.values()))  # type: ignore[union-attr]
    found = confirm(
        setup,
        lambda chosen: set_up(chosen, strategies),
        lambda fresh: world(name, seed, None, fresh)[0],
        paths,
        fresh_seeds,
        journal,
    )
    metric = WORLDS[name][3]
    rows = {}
    for searcher, account in accounts.items():
        best = account.best()
        assert best is not None
        tests = [scores[metric] for scores in found[best.path]]
        rows[searcher] = {
            "path": best.path,
            "search": best.score,
            "test": tests,
            "improvements": _improvements(account),
        }
    tree = {"environment": environment(), "budget": budget, "trained": searched.trained, "searchers": rows}
    RunFolder.write_text(result, json.dumps(tree) + "\n")


def _improvements(account: Account) -> list[tuple[float, tuple[int, ...], float]]:
    """(gradient steps spent, schedule, score) of each schedule that was better than all before it."""
    better = [one for one in account.sightings if account.best(one.spent) == one]
    return [(round(one.spent, 3), one.path, one.score) for one in better]


def report() -> None:
    """Aggregates the worlds that are finished; writes explore_live.json."""
    worlds: dict[str, list[Any]] = {}
    for path in sorted(RESULTS.glob(f"{PREFIX_LIVE}*.json")):
        name = path.stem.removeprefix(PREFIX_LIVE).rpartition("_")[0]
        worlds.setdefault(name, []).append(json.loads(path.read_text()))
    words = prng.stream("bootstrap", 0)
    tree: dict[str, Any] = {"environment": environment(), "budget_runs": BUDGET_RUNS, "worlds": {}}
    for name, found in worlds.items():
        rows = {}
        ours = _tests(found, MCTS)
        for searcher in SEARCHERS:
            test = _tests(found, searcher)
            search = np.array([one["searchers"][searcher]["search"] for one in found])
            row: dict[str, Any] = {"search": float(search.mean())}
            row["test"] = _rounded(statistics.interval(test, prng.path_words(words, f"{name} {searcher}")))
            if searcher != MCTS:
                chance = statistics.probability_of_improvement(
                    ours, test, prng.path_words(words, f"{name} over {searcher}")
                )
                row["mcts_better"] = _rounded(chance)
                row["worlds_won"] = float(np.sum(ours > test) + np.sum(ours == test) / 2)
                row["share_of_steps"] = _share(found, searcher)
            rows[searcher] = row
        tree["worlds"][name] = {"seeds": len(found), "searchers": rows}
    (RESULTS / "explore_live.json").write_text(json.dumps(tree, indent=1) + "\n", encoding="utf-8")
    tables.fill("explore-live", block(tree))


def _tests(found: list[Any], searcher: str) -> np.ndarray:
    """f64 [worlds]: mean of a world's fresh seeds on test; -inf where one diverged."""
    scores = np.array([one["searchers"][searcher]["test"] for one in found], np.float64)
    return np.where(np.isfinite(scores), scores, -np.inf).mean(axis=-1)


def block(tree: dict[str, Any]) -> str:
    """A table a task."""
    parts = []
    for name, world_ in tree["worlds"].items():
        metric, seeds = WORLDS[name][3], world_["seeds"]
        head = [
            f"{name}, {seeds} seed(s)",
            "negative loss on search",
            f"{metric} on test (95 %)",
            "mcts is better (95 %)",
        ]
        head += ["worlds it wins", "steps to the rival's last score, mcts's share"]
        rows = []
        for searcher, row in world_["searchers"].items():
            chance = "—" if searcher == MCTS else "{:.2f} ({:.2f}–{:.2f})".format(*row["mcts_better"])
            shares = [f"{one:.2f}" if one is not None else "never" for one in row.get("share_of_steps", [])]
            test = "{:.4f} ({:.4f}–{:.4f})".format(*row["test"])
            won = "—" if searcher == MCTS else f"{row['worlds_won']:g}"
            rows.append([searcher, f"{row['search']:.4f}", test, chance, won, ", ".join(shares) or "—"])
        parts.append(tables.markdown(head, rows))
    return "\n\n".join([f"{tree['environment']['cpu']}.", *parts])


def _share(found: list[Any], rival: str) -> list[float | None]:
    """Of each world: the steps after which the explorer had seen what the rival's whole budget gave, over those after
    which the rival had; none where it never did."""
    shares = []
    for one in found:
        level = one["searchers"][rival]["search"]
        reached, needed = (_steps_to(one["searchers"][who]["improvements"], level) for who in (MCTS, rival))
        shares.append(round(reached / needed, 3) if np.isfinite(reached) else None)
    return shares


def _steps_to(improvements: list[Any], level: float) -> float:
    return next((spent for spent, _, score in improvements if score >= level), np.inf)


def _rounded(estimate: statistics.Estimate) -> list[float]:
    return [round(float(value), 4) for value in estimate]


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "report"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--fresh-seeds", type=int, default=5)
    parser.add_argument("--worlds", nargs="*", default=list(WORLDS))
    parser.add_argument("--folder", type=Path, default=Path("runs/explore_live"))
    args = parser.parse_args()
    compilation.keep()
    for seed in range(args.seeds if args.what == "run" else 0):
        for name in args.worlds:
            run_world(args.folder, name, seed, args.fresh_seeds)
    report()


if __name__ == "__main__":
    main()
