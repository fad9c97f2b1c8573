"""AlphaZero as an agent of a run: self-play on a board game, scored against a rival who does not learn.

What it does is rl/selfplay.py; here it takes the shape that rl/loop.py drives: `Program`'s functions, parameters as
path -> leaf, the recipe's optimiser. `rl.num_envs` games are played at once, `rl.rollout` moves of each an iteration.
The rival of an evaluation plays perfectly (tic-tac-toe), or is the same search without a network (connect-four), from
openings of random moves, each played from both sides; a game returns 1, 0 or -1. All draws are of the stream `explore`
but those of evaluations.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jaxft import draws, prng
from jaxft.mesh import devices
from jaxft.rl import lookahead, players, rollout
from jaxft.rl.agents.base import Group, Learner
from jaxft.rl.env import Env
from jaxft.rl.networks import Output
from jaxft.rl.policies import Choice
from jaxft.rl.program import Report, State
from jaxft.rl.recipe import RlRecipe
from jaxft.rl.rollout import Seen, Told, Words
from jaxft.rl.selfplay import SelfPlay, Settings
from jaxft.rl.selfplay import State as SelfPlayState
from jaxft.search.policies import Uct
from jaxft.train.partition import Flat, flatten, nest

OPENING = {"tic_tac_toe": 0, "connect_four": 4}
"""Random moves before a game of an evaluation."""
THRESHOLDS = {"tic_tac_toe": 0.0, "connect_four": 0.4}
"""Mean result that counts as solved: nothing lost to perfect play; 70 % (a draw is a half) against plain search."""
PLAIN = Uct(c=0.5)


@dataclass(frozen=True)
class FlatSelfPlay(SelfPlay):
    """Self-play on flat parameters, with an optimiser from outside."""

    chosen: optax.GradientTransformation = field(default_factory=optax.identity)

    def network(self, params: Any, observation: Array) -> tuple[Array, Array]:
        return super().network(nest(params), observation)

    @cached_property
    def optimiser(self) -> optax.GradientTransformation:
        return self.chosen


def settings_of(recipe: RlRecipe, max_moves: int) -> Settings:
    """What a recipe says of self-play."""
    rl = recipe.rl
    return Settings(
        simulations=rl.selfplay.simulations,
        num_games=rl.num_envs,
        moves=rl.rollout,
        max_moves=max_moves,
        opening=rl.selfplay.opening,
        capacity=rl.selfplay.buffer,
        batch_size=recipe.train.batch_size,
        updates=rl.selfplay.updates,
        value_weight=rl.selfplay.value_weight,
        width=rl.network.width,
        blocks=rl.network.depth,
    )


class BoardPlayer:
    """The network and the agent of a run. env: of envs/board.py."""

    head = "policy"

    def __init__(self, recipe: RlRecipe, env: Any) -> None:
        self._rl, self.env = recipe.rl, env
        self.settings = settings_of(recipe, 2 * env.max_steps)
        self.learner = FlatSelfPlay(env.game, self.settings)
        self.num_updates = self.settings.updates

    def init(self, words: prng.Words) -> tuple[Flat, Flat]:
        """Kernels as flax draws them, heads 0."""
        params: Any = self.learner.module.init(prng.key(words), jnp.zeros((1, *self.learner.shape)))["params"]
        return {path: np.asarray(leaf) for path, leaf in flatten(params).items()}, {}

    def apply(self, trainable: Flat, frozen: Flat, observation: Any) -> Output:
        return Output(*self.learner.network(trainable, observation))

    def best(self, trainable: Flat, frozen: Flat, seen: Seen) -> Choice:
        """The network's first choice, without a search."""
        logits, _ = self.learner.network(trainable, seen.observation)
        action = jnp.argmax(jnp.where(seen.valid, logits, -jnp.inf), axis=-1).astype(jnp.int32)
        none = jnp.zeros(action.shape, jnp.float32)
        return Choice(action, none, none, jnp.ones(action.shape, jnp.bool_))


class SelfPlayProgram:
    """The functions of a run, as `program.Program` has them; on one device."""

    def __init__(self, recipe: RlRecipe, player: BoardPlayer, optimiser: optax.GradientTransformation) -> None:
        self._recipe, self._settings, self.mesh = recipe, player.settings, devices.single()
        self._game = player.env.game
        self._learner = replace(player.learner, chosen=optimiser)
        self._rival = self._make_rival()

    def begin(self, trainable: Flat, frozen: Flat, words: Words) -> State:
        """The state before the first move."""
        start = self._learner.init(words.explore)
        return self._of(start._replace(params=trainable, optimiser=self._learner.optimiser.init(trainable)), frozen)

    def advance_fn(self, state: State, words: Words, iterations: Array) -> tuple[State, Report]:
        """So many iterations."""
        frozen, start = state.learner.frozen, self._selfplay(state)
        shapes = jax.eval_shape(self._learner.iterate, start, words.explore)[1]
        nothing = {name: jnp.zeros(x.shape, x.dtype) for name, x in shapes.items()}

        def one(_: Array, carried: tuple[Any, dict[str, Array]]) -> tuple[Any, dict[str, Array]]:
            now, before = carried
            now, told = self._learner.iterate(now, words.explore)
            games = told["ended"]
            told = told | {name: told[name] * games for name in ("first_won", "drawn", "length")}
            return now, jax.tree.map(jnp.add, before, told)

        now, sums = jax.lax.fori_loop(0, iterations, one, (start, nothing))
        acted = (iterations * (self._settings.num_games * self._settings.moves)).astype(jnp.float32)
        none = jnp.float32(0)
        told = Told(
            returns=2 * sums["first_won"] + sums["drawn"] - sums["ended"],  # to who begins: won less lost
            lengths=sums["length"],
            episodes=sums["ended"],
            entropy=none,
            greedy=none,
            acted=acted,
            bad=jnp.uint32(rollout.NOT_BAD),
        )
        updates = iterations * self._settings.updates
        # the learner's are means over an iteration's updates
        learned = {name: sums[name] * self._settings.updates for name in ("policy_loss", "value_loss")}
        return self._of(now, frozen), Report(told, learned, updates, none)

    def score(self, trainable: Flat, frozen: Flat, words: Array, env: Env | None = None) -> tuple[Array, Array]:
        """(results f32 [E], moves i32 [E]) of games against the rival. words: uint32 [2], of this evaluation."""
        game, half = self._game, -(-self._recipe.rl.eval_episodes // 2)
        openings = players.openings(game, draws.fold_in(words, 0), half, OPENING[game.name])
        states = jax.tree.map(lambda x: jnp.concatenate([x, x]), openings)
        moving = jax.vmap(game.player)(openings)
        side = jnp.concatenate([moving, 1 - moving])
        policy, count = replace(self._learner.policy, scale=0.0), self._settings.simulations
        ours = players.searcher(game, self._learner.evaluate(trainable), policy, count)

        def turn(carried: tuple[Any, Array, Array]) -> tuple[Any, Array, Array]:
            states, move, lengths = carried
            running = ~jax.vmap(game.over)(states)
            each = draws.fold_in(draws.fold_in(words, 1), move)
            chosen = [player(draws.fold_in(each, at), states) for at, player in enumerate((ours, self._rival))]
            actions = jnp.where(jax.vmap(game.player)(states) == side, *chosen)
            return jax.vmap(game.step)(states, actions), move + 1, lengths + running

        def goes_on(carried: tuple[Any, Array, Array]) -> Array:
            return ~jnp.all(jax.vmap(game.over)(carried[0]))

        start = (states, jnp.int32(0), jnp.zeros(side.shape, jnp.int32))
        final, _, lengths = jax.lax.while_loop(goes_on, turn, start)
        return jax.vmap(game.result)(final, side), lengths

    def _make_rival(self) -> players.Player:
        if self._game.name == "tic_tac_toe":
            return players.perfect_tic_tac_toe(self._game)
        return players.searcher(self._game, lookahead.nothing(self._game), PLAIN, self._settings.simulations)

    def _of(self, now: Any, frozen: Flat) -> State:
        none = jnp.float32(0)
        learner = Learner(
            now.params,
            frozen,
            now.optimiser,
            (now.ended,),
            now.iteration,
            now.iteration * self._settings.updates,
            none,
            none,
        )
        groups = Group(now.episodes, now.buffer)  # type: ignore[arg-type]
        return State(learner, jax.tree.map(lambda x: x[None], groups))

    def _selfplay(self, state: State) -> Any:
        learner, groups = state.learner, jax.tree.map(lambda x: x[0], state.groups)
        return SelfPlayState(
            learner.trainable, learner.optimiser, groups.actors, groups.memory, learner.iteration, learner.extra[0]
        )
