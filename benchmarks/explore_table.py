"""The oracle table: a small world of strategies trained completely, once; then every searcher plays on it for free.

    python benchmarks/explore_table.py enumerate trec --seed 1    # 4 strategies, 4 segments: 256 schedules
    python benchmarks/explore_table.py replay            # every searcher, 200 times, on every table there is

The tables are real: two layers of MiniLM, real data, real steps. A searcher's regret is the score of the best schedule
of all 256 less that of the best one that it saw.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tables

from jaxft import compilation, prng
from jaxft.explore.account import Account
from jaxft.explore.journal import Journal
from jaxft.explore.searchers import MCTS, SEARCHERS, play
from jaxft.explore.world import Training
from jaxft.recipe import Data, Optim, Recipe, Train
from jaxft.report.env import environment
from jaxft.report.run_folder import RunFolder
from jaxft.strategy import Strategy
from jaxft.train.setup import Setup, set_up

RESULTS = Path(__file__).parent / "results"
PREFIX = "explore_table_"
DEPTH, SEGMENT_STEPS = 4, 12
STRATEGIES = (
    Strategy(),
    Strategy(learning_rate=3.0),
    Strategy(learning_rate=0.3),
    Strategy(learning_rate=3.0, freeze="encoder"),
)
HELD_OUT: Any = {"dev": 0.1, "test": 0.2, "search": 0.06, "max_tokens": 64}
WORLDS = {
    "trec": (
        "classify",
        Data(train="trec", dev=0.1, test=0.2, search=0.06, limit=300, max_tokens=64),
        1e-3,
        "accuracy",
    ),
    "sms_spam": (
        "classify",
        Data(train="sms_spam", dev=0.1, test=0.2, search=0.06, limit=120, max_tokens=64),
        3e-4,
        "mcc",
    ),
    "conll2003": ("tag", Data(train="conll2003", search=0.02, limit=300, max_tokens=64), 1e-3, "f1"),
}
"""Task, data, learning rate, what test is judged by."""


def world(
    name: str, seed: int = 0, journal: Journal | None = None, fresh: Setup | None = None
) -> tuple[Training, Setup, tuple[Strategy, ...]]:
    """The world of a table, its setup and strategies. fresh: in the place of its own setup."""
    task, data, rate, _ = WORLDS[name]
    train = Train(steps=DEPTH * SEGMENT_STEPS, batch_size=16, layers=2)
    chosen = Recipe(task=task, data=data, train=train, optim=Optim(learning_rate=rate), seed=seed)
    made = fresh or set_up(chosen, STRATEGIES)
    shape: Any = {"depth": DEPTH, "segment_steps": SEGMENT_STEPS, "metric": "loss", "journal": journal}
    return Training(made, STRATEGIES, **shape), made, STRATEGIES


def paths(length: int) -> list[tuple[int, ...]]:
    """All paths of up to so many segments, each after those that it begins with."""
    return sorted(path for n in range(length + 1) for path in itertools.product(range(len(STRATEGIES)), repeat=n))


def enumerate_world(folder: Path, name: str, seed: int) -> None:
    """Trains every path and writes the table; goes on where it was stopped."""
    compilation.keep()
    journal = Journal(RunFolder(folder / f"{name}_{seed}").create(resume=True))
    played, setup, _ = world(name, seed, journal)
    chosen, metric = setup.recipe, WORLDS[name][3]
    since, table = time.perf_counter(), {}
    for number, path in enumerate(paths(DEPTH)):
        scores = played.scores(path)
        table["".join(map(str, path))] = {key: round(scores[key], 6) for key in (metric, "loss")}
        if number % 20 == 0:
            print(f"{number} {path} {played.trained} {time.perf_counter() - since:.0f} s", flush=True)
    facts: dict[str, Any] = {
        "data": dataclasses.asdict(chosen.data),
        "strategies": [str(one) for one in STRATEGIES],
        "metric": metric,
        "segment_steps": SEGMENT_STEPS,
        "score_steps": round(played.score_steps, 3),
        "learning_rate": chosen.optim.learning_rate,
        "layers": chosen.train.layers,
        "batch_size": chosen.train.batch_size,
        "environment": environment(),
        "table": table,
    }
    table_of(name, seed).write_text(compact(facts), encoding="utf-8")
    print(f"{table_of(name, seed)}: {played.trained} segments, {time.perf_counter() - since:.0f} s")


def table_of(name: str, seed: int) -> Path:
    """The file of a world's table."""
    return RESULTS / f"{PREFIX}{name}_{seed}.json"


def compact(facts: dict[str, Any]) -> str:
    """A table as JSON, a line a path."""
    head = json.dumps({key: value for key, value in facts.items() if key != "table"}, indent=1)
    rows = ",\n".join(f"  {json.dumps(path)}: {json.dumps(scores)}" for path, scores in facts["table"].items())
    return f'{head[:-2]},\n "table": {{\n{rows}\n }}\n}}\n'


@dataclasses.dataclass(frozen=True)
class Table:
    """A world that was enumerated; a `World`."""

    name: str
    scores: dict[tuple[int, ...], float]
    num_actions: int
    depth: int
    segment_steps: int
    score_steps: float
    room: int = 2**30
    leaves: int = 1

    @property
    def num_listed(self) -> int:
        return self.num_actions

    @classmethod
    def read(cls, path: Path, signal: str, *, is_free: bool) -> Table:
        """signal: loss, which counts negative, or metric. is_free: a look costs nothing."""
        facts = json.loads(path.read_text(encoding="utf-8"))
        what, sign = (facts["metric"], 1.0) if signal == "metric" else ("loss", -1.0)
        scores = {tuple(map(int, key)): sign * row[what] for key, row in facts["table"].items()}
        actions, depth = len(facts["strategies"]), max(map(len, scores))
        cost = 0.0 if is_free else facts["score_steps"]
        return cls(path.stem.removeprefix(PREFIX), scores, actions, depth, facts["segment_steps"], cost)

    def ready(self, paths: Sequence[tuple[int, ...]]) -> None:
        pass

    def score(self, path: tuple[int, ...]) -> float:
        return self.scores[path]

    @property
    def best(self) -> float:
        """Of all whole schedules."""
        return max(score for path, score in self.scores.items() if len(path) == self.depth)

    @property
    def worst(self) -> float:
        return min(score for path, score in self.scores.items() if len(path) == self.depth)


def regret(table: Table, name: str, budget: float, replay: int) -> float:
    """Of one replay; of a searcher that saw no whole schedule, the worst there is."""
    account = play(name, Account(table, budget), prng.stream("explore", replay))
    best = account.best()
    return table.best - (table.worst if best is None else best.score)


def replay_all(names: list[str], replays: int, segments: int) -> None:
    """Every searcher on every table; writes explore_table.json and the block of README.md."""
    found: dict[str, Any] = {"replays": replays, "segments": segments, "environment": environment(), "regret": {}}
    for signal, is_free in MODES:
        rows = found["regret"].setdefault(mode_name(signal, is_free), {})
        for task in WORLDS:
            of_task = [Table.read(path, signal, is_free=is_free) for path in sorted(RESULTS.glob(f"{PREFIX}{task}_*"))]
            found["seeds"] = len(of_task)
            for name in names:
                since = time.perf_counter()
                all_ = [[regret(one, name, segments * one.segment_steps, n) for n in range(replays)] for one in of_task]
                rows.setdefault(name, {})[task] = _summary(np.array(all_))
                took = time.perf_counter() - since
                print(f"{task} {signal} {is_free} {name:20} {np.mean(all_):.5f} {took:.0f} s", flush=True)
    (RESULTS / "explore_table.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    tables.fill("explore-table", block(found))


def _summary(regrets: np.ndarray) -> dict[str, Any]:
    """Of [tables, replays]; the interval is that of the replays, for the tables are what they are."""
    count, replays = regrets.shape
    half = 1.96 * (regrets.var(axis=1, ddof=1).sum() / replays) ** 0.5 / count
    by_seed = [round(float(one), 5) for one in regrets.mean(axis=1)]
    return {"mean": round(float(regrets.mean()), 5), "half_interval": round(float(half), 5), "by_seed": by_seed}


MODES = (("loss", True), ("loss", False), ("metric", True), ("metric", False))
"""(what searchers look at, whether that is free)."""


def mode_name(signal: str, is_free: bool) -> str:
    """As the results have it."""
    return f"{signal}, looks {'free' if is_free else 'paid'}"


def block(found: dict[str, Any]) -> str:
    """The replays as Markdown tables."""
    first = f"{found['seeds']} tables a task, {found['replays']:,} replays of each searcher on each, "
    parts = [f"{first}{found['segments']} segments; {found['environment']['cpu']}."]
    for signal in ("loss", "metric"):
        modes = [mode_name(signal, is_free) for is_free in (True, False)]
        names = {task: signal if signal == "loss" else WORLDS[task][3] for task in WORLDS}
        looks = [(mode, task) for mode in modes for task in WORLDS]
        head = [f"mean regret, by {signal}", *(f"{task}, {names[task]}, {mode[-10:]}" for mode, task in looks)]
        rows = []
        for name in found["regret"][modes[0]]:
            cells = [found["regret"][mode][name][task] for mode, task in looks]
            rows.append([name, *(f"{one['mean']:.4f} ± {one['half_interval']:.4f}" for one in cells)])
        parts.append(tables.markdown(head, rows))
    shares = [_share(rows, mode, rival) for rival in COMPARED for mode, rows in found["regret"].items()]
    parts.append(tables.markdown(["mcts's regret as a share of (held out)", *WORLDS], shares))
    return "\n\n".join(parts)


COMPARED = ("random_schedule", "successive_halving")
CHOSEN_ON = {"trec": (0, 1, 4), "sms_spam": (0, 1), "conll2003": (0, 1, 4)}
"""Seeds of the tables on which the explorer's settings were chosen; the others are held out."""


def _share(rows: dict[str, Any], mode: str, rival: str) -> list[str]:
    """A row: the explorer's regret beside a rival's, on all tables and on those held out."""
    cells = [f"{rival}'s, by {mode}"]
    for task in WORLDS:
        ours, theirs = (np.array(rows[who][task]["by_seed"]) for who in (MCTS, rival))
        held = [at for at in range(len(ours)) if at not in CHOSEN_ON[task]]
        cells.append(f"{_ratio(ours, theirs)} ({_ratio(ours[held], theirs[held])})")
    return cells


def _ratio(ours: np.ndarray, theirs: np.ndarray) -> str:
    return f"{ours.mean() / theirs.mean():.0%}" if theirs.any() else "—"


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("enumerate", "replay"))
    parser.add_argument("world", nargs="?", choices=tuple(WORLDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("runs/explore_table"), help="for what is not finished")
    parser.add_argument("--replays", type=int, default=200, help="on each table")
    parser.add_argument("--segments", type=int, default=64)
    parser.add_argument("--searchers", nargs="*", default=list(SEARCHERS))
    args = parser.parse_args()
    if args.what == "enumerate":
        enumerate_world(args.folder, args.world, args.seed)
    else:
        replay_all(args.searchers, args.replays, args.segments)


if __name__ == "__main__":
    main()
