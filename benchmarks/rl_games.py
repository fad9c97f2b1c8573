"""Self-play on two games, from nothing: how long it takes, and how well what was learnt plays.

    python benchmarks/rl_games.py                          # about 30 minutes on two busy cores
    python benchmarks/rl_games.py --games tic_tac_toe      # one of them
    python benchmarks/rl_games.py --matches 200            # fewer games a match
    python benchmarks/rl_games.py --params DIR             # keeps what was learnt in DIR/GAME.npz
    python benchmarks/rl_games.py --params DIR --reuse     # the matches alone, of what is there

Tic-tac-toe: the network with and without search against perfect play, which draws one of the best moves each time; half
of the games each begins. Connect-four: against jaxft's own search with uniform priors and no network at as many
simulations; the value of an unfinished game is 0, or the mean result of random ones from it on. Each opening of four
random moves is played from both sides. A win counts 1, a draw a half. Training seconds have the compilation in them;
the load averages before and after it stand beside them. Writes results/rl_games.json and results/rl_games.md.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tables
from peers import machine

from jaxft import draws, prng
from jaxft.rl import lookahead, players
from jaxft.rl.envs.board import Board
from jaxft.rl.players import Player, Score
from jaxft.rl.selfplay import SelfPlay, Settings, State
from jaxft.search.policies import Uct

LOG_EVERY = 50
"""Iterations."""
MATCHES = 3
"""What the stream's words are folded with for matches; lower numbers are self-play's."""
OURS, THEIRS = Uct(0.25), Uct(0.5)
"""How matches are searched, with a network and without. UCT tries each answer once, so it overlooks few wins at once;
Gumbel's policy, which self-play learns from, follows the prior, and got 78 % against unfinished games worth 0 where UCT
got 97 % (400 games of other openings, by which it was chosen among six settings)."""


@dataclass(frozen=True)
class Plan:
    """settings: of self-play. simulations: a move in matches, of either side. opening: random moves before a game."""

    settings: Settings
    simulations: int
    opening: int
    limit_s: float


PLANS = {
    "tic_tac_toe": Plan(
        Settings(
            simulations=32, num_games=128, moves=9, max_moves=9, opening=4, capacity=20_000, batch_size=256, updates=16,
            learning_rate=2e-3, width=128, blocks=1, iterations=400,
        ),
        simulations=32, opening=0, limit_s=600.0,
    ),
    "connect_four": Plan(
        Settings(
            simulations=32, num_games=256, moves=16, max_moves=42, opening=6, capacity=131_072, batch_size=512,
            updates=48, learning_rate=2e-3, width=256, blocks=1, iterations=400,
        ),
        simulations=32, opening=4, limit_s=1800.0,
    ),
}  # fmt: skip


def trained(learner: SelfPlay, words: jax.Array) -> tuple[State, float, list[dict[str, float]]]:
    """(state, seconds with compilation, [metrics every so many iterations])."""
    since, log = time.perf_counter(), list[dict[str, float]]()
    iterate = jax.jit(learner.iterate, donate_argnums=0)
    state = jax.jit(learner.init)(words)
    for number in range(1, learner.settings.iterations + 1):
        state, metrics = iterate(state, words)
        if number % LOG_EVERY == 0 or number == learner.settings.iterations:
            told = {name: float(x) for name, x in metrics.items()}  # waits for them
            log.append({"iteration": number, "seconds": time.perf_counter() - since} | told)
            print({name: round(value, 3) for name, value in log[-1].items()}, flush=True)
    return state, time.perf_counter() - since, log


def matches(learner: SelfPlay, params: Any, plan: Plan, games: int, words: jax.Array) -> Iterator[tuple[str, Score]]:
    """What is played, and our score."""
    game, count, words = learner.game, plan.simulations, draws.fold_in(words, MATCHES)
    network = learner.evaluate(params)
    ours: dict[str, Player] = {
        f"network and {count} simulations": players.searcher(game, network, OURS, count),
        "network alone": players.guesser(game, network),
    }
    if game.name == "tic_tac_toe":
        theirs = {"perfect play": players.perfect_tic_tac_toe(game)}
    else:
        theirs = {"random moves": players.random_player(game)} | {
            f"{count} simulations, {what}": players.searcher(game, evaluate, THEIRS, count)
            for what, evaluate in {
                "unfinished games worth 0": lookahead.nothing(game),
                "1 random game a position": lookahead.playouts(game, 1),
                "8 random games a position": lookahead.playouts(game, 8),
            }.items()
        }
    for name, player in ours.items():
        for against, rival in theirs.items():
            yield f"{name}; {against}", players.match(game, player, rival, words, games, plan.opening)


def learnt(name: str, seed: int, folder: Path | None) -> dict[str, Any]:
    """Trains; what it took. The parameters go to the folder, if there is one."""
    plan, words = PLANS[name], words_of(seed)
    began, cpu = machine.load(), time.process_time()
    state, seconds, log = trained(SelfPlay(Board(name), plan.settings), words)
    cpu = time.process_time() - cpu
    flat, _ = jax.tree.flatten_with_path(state.params)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / f"{name}.npz", **{"/".join(key.key for key in path): leaf for path, leaf in flat})
    return {
        "params": state.params,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "limit_s": plan.limit_s,
        "games": int(state.ended),
        "positions": int(state.buffer.written),
        "parameters": sum(leaf.size for _, leaf in flat),
        "settings": asdict(plan.settings),
        "seed": seed,
        "load": [began, machine.load()],
        "log": log,
    }


def loaded(path: Path) -> dict[str, Any]:
    """Parameters that were kept."""
    params: dict[str, Any] = {}
    with np.load(path) as file:
        for name, leaf in file.items():
            layer, part = name.split("/")
            params.setdefault(layer, {})[part] = leaf
    return params


def played(name: str, params: Any, games: int, seed: int) -> dict[str, Any]:
    """The matches."""
    plan, results = PLANS[name], {}
    for what, score in matches(SelfPlay(Board(name), plan.settings), params, plan, games, words_of(seed)):
        results[what] = asdict(score) | {"games": score.games, "score": score.share}
        print(name, what, results[what], flush=True)
    return {"matches": results, "date": machine.today(), "device": machine.cpu()}


def words_of(seed: int) -> jax.Array:
    return prng.device_words(prng.stream("explore", seed))


def report(found: dict[str, dict[str, Any]], versions: dict[str, str]) -> str:
    """Tables of both games."""
    head = ["game", "training, s", "limit, s", "CPU seconds", "games of self-play", "positions", "parameters"]
    fields = ("games", "positions", "parameters")
    times = ("seconds", "limit_s", "cpu_seconds")
    rows = [[name, *(f"{one[x]:,.0f}" for x in times), *(f"{one[x]:,}" for x in fields)] for name, one in found.items()]
    text = tables.markdown(head, rows)
    head = ["game: ours; theirs", "games", "won", "drawn", "lost", "score"]
    counts = ("games", "won", "drawn", "lost")
    rows = [
        [f"{name}: {what}", *(str(score[x]) for x in counts), f"{score['score']:.1%}"]
        for name, one in found.items()
        for what, score in one["matches"].items()
    ]
    lines = [
        f"{name}: {one['device']}, {one['date']}, seed {one['seed']}, load {one['load'][0][0]} before and "
        f"{one['load'][1][0]} after training."
        for name, one in found.items()
    ]
    lines.append(", ".join(f"{name} {version}" for name, version in versions.items()) + ".")
    return f"{text}\n\n{tables.markdown(head, rows)}\n\n{' '.join(lines)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--games", nargs="+", default=list(PLANS), choices=list(PLANS))
    parser.add_argument("--matches", type=int, default=1000, help="games of each match")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--params", type=Path, help="folder of what was learnt")
    parser.add_argument("--reuse", action="store_true", help="play the matches of the last training alone")
    options = parser.parse_args()
    if options.reuse and options.params is None:
        parser.error("--reuse needs --params")
    path = tables.RESULTS / "rl_games.json"
    found = json.loads(path.read_text("utf-8"))["results"] if path.exists() else {}
    for name in options.games:
        if options.reuse:
            params = loaded(options.params / f"{name}.npz")
        else:
            found[name] = learnt(name, options.seed, options.params)
            params = found[name].pop("params")
        found[name] |= played(name, params, options.matches, options.seed)
        versions = machine.versions("jax", "jaxlib", "flax", "optax", "pgx")
        found = {name: found[name] for name in PLANS if name in found}
        path.write_text(json.dumps({"versions": versions, "results": found}, indent=1) + "\n", "utf-8")
    text = report(found, versions)
    (tables.RESULTS / "rl_games.md").write_text(text + "\n", "utf-8")
    tables.fill("rl-games", text)
    print(text)


if __name__ == "__main__":
    main()
