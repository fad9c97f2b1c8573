"""Board games of pgx: as games of two, for searches and self-play, and as environments with the opponent inside.

A state is pgx's own, the same for both. Left out: pgx's other games, whose observations and results have other forms,
and opponents that learn: a game of two is there for those.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxft import draws
from jaxft.errors import UserError
from jaxft.rl.env import Discrete, Outcome
from jaxft.rl.envs.control import lenient, strong

NAMES = {
    "tic_tac_toe": "three in a row, against random moves",
    "connect_four": "four in a row, against random moves",
}
GAMES = tuple(NAMES)
OPPONENTS = ("random",)

_MOVES = {"tic_tac_toe": 9, "connect_four": 42}
"""Cells, so the most moves of a game."""

# The best return against random moves in tic-tac-toe is 0.960: 0.995 moving first, 0.925 second (computed exactly in
# tests/rl/test_envs.py); 0.9 leaves room for the mean of 100 games. For connect-four nobody has named a number.
_THRESHOLDS = {"tic_tac_toe": 0.9, "connect_four": None}


def make(name: str, opponent: str = "random") -> Match:
    """A game against an opponent: `random` plays any move that is valid, each as likely."""
    if opponent not in OPPONENTS:
        raise UserError("rl.env", f"{name} has no opponent {opponent!r}", f"one of: {', '.join(OPPONENTS)}")
    game = Board(name)
    return Match(name, Discrete(game.num_actions), _THRESHOLDS[name], (_MOVES[name] + 1) // 2, opponent)


@dataclass(frozen=True)
class Board:
    """A game of two players, 0 and 1, as functions of one state (`jaxft.rl.lookahead.Game`). name: of `GAMES`. Raises
    UserError where it is none of them."""

    name: str

    def __post_init__(self) -> None:
        if self.name not in GAMES:
            raise UserError("rl.game", f"there is no game {self.name!r}", f"one of: {', '.join(GAMES)}")
        _pgx(self.name)

    @property
    def num_actions(self) -> int:
        return {"tic_tac_toe": 9, "connect_four": 7}[self.name]

    def init(self, key: Array) -> Any:
        """The empty board; the key decides which player begins."""
        with lenient():
            return strong(_pgx(self.name).init(key))

    def step(self, state: Any, action: Array) -> Any:
        """The state after a move of the player whose turn it is; one that is not valid loses at once. A game that is
        over stays as it is, with its result."""
        with lenient():
            after = strong(_pgx(self.name).step(state, action))
        return jax.tree.map(lambda old, new: jnp.where(state.terminated, old, new), state, after)

    def observe(self, state: Any) -> Array:
        """f32 [height, width, 2]: 1 where the stones are of the player whose turn it is, and of the other one."""
        return state.observation.astype(jnp.float32)

    def valid(self, state: Any) -> Array:
        """bool [A]; all true where the game is over, as pgx has it."""
        return state.legal_action_mask

    def player(self, state: Any) -> Array:
        """i32 []: whose turn it is."""
        return state.current_player

    def over(self, state: Any) -> Array:
        """bool []."""
        return state.terminated

    def result(self, state: Any, player: Array | int) -> Array:
        """f32 []: of a game that is over, 1 won, 0 drawn, -1 lost by the player; 0 before that."""
        return state.rewards[player]


@dataclass(frozen=True)
class Match:
    """A game in which the agent is player 0; which player begins is drawn. A step is a move of the agent and the
    opponent's answer. Reward: the result, at the end. An action that is not valid loses the game."""

    name: str
    actions: Discrete
    threshold: float | None
    max_steps: int
    opponent: str

    @property
    def game(self) -> Board:
        return Board(self.name)

    def reset(self, key: Array) -> tuple[Any, Array]:
        words = jax.random.key_data(key)
        begun = self.game.init(draws.keys(draws.fold_in(words, 0)))
        state = self._answered(begun, draws.fold_in(words, 1))
        return state, self.game.observe(state)

    def step(self, state: Any, action: Array, key: Array) -> Outcome:
        game = self.game
        after = self._answered(game.step(state, action), jax.random.key_data(key))
        reward = jnp.where(game.over(state), 0.0, game.result(after, 0))
        return Outcome(after, game.observe(after), reward, game.over(after), jnp.zeros((), jnp.bool_))

    def valid(self, state: Any) -> Array:
        return self.game.valid(state)

    def _answered(self, state: Any, words: Array) -> Any:
        """The state after the opponent's move, if it is the opponent's turn."""
        scores = draws.gumbel(words, self.game.num_actions)
        action = jnp.argmax(jnp.where(self.game.valid(state), scores, -jnp.inf)).astype(jnp.int32)
        moved = self.game.step(state, action)
        theirs = (self.game.player(state) == 1) & ~self.game.over(state)
        return jax.tree.map(lambda new, old: jnp.where(theirs, new, old), moved, state)


@cache
def _pgx(name: str) -> Any:
    """pgx's game, without the arrays of a trace that may be under way."""
    with jax.ensure_compile_time_eval(), lenient():
        import pgx

        build: Any = pgx.make
        return build(name)
