"""How well do searches play, with no network: uniform priors, and 0 for the value of an unfinished game?

    python benchmarks/search_games.py                      # about 20 minutes on two cores
    python benchmarks/search_games.py --games 100

Tic-tac-toe of pgx: jaxft with 200 simulations against a perfect player, who plays a random one of the best moves; half
of the games each begins. Connect-four: jaxft against mctx at the same number of simulations, and at the same time, as
it is measured here; each opening of two random moves is played twice, once from either side. A win counts 1, a draw a
half. Writes results/search_games.json and its block of README.md.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pgx
import tables
from peers import machine
from search_models import mctx

from jaxft.search.env import Root, Step
from jaxft.search.policies import Puct
from jaxft.search.tree_search import tree_search

SIMULATIONS = {"tic_tac_toe": 200, "connect_four": 128}
Player = Callable[[jax.Array, Any], jax.Array]
"""(key, states [B, ...]) -> actions [B]."""


class Game:
    """A pgx game of two players as an environment to search; a won game is worth 1, so 1 is the bound."""

    bound = 1.0

    def __init__(self, name: str) -> None:
        make: Any = pgx.make
        self.game = make(name)
        self.actions = self.game.num_actions

    def player(self, state: Any) -> jax.Array:
        return state.current_player

    def root(self, state: Any) -> Root:
        batch = state.current_player.shape[0]
        return Root(state, jnp.zeros((batch, self.actions)), jnp.zeros(batch), state.legal_action_mask)

    def expand(self, state: Any, action: jax.Array, key: Any) -> Step:
        after = jax.vmap(self.game.step)(state, action)
        reward = jnp.take_along_axis(after.rewards, state.current_player[:, None], 1)[:, 0]
        over = after.terminated
        zero = jnp.zeros(reward.shape)
        logits = jnp.zeros((*reward.shape, self.actions))
        return Step(after, reward, jnp.where(over, 0.0, 1.0), logits, zero, over, after.legal_action_mask)


def jaxft_player(game: Game, simulations: int) -> Player:
    """PUCT, no noise."""

    def play(key: jax.Array, state: Any) -> jax.Array:
        return tree_search(key, game.root(state), game, Puct(), simulations).action

    return jax.jit(play)


def mctx_player(game: Game, simulations: int) -> Player:
    """mctx's muzero_policy, no noise, temperature 0. Below the root, illegal moves have no prior."""

    def model(params: Any, key: Any, action: jax.Array, state: Any) -> Any:
        step = game.expand(state, action, key)
        low = jnp.finfo(step.logits.dtype).min
        logits = jnp.where(step.valid, step.logits, low)
        discount = jnp.where(state.terminated | step.done, 0.0, -1.0)
        out = mctx.RecurrentFnOutput(reward=step.reward, discount=discount, prior_logits=logits, value=step.value)
        return out, step.state

    def play(key: jax.Array, state: Any) -> jax.Array:
        logits, value = jnp.zeros(state.legal_action_mask.shape), jnp.zeros(state.current_player.shape)
        root = mctx.RootFnOutput(prior_logits=logits, value=value, embedding=state)
        settings: Any = {"dirichlet_fraction": 0.0, "temperature": 0.0}
        invalid = ~state.legal_action_mask
        return mctx.muzero_policy((), key, root, model, simulations, invalid_actions=invalid, **settings).action

    return jax.jit(play)


# --- a perfect player of tic-tac-toe ---------------------------------------------------------------------------------

LINES = ((0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6))


@cache
def worth(board: tuple[int, ...]) -> int:
    """To the one who is to move: 1 won, 0 drawn, -1 lost. board: 1 theirs who moves, -1 the other's, 0 free."""
    if any(all(board[at] == -1 for at in line) for line in LINES):
        return -1
    free = [at for at in range(9) if board[at] == 0]
    return max((-worth(after(board, at)) for at in free), default=0)


def after(board: tuple[int, ...], at: int) -> tuple[int, ...]:
    """The board after a move, as the other one sees it."""
    return tuple(-1 if i == at else -x for i, x in enumerate(board))


def perfect_player(rng: np.random.Generator) -> Player:
    """A random one of the best moves."""

    def play(key: jax.Array, state: Any) -> jax.Array:
        boards = np.asarray(state.observation).reshape(-1, 9, 2)
        moves = []
        for board, over in zip(boards[..., 0].astype(int) - boards[..., 1].astype(int), state.terminated, strict=True):
            here = tuple(board.tolist())
            free = [at for at in range(9) if here[at] == 0]
            if over or not free:
                moves.append(0)
                continue
            values = [-worth(after(here, at)) for at in free]
            moves.append(rng.choice([at for at, value in zip(free, values, strict=True) if value == max(values)]))
        return jnp.asarray(moves, jnp.int32)

    return play


# --- matches ---------------------------------------------------------------------------------------------------------


def play(game: Game, states: Any, first: Player, second: Player) -> np.ndarray:
    """Results [B] for `first`, who moves first: 1, 0, -1. states: with the same one to move in all of them."""
    step = jax.jit(jax.vmap(game.game.step))
    begins = np.asarray(states.current_player)
    result, key = np.zeros(len(begins)), jax.random.key(0)
    for move in range(100):
        over = np.asarray(states.terminated)
        if over.all():
            return result
        actions = (first, second)[move % 2](jax.random.fold_in(key, move), states)
        states = step(states, actions)
        ended = np.asarray(states.terminated) & ~over
        result[ended] = np.asarray(states.rewards)[ended, begins[ended]]
    raise RuntimeError("a game did not end")


def begun(game: Game, count: int, moves: int, seed: int) -> Any:
    """States after some random moves; games that ended on the way begin anew with others."""
    key = jax.random.key(seed)
    states = jax.vmap(game.game.init)(jax.random.split(key, count))
    for move in range(moves):
        logits = jnp.where(states.legal_action_mask, 0.0, -jnp.inf)
        states = jax.vmap(game.game.step)(states, jax.random.categorical(jax.random.fold_in(key, move), logits))
    return states


def match(game: Game, ours: Player, theirs: Player, games: int, moves: int, seed: int = 1) -> dict[str, float]:
    """Each opening is played from both sides."""
    states = begun(game, games // 2, moves, seed)
    results = np.concatenate([play(game, states, ours, theirs), -play(game, states, theirs, ours)])
    won, drawn, lost = (int((results == one).sum()) for one in (1, 0, -1))
    return {"games": len(results), "won": won, "drawn": drawn, "lost": lost, "score": (won + drawn / 2) / len(results)}


def seconds(player: Player, states: Any) -> float:
    """Of one move, median of three."""
    key = jax.random.key(0)
    jax.block_until_ready(player(key, states))
    times = []
    for _ in range(3):
        since = time.perf_counter()
        jax.block_until_ready(player(key, states))
        times.append(time.perf_counter() - since)
    return sorted(times)[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--games", type=int, default=1000, help="of tic-tac-toe; a fifth of it of connect-four")
    options = parser.parse_args()
    results = {}

    game = Game("tic_tac_toe")
    ours = jaxft_player(game, SIMULATIONS["tic_tac_toe"])
    what = f"tic-tac-toe, {SIMULATIONS['tic_tac_toe']} simulations, against a perfect player"
    results[what] = match(game, ours, perfect_player(np.random.default_rng(0)), options.games, moves=0)
    print(what, results[what], flush=True)

    game, count, games = Game("connect_four"), SIMULATIONS["connect_four"], options.games // 5
    theirs, states = mctx_player(game, count), begun(game, games // 2, 2, 1)
    time_of = partial(seconds, states=states)
    what = f"connect-four, {count} simulations each, against mctx"
    results[what] = match(game, jaxft_player(game, count), theirs, games, moves=2)
    print(what, results[what], flush=True)
    more, limit = count, time_of(theirs)
    while time_of(jaxft_player(game, int(more * 1.25))) <= limit:
        more = int(more * 1.25)
    spent = time_of(jaxft_player(game, more)) / limit
    what = f"connect-four, mctx {count}, jaxft {more} simulations in {spent:.2f} of its time"
    results[what] = match(game, jaxft_player(game, more), theirs, games, moves=2)
    print(what, results[what], flush=True)

    head = ["match", "games", "won", "drawn", "lost", "score"]
    names = ("games", "won", "drawn", "lost")
    rows = [[what, *(str(one[name]) for name in names), f"{one['score']:.1%}"] for what, one in results.items()]
    versions = machine.versions("jax", "mctx", "pgx")
    text = f"{tables.markdown(head, rows)}\n\n{machine.cpu()}, {machine.today()}, pgx {versions['pgx']}."
    tree = {"date": machine.today(), "device": machine.cpu(), "versions": versions, "results": results}
    (tables.RESULTS / "search_games.json").write_text(json.dumps(tree, indent=1) + "\n", "utf-8")
    tables.fill("search-games", text)
    print(text)


if __name__ == "__main__":
    main()
