"""A board game as something to search: its rules, and an evaluation of positions.

The search that is planned with and the one that is learnt from are the same: `tree_search` over a `Lookahead`. A won
game is worth 1, so a position with a winning move is solved as soon as that move has been tried.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import jax
import jax.numpy as jnp
from jax import Array

from jaxft import draws
from jaxft.search.env import Root, Step
from jaxft.search.policies import Policy
from jaxft.search.tree_search import Found, tree_search

Evaluate = Callable[[Any, Array], tuple[Array, Array]]
"""(states [B, ...], words uint32 [B, 2]) -> (logits [B, A], value [B] to who is to move, in -1 .. 1)."""


class Game(Protocol):
    """Rules of a game of two players, 0 and 1, as functions of one state. `jaxft.rl.envs.board.Board` has them.

    step: a finished game stays as it is. valid: bool [A]. player: who is to move. result: of a finished game, 1 won, 0
    drawn, -1 lost by the player.
    """

    @property
    def name(self) -> str: ...
    @property
    def num_actions(self) -> int: ...

    def init(self, key: Array) -> Any: ...
    def step(self, state: Any, action: Array) -> Any: ...
    def observe(self, state: Any) -> Array: ...
    def valid(self, state: Any) -> Array: ...
    def player(self, state: Any) -> Array: ...
    def over(self, state: Any) -> Array: ...
    def result(self, state: Any, player: Array) -> Array: ...


@dataclass(frozen=True)
class Lookahead:
    """The environment of a search (`jaxft.search.env.Env`) in a game."""

    game: Game
    evaluate: Evaluate
    bound: ClassVar[float] = 1.0

    def player(self, state: Any) -> Array:
        return jax.vmap(self.game.player)(state)

    def search(self, words: Array, state: Any, policy: Policy, simulations: int) -> Found:
        """Searches from states [B, ...]. words: uint32 [2]."""
        for_root, for_search = (draws.fold_in(words, at) for at in range(2))
        root = self.root(state, for_root)
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # as the search is written
            return tree_search(draws.keys(for_search), root, self, policy, simulations)

    def root(self, state: Any, words: Array) -> Root:
        """Roots at states [B, ...]. words: uint32 [2]."""
        size = jax.tree.leaves(state)[0].shape[0]
        logits, value = self.evaluate(state, draws.fold_in(words, jnp.arange(size)))
        return Root(state, logits, value, jax.vmap(self.game.valid)(state))

    def expand(self, state: Any, action: Array, key: Array) -> Step:
        after = jax.vmap(self.game.step)(state, action)
        over = jax.vmap(self.game.over)(after)
        reward = jnp.where(over, jax.vmap(self.game.result)(after, self.player(state)), 0.0)
        logits, value = self.evaluate(after, jax.random.key_data(key))
        discount = jnp.where(over, 0.0, 1.0)
        return Step(after, reward, discount, logits, value, over, jax.vmap(self.game.valid)(after))


# --- evaluations without a network ----------------------------------------------------------------------------------


def nothing(game: Game) -> Evaluate:
    """Every move as likely, every unfinished position worth 0."""

    def evaluate(state: Any, words: Array) -> tuple[Array, Array]:
        size = words.shape[0]
        return jnp.zeros((size, game.num_actions)), jnp.zeros(size)

    return evaluate


def playouts(game: Game, count: int) -> Evaluate:
    """Every move as likely; a position is worth the mean result of so many games with random moves from it."""

    def evaluate(state: Any, words: Array) -> tuple[Array, Array]:
        size = words.shape[0]
        many = jax.tree.map(lambda x: jnp.repeat(x, count, axis=0), state)
        each = draws.fold_in(words[:, None], jnp.arange(count)).reshape(-1, 2)
        who = jax.vmap(game.player)(many)

        def goes_on(now: tuple[Any, Array]) -> Array:
            return ~jnp.all(jax.vmap(game.over)(now[0]))

        def turn(now: tuple[Any, Array]) -> tuple[Any, Array]:
            states, move = now
            action = random_action(game, states, draws.fold_in(each, move))
            return jax.vmap(game.step)(states, action), move + 1

        end, _ = jax.lax.while_loop(goes_on, turn, (many, jnp.int32(0)))
        results = jax.vmap(game.result)(end, who).reshape(size, count)
        return jnp.zeros((size, game.num_actions)), jnp.mean(results, axis=1)

    return evaluate


def random_action(game: Game, state: Any, words: Array) -> Array:
    """i32 [B]: one of the valid moves in states [B, ...], each as likely. words: uint32 [B, 2]."""
    scores = draws.gumbel(words, game.num_actions)
    return jnp.argmax(jnp.where(jax.vmap(game.valid)(state), scores, -jnp.inf), axis=-1).astype(jnp.int32)


def where(condition: Array, yes: Any, no: Any) -> Any:
    """Chooses between states [B, ...] by bool [B]."""
    return jax.tree.map(lambda a, b: jnp.where(condition.reshape(-1, *[1] * (a.ndim - 1)), a, b), yes, no)
