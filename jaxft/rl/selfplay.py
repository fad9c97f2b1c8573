"""Learning a board game from play against oneself: search improves the network, the network guides the search.

AlphaZero (https://doi.org/10.1126/science.aar6404) with the search of Gumbel MuZero
(https://openreview.net/forum?id=bERaNdoegnO): few simulations, and targets from completed Q-values in place of visits.
An iteration plays some moves of many games at once, then takes some optimiser steps on positions of finished games;
the value's target is the game's result to who was to move. Games begin with a few random moves, of which nothing is
learnt. Left out: resignation, reanalysis, and a rating that decides which network plays.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxft import draws
from jaxft.errors import UserError
from jaxft.rl import lookahead, positions, symmetries
from jaxft.rl.lookahead import Evaluate, Game, Lookahead
from jaxft.rl.networks_board import BoardNetwork
from jaxft.rl.positions import Positions
from jaxft.search.policies import Gumbel
from jaxft.search.qtransforms import qtransform_completed_by_mix_value

# What words are folded with, one number a purpose.
_INIT, _BEGIN, _ITERATE = range(3)
_PLAY, _TRAIN = range(2)
_SEARCH, _RANDOM, _ANEW = range(3)
_STATE, _OPENING = range(2)
_ROWS, _SYMMETRY = range(2)


@dataclass(frozen=True)
class Settings:
    """How it is played and learnt.

    simulations: a move. considered: actions that the root begins with. value_scale: weight of Q-values against the
    prior; 0.5 for results in -1 .. 1 is the paper's 1 for values in 0 .. 1. num_games: played at once. moves: of each
    game, an iteration. max_moves: a game has at most. opening: a game begins with 0 to so many random moves. capacity:
    positions kept. batch_size: positions a step. updates: optimiser steps an iteration. iterations: over which the
    learning rate falls to a twentieth, by a cosine; 0: it stays.
    """

    simulations: int = 32
    considered: int = 16
    value_scale: float = 0.5
    num_games: int = 128
    moves: int = 16
    max_moves: int = 42
    opening: int = 4
    capacity: int = 65_536
    batch_size: int = 256
    updates: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    value_weight: float = 1.0
    clip_norm: float = 1.0
    iterations: int = 0
    width: int = 256
    blocks: int = 2

    def check(self) -> None:
        """Raises UserError for settings that make no sense."""
        for name in ("simulations", "considered", "num_games", "moves", "max_moves", "batch_size", "updates", "width"):
            if getattr(self, name) < 1:
                raise UserError(f"rl.{name}", f"must be at least 1, is {getattr(self, name)}", "name a greater one")
        least = self.num_games * self.max_moves
        if self.capacity < max(least, self.batch_size):
            what = f"{self.capacity} positions: {self.num_games} games of {self.max_moves} moves may end at once"
            raise UserError("rl.capacity", what, f"at least {max(least, self.batch_size)}")
        if not 0 <= self.opening < self.max_moves:
            raise UserError("rl.opening", f"must lie in 0 .. {self.max_moves - 1}, is {self.opening}", "fewer moves")


class Episodes(NamedTuple):
    """Games under way, G of them, and what has happened in each, of at most T moves."""

    states: Any  # [G, ...]
    observations: Array  # f32 [G, T, ...]
    weights: Array  # f32 [G, T, A]
    players: Array  # i32 [G, T], who was to move
    learnt: Array  # bool [G, T], the move was searched for
    length: Array  # i32 [G], moves so far
    opening: Array  # i32 [G], random moves to begin with


class State(NamedTuple):
    """All that an iteration changes. iteration, ended: i32 [], iterations done and games finished."""

    params: Any
    optimiser: Any
    episodes: Episodes
    buffer: Positions
    iteration: Array
    ended: Array


@dataclass(frozen=True)
class SelfPlay:
    """A learner: `state = init(words)`, then `state, metrics = iterate(state, words)`, with the same words each time.

    Both are pure; compile them with `jax.jit`, the second with its state donated. words: uint32 [2] of the stream.
    """

    game: Game
    settings: Settings = Settings()

    def __post_init__(self) -> None:
        self.settings.check()

    # --- the network -------------------------------------------------------------------------------------------------

    @cached_property
    def module(self) -> BoardNetwork:
        return BoardNetwork(self.game.num_actions, self.settings.width, self.settings.blocks)

    def network(self, params: Any, observation: Array) -> tuple[Array, Array]:
        """(logits [B, A], value [B]) of observations [B, ...]."""
        return self.module.apply({"params": params}, observation)  # type: ignore[return-value]

    def evaluate(self, params: Any) -> Evaluate:
        """What a search asks of the network."""

        def evaluate(state: Any, words: Array) -> tuple[Array, Array]:
            return self.network(params, jax.vmap(self.game.observe)(state))

        return evaluate

    @cached_property
    def policy(self) -> Gumbel:
        # A result lies in -1 .. 1, so values need not be stretched: where all moves are as good, none shall stand out.
        scaled = partial(qtransform_completed_by_mix_value, value_scale=self.settings.value_scale, rescale_values=False)
        return Gumbel(considered=min(self.settings.considered, self.game.num_actions), qtransform=scaled)

    @cached_property
    def optimiser(self) -> optax.GradientTransformation:
        at, steps = self.settings, self.settings.iterations * self.settings.updates
        rate = optax.cosine_decay_schedule(at.learning_rate, steps, alpha=0.05) if steps else at.learning_rate
        return optax.chain(optax.clip_by_global_norm(at.clip_norm), optax.adamw(rate, weight_decay=at.weight_decay))

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Of an observation."""
        state = jax.eval_shape(self.game.init, jax.eval_shape(lambda: jax.random.key(0)))
        return jax.eval_shape(self.game.observe, state).shape

    # --- the state ---------------------------------------------------------------------------------------------------

    def init(self, words: Array) -> State:
        """Games at their first positions, an empty buffer, a new network."""
        at, num_actions = self.settings, self.game.num_actions
        key = draws.keys(draws.fold_in(words, _INIT))
        params = self.module.init(key, jnp.zeros((1, *self.shape)))["params"]
        states, opening = self._begun(draws.fold_in(words, _BEGIN))
        size = (at.num_games, at.max_moves)
        episodes = Episodes(
            states,
            observations=jnp.zeros((*size, *self.shape)),
            weights=jnp.zeros((*size, num_actions)),
            players=jnp.zeros(size, jnp.int32),
            learnt=jnp.zeros(size, bool),
            length=jnp.zeros(at.num_games, jnp.int32),
            opening=opening,
        )
        buffer = positions.empty(at.capacity, self.shape, num_actions)
        return State(params, self.optimiser.init(params), episodes, buffer, jnp.int32(0), jnp.int32(0))

    def iterate(self, state: State, words: Array) -> tuple[State, dict[str, Array]]:
        """Plays, then learns. Metrics are f32 []; losses are 0 until the buffer holds a batch."""
        words = draws.fold_in(draws.fold_in(words, _ITERATE), state.iteration)
        episodes, buffer, played = self.play(state.params, state.episodes, state.buffer, draws.fold_in(words, _PLAY))
        learn = partial(self.learn, words=draws.fold_in(words, _TRAIN), buffer=buffer)
        idle = dict.fromkeys(("policy_loss", "value_loss"), jnp.float32(0.0))
        params, optimiser, learnt = jax.lax.cond(
            buffer.filled >= self.settings.batch_size, learn, lambda *now: (*now, idle), state.params, state.optimiser
        )
        ended = state.ended + played["ended"].astype(jnp.int32)
        state = State(params, optimiser, episodes, buffer, state.iteration + 1, ended)
        return state, played | learnt | {"positions": buffer.written.astype(jnp.float32)}

    # --- play --------------------------------------------------------------------------------------------------------

    def play(
        self, params: Any, episodes: Episodes, buffer: Positions, words: Array
    ) -> tuple[Episodes, Positions, dict[str, Array]]:
        """`moves` moves of each game; positions of those that end go to the buffer."""

        def move(now: tuple[Episodes, Positions], number: Array) -> tuple[tuple[Episodes, Positions], Array]:
            episodes = self._moved(params, now[0], draws.fold_in(words, number))
            over = jax.vmap(self.game.over)(episodes.states)
            results = self._results(episodes)
            buffer = self._noted(now[1], episodes, results, over)
            counts = jnp.stack([over, over & (results[:, 0] > 0), over & (results[:, 0] == 0)])
            lengths = jnp.sum(jnp.where(over, episodes.length, 0))
            told = jnp.append(jnp.sum(counts, axis=1), lengths).astype(jnp.float32)
            anew = self._anew(episodes, over, draws.fold_in(draws.fold_in(words, number), _ANEW))
            return (anew, buffer), told

        numbers = jnp.arange(self.settings.moves)
        (episodes, buffer), told = jax.lax.scan(move, (episodes, buffer), numbers)
        ended, won, drawn, lengths = jnp.sum(told, axis=0)
        share = jnp.maximum(ended, 1.0)
        metrics = {"ended": ended, "first_won": won / share, "drawn": drawn / share, "length": lengths / share}
        return episodes, buffer, metrics

    def _moved(self, params: Any, now: Episodes, words: Array) -> Episodes:
        """One move of each game: random in its opening, then as a search says."""
        world = Lookahead(self.game, self.evaluate(params))
        games = jnp.arange(self.settings.num_games)
        found = world.search(draws.fold_in(words, _SEARCH), now.states, self.policy, self.settings.simulations)
        at_random = now.length < now.opening
        drawn = lookahead.random_action(self.game, now.states, draws.fold_in(draws.fold_in(words, _RANDOM), games))
        at = (games, now.length)
        return now._replace(
            states=jax.vmap(self.game.step)(now.states, jnp.where(at_random, drawn, found.action)),
            observations=now.observations.at[at].set(jax.vmap(self.game.observe)(now.states)),
            weights=now.weights.at[at].set(found.weights),
            players=now.players.at[at].set(world.player(now.states)),
            learnt=now.learnt.at[at].set(~at_random),
            length=now.length + 1,
        )

    def _results(self, now: Episodes) -> Array:
        """f32 [G, T]: to who was to move; of finished games."""
        return jax.vmap(jax.vmap(self.game.result, (None, 0)))(now.states, now.players)

    def _noted(self, buffer: Positions, now: Episodes, results: Array, over: Array) -> Positions:
        """With the positions of games that are over."""
        happened = jnp.arange(self.settings.max_moves)[None] < now.length[:, None]
        chosen = over[:, None] & happened & now.learnt

        def flat(x: Array) -> Array:
            return x.reshape(-1, *x.shape[2:])

        return positions.write(buffer, *map(flat, (now.observations, now.weights, results, chosen)))

    def _begun(self, words: Array) -> tuple[Any, Array]:
        """New games [G], and how many random moves each begins with."""
        each = draws.fold_in(words, jnp.arange(self.settings.num_games))
        states = jax.vmap(self.game.init)(draws.keys(draws.fold_in(each, _STATE)))
        return states, draws.integers(draws.fold_in(each, _OPENING), 1, self.settings.opening + 1)[:, 0]

    def _anew(self, now: Episodes, over: Array, words: Array) -> Episodes:
        states, opening = self._begun(words)
        return now._replace(
            states=lookahead.where(over, states, now.states),
            length=jnp.where(over, 0, now.length),
            opening=jnp.where(over, opening, now.opening),
        )

    # --- learning ----------------------------------------------------------------------------------------------------

    def learn(
        self, params: Any, optimiser: Any, *, buffer: Positions, words: Array
    ) -> tuple[Any, Any, dict[str, Array]]:
        """`updates` steps on positions drawn from the buffer, each seen through a symmetry drawn for it."""

        def step(now: tuple[Any, Any], number: Array) -> tuple[tuple[Any, Any], dict[str, Array]]:
            batch = self.drawn(buffer, draws.fold_in(words, number))
            gradient, losses = jax.grad(self.loss, has_aux=True)(now[0], *batch)
            with jax.numpy_dtype_promotion("standard"):  # optax mixes integers and floats
                updates, optimiser = self.optimiser.update(gradient, now[1], now[0])
            return (optax.apply_updates(now[0], updates), optimiser), losses

        (params, optimiser), losses = jax.lax.scan(step, (params, optimiser), jnp.arange(self.settings.updates))
        return params, optimiser, jax.tree.map(jnp.mean, losses)

    def drawn(self, buffer: Positions, words: Array) -> tuple[Array, Array, Array]:
        """(observations, weights, results) of a batch."""
        size = self.settings.batch_size
        rows = draws.integers(draws.fold_in(words, _ROWS), size, buffer.filled)
        known = symmetries.of(self.game.name, self.shape, self.game.num_actions)
        which = draws.integers(draws.fold_in(words, _SYMMETRY), size, len(known.actions))
        seen = jnp.take_along_axis(
            buffer.observations[rows].reshape(size, -1), jnp.asarray(known.observations)[which], 1
        )
        weights = jnp.take_along_axis(buffer.weights[rows], jnp.asarray(known.actions)[which], 1)
        return seen.reshape(size, *self.shape), weights, buffer.results[rows]

    def loss(self, params: Any, observations: Array, weights: Array, results: Array) -> tuple[Array, dict[str, Array]]:
        """Cross-entropy to the search's weights less their entropy, and the value's squared error."""
        logits, value = self.network(params, observations)
        policy = jnp.mean(optax.kl_divergence(jax.nn.log_softmax(logits), weights))
        error = jnp.mean((value - results) ** 2)
        return policy + self.settings.value_weight * error, {"policy_loss": policy, "value_loss": error}
