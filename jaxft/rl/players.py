"""Players of board games, and matches between them.

A player is a function of (words uint32 [2], states [B, ...]) that gives actions [B]; what it draws has the address
words, game. Matches run on the host, a move of all games at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxft import draws
from jaxft.rl import lookahead
from jaxft.rl.lookahead import Evaluate, Game, Lookahead
from jaxft.search.policies import Policy

Player = Callable[[Array, Any], Array]


def random_player(game: Game) -> Player:
    """A valid move, each as likely."""

    def play(words: Array, state: Any) -> Array:
        size = jax.tree.leaves(state)[0].shape[0]
        return lookahead.random_action(game, state, draws.fold_in(words, jnp.arange(size)))

    return jax.jit(play)


def searcher(game: Game, evaluate: Evaluate, policy: Policy, simulations: int) -> Player:
    """Plays what a search finds best. Without a network: `lookahead.nothing(game)`, `lookahead.playouts(game, n)`."""
    world = Lookahead(game, evaluate)

    def play(words: Array, state: Any) -> Array:
        return world.search(words, state, policy, simulations).action

    return jax.jit(play)


def guesser(game: Game, evaluate: Evaluate) -> Player:
    """Plays the move with the greatest logit, with no search."""

    def play(words: Array, state: Any) -> Array:
        logits = Lookahead(game, evaluate).root(state, words).logits
        return jnp.argmax(jnp.where(jax.vmap(game.valid)(state), logits, -jnp.inf), axis=-1).astype(jnp.int32)

    return jax.jit(play)


# --- a perfect player of tic-tac-toe ---------------------------------------------------------------------------------

LINES = ((0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6))
_PLACES = 3 ** np.arange(9)


def perfect_tic_tac_toe(game: Game) -> Player:
    """A random one of the best moves, by a table of all positions."""

    def play(words: Array, state: Any) -> Array:
        table = jnp.asarray(best_moves())
        planes = jax.vmap(game.observe)(state)
        boards = planes.reshape(-1, 9, 2).astype(jnp.int32)
        best = table[jnp.sum((boards[..., 0] + 2 * boards[..., 1]) * jnp.asarray(_PLACES, jnp.int32)[None], axis=1)]
        scores = draws.gumbel(draws.fold_in(words, jnp.arange(boards.shape[0])), 9)
        return jnp.argmax(jnp.where(best, scores, -jnp.inf), axis=-1).astype(jnp.int32)

    return jax.jit(play)


@cache
def best_moves() -> np.ndarray:
    """bool [3**9, 9]: of a board, whose cells are digits (0 free, 1 theirs who moves, 2 the other's), the best moves;
    none where the game is over or no game leads there."""
    table, values = np.zeros((3**9, 9), bool), dict[tuple[int, ...], int]()

    def worth(board: tuple[int, ...]) -> int:
        """To who is to move."""
        if board in values:
            return values[board]
        if any(all(board[at] == 2 for at in line) for line in LINES):
            return values.setdefault(board, -1)
        free = [at for at in range(9) if board[at] == 0]
        after = {at: -worth(_after(board, at)) for at in free}
        best = max(after.values(), default=0)
        table[int(np.dot(board, _PLACES)), [at for at in free if after[at] == best]] = True
        return values.setdefault(board, best)

    worth((0,) * 9)
    return table


def _after(board: tuple[int, ...], at: int) -> tuple[int, ...]:
    """The board after a move, as the other one sees it."""
    return tuple(2 if i == at else (0, 2, 1)[x] for i, x in enumerate(board))


# --- matches ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Score:
    """Of one player of a match: games won, drawn and lost."""

    won: int
    drawn: int
    lost: int

    @property
    def games(self) -> int:
        return self.won + self.drawn + self.lost

    @property
    def share(self) -> float:
        """A win counts 1, a draw a half."""
        return (self.won + self.drawn / 2) / self.games


def match(game: Game, ours: Player, theirs: Player, words: Array, games: int, opening: int = 0) -> Score:
    """Plays `games` games, an even number: half of them after so many random moves each, and each from both sides."""
    begun, first, second = (_fold(words, at) for at in range(3))
    states = openings(game, begun, games // 2, opening)
    moving = np.asarray(jax.vmap(game.player)(states))
    results = np.concatenate(
        [play(game, states, ours, theirs, moving, first), play(game, states, ours, theirs, 1 - moving, second)]
    )
    return Score(*(int((results == one).sum()) for one in (1, 0, -1)))


def openings(game: Game, words: Array, count: int, moves: int) -> Any:
    """States [count, ...] after so many random moves; a game that would end on the way stays before that move."""

    each = _fold(words, jnp.arange(count))
    states = begin(game, draws.keys(each))
    for number in range(moves):
        states = _opened(game, states, _fold(each, number))
    return states


def play(game: Game, states: Any, ours: Player, theirs: Player, side: np.ndarray, words: Array) -> np.ndarray:
    """Plays games [B] to their ends; their results to us: 1, 0, -1. side: the number of our player in each."""
    move = 0
    while not (over := np.asarray(jax.vmap(game.over)(states))).all():
        ours_to_move = np.asarray(jax.vmap(game.player)(states)) == side
        actions = np.zeros(len(side), np.int32)
        for which, player in enumerate((ours, theirs)):
            turn = ~over & (ours_to_move if which == 0 else ~ours_to_move)
            if turn.any():
                chosen = player(_fold(_fold(words, move), which), states)
                actions = np.where(turn, np.asarray(chosen), actions)
        states, move = step(game, states, jnp.asarray(actions)), move + 1
    return np.asarray(jax.vmap(game.result)(states, jnp.asarray(side, jnp.int32))).astype(int)


@partial(jax.jit, static_argnums=0)
def begin(game: Game, key: Array) -> Any:
    """New games, one a key."""
    return jax.vmap(game.init)(key)


@partial(jax.jit, static_argnums=0)
def step(game: Game, states: Any, actions: Array) -> Any:
    """Games after a move of each."""
    return jax.vmap(game.step)(states, actions)


@partial(jax.jit, static_argnums=0)
def _opened(game: Game, states: Any, words: Array) -> Any:
    """Games after a random move of each, but for those which it would end."""
    after = step(game, states, lookahead.random_action(game, states, words))
    return lookahead.where(jax.vmap(game.over)(after), states, after)


_fold = jax.jit(draws.fold_in)
