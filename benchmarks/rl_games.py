"""Self-play on two games, from nothing: how long it takes, and how well what was learnt plays.

    python benchmarks/rl_games.py                          # about 40 minutes on two cores
    python benchmarks/rl_games.py --games tic_tac_toe      # one of them
    python benchmarks/rl_games.py --matches 200            # fewer games a match

Tic-tac-toe: the network with and without search against perfect play, which draws one of the best moves each time; half
of the games each begins. Connect-four: against jaxft's own search with uniform priors and no network at as many
simulations, by UCT, the best of its policies there; the value of an unfinished game is 0, or the mean result of random
ones from it on. Each opening of four random moves is played from both sides. A win counts 1, a draw a half. Training
seconds have the compilation in them. Writes results/rl_games.json and results/rl_games.md.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import jax
import tables
from peers import machine

from jaxft import prng
from jaxft.rl import draws, lookahead, players
from jaxft.rl.envs.board import Board
from jaxft.rl.players import Player, Score
from jaxft.rl.selfplay import SelfPlay, Settings, State
from jaxft.search.policies import Uct

LOG_EVERY = 50
"""Iterations."""
MATCHES = 3
"""What the stream's words are folded with for matches; lower numbers are self-play's."""


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
            updates=24, learning_rate=2e-3, width=256, blocks=1, iterations=700,
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
            seconds = time.perf_counter() - since
            log.append({"iteration": number, "seconds": seconds} | {name: float(x) for name, x in metrics.items()})
            print({name: round(value, 3) for name, value in log[-1].items()}, flush=True)
    return state, time.perf_counter() - since, log


def matches(learner: SelfPlay, state: State, plan: Plan, games: int, words: jax.Array) -> Iterator[tuple[str, Score]]:
    """What is played, and our score."""
    game, count = learner.game, plan.simulations
    network = learner.evaluate(state.params)
    ours: dict[str, Player] = {
        f"network and {count} simulations": players.searcher(game, network, replace(learner.policy, scale=0.0), count),
        "network alone": players.guesser(game, network),
    }
    if game.name == "tic_tac_toe":
        theirs = {"perfect play": players.perfect_tic_tac_toe(game)}
    else:
        theirs = {"random moves": players.random_player(game)} | {
            f"{count} simulations, {what}": players.searcher(game, evaluate, Uct(0.5), count)
            for what, evaluate in {
                "unfinished games worth 0": lookahead.nothing(game),
                "1 random game a position": lookahead.playouts(game, 1),
                "8 random games a position": lookahead.playouts(game, 8),
            }.items()
        }
    for against, rival in theirs.items():
        for name, player in ours.items():
            yield f"{name}; {against}", players.match(game, player, rival, words, games, plan.opening)


def measured(name: str, games: int, seed: int) -> dict[str, Any]:
    """Trains, and plays the matches."""
    plan, words = PLANS[name], prng.device_words(prng.stream("explore", seed))
    learner = SelfPlay(Board(name), plan.settings)
    cpu = time.process_time()
    state, seconds, log = trained(learner, words)
    cpu = time.process_time() - cpu
    parameters = sum(x.size for x in jax.tree.leaves(state.params))
    told = {
        "seconds": seconds,
        "limit_s": plan.limit_s,
        "games": int(state.ended),
        "positions": int(state.buffer.written),
    }
    results = {}
    for what, score in matches(learner, state, plan, games, draws.fold_in(words, MATCHES)):
        results[what] = asdict(score) | {"games": score.games, "score": score.share}
        print(name, what, results[what], flush=True)
    return told | {"parameters": parameters, "settings": asdict(plan.settings), "matches": results, "log": log}


def report(found: dict[str, dict[str, Any]]) -> str:
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
    return f"{text}\n\n{tables.markdown(head, rows)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--games", nargs="+", default=list(PLANS), choices=list(PLANS))
    parser.add_argument("--matches", type=int, default=1000, help="games of each match")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    path = tables.RESULTS / "rl_games.json"
    found = json.loads(path.read_text("utf-8"))["results"] if path.exists() else {}
    for name in options.games:
        began = machine.load()
        found[name] = measured(name, options.matches, options.seed) | {
            "seed": options.seed,
            "date": machine.today(),
            "device": machine.cpu(),
            "load": [began, machine.load()],
        }
        versions = machine.versions("jax", "jaxlib", "flax", "optax", "pgx")
        found = {name: found[name] for name in PLANS if name in found}
        path.write_text(json.dumps({"versions": versions, "results": found}, indent=1) + "\n", "utf-8")
    text = (
        report(found)
        + "\n\n"
        + "; ".join(f"{name}: {one['device']}, {one['date']}, seed {one['seed']}" for name, one in found.items())
    )
    text += ". " + ", ".join(f"{name} {version}" for name, version in versions.items()) + "."
    (tables.RESULTS / "rl_games.md").write_text(text + "\n", "utf-8")
    print(text)


if __name__ == "__main__":
    main()
