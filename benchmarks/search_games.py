"""How well do searches play, with no network and uniform priors?

    python benchmarks/search_games.py                      # about 5 minutes on two cores
    python benchmarks/search_games.py --games 100

The value of an unfinished game is the mean result of random ones from there on, the same for all players.
Tic-tac-toe: jaxft with 200 simulations against a perfect player, who plays a random one of the best moves; half of the
games each begins. Connect-four: jaxft against mctx's policies at the same number of simulations, and at the same time,
as it is measured here; each opening of four random moves is played twice, once from either side. Last, both by the same
formula, PUCT, and without random games: an unfinished one is worth 0. A win counts 1, a draw a half. Writes
results/search_games.json and its block of README.md.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
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
from jaxft.search.policies import Policy, Puct, Uct
from jaxft.search.tree_search import tree_search

SIMULATIONS = {"tic_tac_toe": 200, "connect_four": 64}
PLAYOUTS = {"tic_tac_toe": 32, "connect_four": 8}
OPENING = 4
"""Random moves before a game of connect-four."""
BEST = Uct(c=0.5)
RIVALS = ("muzero_policy", "muzero_policy, q by min and max", "gumbel_muzero_policy")
"""mctx's policies: as they come, and with Q-values scaled by what a game can be worth."""
Player = Callable[[jax.Array, Any], jax.Array]
"""(key, states [B, ...]) -> actions [B]."""


class Game:
    """A pgx game of two players as an environment to search; a won game is worth 1, so 1 is the bound. playouts: random
    games whose mean result is the value of an unfinished one; with none it is 0."""

    bound = 1.0

    def __init__(self, name: str, playouts: int = 0) -> None:
        make: Any = pgx.make
        self.game, self.playouts = make(name), playouts
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
        value = self.value(after, key) if self.playouts else jnp.zeros(reward.shape)
        logits = jnp.zeros((*reward.shape, self.actions))
        return Step(after, reward, jnp.where(over, 0.0, 1.0), logits, value, over, after.legal_action_mask)

    def value(self, state: Any, key: Any) -> jax.Array:
        """Mean result [B] of random games, to the one who is to move."""
        many = jax.tree.map(lambda x: jnp.repeat(x, self.playouts, axis=0), state)
        each = jax.vmap(lambda one: jax.random.split(one, self.playouts))(key).reshape(-1)
        who = many.current_player[:, None]

        def turn(now: tuple[Any, jax.Array, jax.Array]) -> tuple[Any, jax.Array, jax.Array]:
            states, move, results = now
            drawn = jax.vmap(jax.random.fold_in, (0, None))(each, move)
            logits = jnp.where(states.legal_action_mask, 0.0, -jnp.inf)
            moved = jax.vmap(self.game.step)(states, jax.vmap(jax.random.categorical)(drawn, logits))
            won = jnp.take_along_axis(moved.rewards, who, 1)[:, 0]
            return moved, move + 1, results + jnp.where(states.terminated, 0.0, won)

        start = many, jnp.int32(0), jnp.zeros(who.shape[0])
        results = jax.lax.while_loop(lambda now: ~jnp.all(now[0].terminated), turn, start)[2]
        return jnp.mean(results.reshape(-1, self.playouts), axis=1)


def jaxft_player(game: Game, simulations: int, policy: Policy) -> Player:
    """Plays what a search finds best."""

    def play(key: jax.Array, state: Any) -> jax.Array:
        return tree_search(key, game.root(state), game, policy, simulations).action

    return jax.jit(play)


def mctx_player(game: Game, simulations: int, rival: str) -> Player:
    """One of mctx's policies, no noise, temperature 0. Below the root, illegal moves have no prior."""

    def model(params: Any, key: jax.Array, action: jax.Array, state: Any) -> Any:
        step = game.expand(state, action, jax.random.split(key, action.size))
        logits = jnp.where(step.valid, step.logits, jnp.finfo(step.logits.dtype).min)
        discount = jnp.where(state.terminated | step.done, 0.0, -1.0)
        value = jnp.where(step.done, 0.0, step.value)
        out = mctx.RecurrentFnOutput(reward=step.reward, discount=discount, prior_logits=logits, value=value)
        return out, step.state

    def play(key: jax.Array, state: Any) -> jax.Array:
        logits, value = jnp.zeros(state.legal_action_mask.shape), jnp.zeros(state.current_player.shape)
        root = mctx.RootFnOutput(prior_logits=logits, value=value, embedding=state)
        settings: Any = {"invalid_actions": ~state.legal_action_mask}
        if rival.startswith("gumbel"):
            return mctx.gumbel_muzero_policy((), key, root, model, simulations, gumbel_scale=0.0, **settings).action
        if "min and max" in rival:
            settings["qtransform"] = partial(mctx.qtransform_by_min_max, min_value=-1.0, max_value=1.0)
        settings |= {"dirichlet_fraction": 0.0, "temperature": 0.0}
        return mctx.muzero_policy((), key, root, model, simulations, **settings).action

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


def within(game: Game, policy: Policy, least: int, limit: float, states: Any) -> tuple[int, float]:
    """(the most simulations, in steps of a quarter, that take `limit` seconds a move or less, what they take)."""
    count, spent = least, seconds(jaxft_player(game, least, policy), states)
    while (now := seconds(jaxft_player(game, int(count * 1.25), policy), states)) <= limit:
        count, spent = int(count * 1.25), now
    return count, spent


def connect_four(games: int) -> Iterator[tuple[str, dict[str, float]]]:
    """Matches against mctx."""
    count = SIMULATIONS["connect_four"]
    game = Game("connect_four", PLAYOUTS["connect_four"])
    states = begun(game, games // 2, OPENING, 1)
    for rival in RIVALS:
        theirs = mctx_player(game, count, rival)
        at = f"mctx's {rival}, {count} simulations"
        yield f"{at}; jaxft's UCT {count}", match(game, jaxft_player(game, count, BEST), theirs, games, OPENING)
        limit = seconds(theirs, states)
        more, spent = within(game, BEST, count, limit, states)
        ours = jaxft_player(game, more, BEST)
        yield f"{at}; jaxft's UCT {more}, {spent / limit:.2f} of its time", match(game, ours, theirs, games, OPENING)
    game, count = Game("connect_four"), 2 * count
    theirs = mctx_player(game, count, RIVALS[0])
    what = f"no random games: mctx's {RIVALS[0]}, {count} simulations; jaxft's PUCT {count}"
    yield what, match(game, jaxft_player(game, count, Puct()), theirs, games, OPENING)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--games", type=int, default=1000, help="of each match")
    options = parser.parse_args()
    results = {}
    game, count = Game("tic_tac_toe", PLAYOUTS["tic_tac_toe"]), SIMULATIONS["tic_tac_toe"]
    ours, theirs = jaxft_player(game, count, BEST), perfect_player(np.random.default_rng(0))
    results[f"tic-tac-toe, a perfect player; jaxft's UCT {count}"] = match(game, ours, theirs, options.games, moves=0)
    print(results, flush=True)
    for what, told in connect_four(options.games):
        results[f"connect-four, {what}"] = told
        print(what, told, flush=True)

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
