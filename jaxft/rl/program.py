"""A run's computation on the devices: whole stretches of collecting and learning in one program.

    iteration     collect T steps of n environments ─► remember ─► U × (batch ─► gradient ─► sum ─► update)

The n environments of a seed are cut into M groups (`train.micro_batches`). A group has its environments and its memory
for itself; gradients are added in the fixed tree of train/reduce.py, so that the bits do not hang on the number of
devices among which the groups are shared. All groups are worked on by one loop whose length the compiler does not know,
for it would write out a loop of one turn in another way than one of eight.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.sharding import Mesh, PartitionSpec

from jaxft import draws
from jaxft.mesh import devices
from jaxft.mesh.devices import DATA
from jaxft.rl import rollout as rollouts
from jaxft.rl import schedules
from jaxft.rl.agents.base import Agent, Group, Learner
from jaxft.rl.env import Box, Env
from jaxft.rl.recipe import RlRecipe
from jaxft.rl.rollout import Seen, Told, Words
from jaxft.train import reduce
from jaxft.train.partition import Flat

_ALL, _EACH = PartitionSpec(), PartitionSpec(DATA)


class State(NamedTuple):
    """All that a seed's run consists of. groups: leaves [M, ...], spread over the devices."""

    learner: Learner
    groups: Group


class Report(NamedTuple):
    """What a stretch of iterations tells. learned: name -> sum over its updates. updates: how many. level: of
    exploration, at its end."""

    told: Told
    learned: dict[str, Array]
    updates: Array
    level: Array


class Program:
    """The functions of a run of one seed. judge: the environment of its evaluations. mesh: of the devices among which
    its groups are shared."""

    def __init__(
        self,
        recipe: RlRecipe,
        env: Env,
        judge: Env,
        agent: Agent,
        optimiser: optax.GradientTransformation,
        threshold: float | None,
        mesh: Mesh | None = None,
    ) -> None:
        self._recipe, self._env, self._judge = recipe, env, judge
        self._agent, self._optimiser = agent, optimiser
        self._threshold, self.mesh = threshold, mesh or devices.single()
        self._groups = recipe.train.micro_batches
        self._to_env = to_env(env)
        specs = (State(_ALL, _EACH), _ALL, _ALL)  # type: ignore[arg-type]
        out = (State(_ALL, _EACH), _ALL)  # type: ignore[arg-type]
        self.advance_fn = jax.shard_map(self._advance, mesh=self.mesh, in_specs=specs, out_specs=out, check_vma=False)

    # --- the beginning -----------------------------------------------------------------------------------------------

    def begin(self, trainable: Flat, frozen: Flat, words: Words) -> State:
        """The state before the first step."""
        rl = self._recipe.rl
        each = rl.num_envs // self._groups
        everyone = rollouts.begin(self._env, jnp.arange(rl.num_envs, dtype=jnp.uint32), words.environment)
        actors = jax.tree.map(lambda x: x.reshape(self._groups, each, *x.shape[1:]), everyone._replace(steps=None))
        actors = actors._replace(steps=jnp.zeros((self._groups,), jnp.int32))
        learner = Learner(
            trainable=trainable,
            frozen=frozen,
            optimiser=self._optimiser.init(trainable),
            extra=self._agent.initial_extra(trainable, frozen),
            iteration=jnp.int32(0),
            updates=jnp.int32(0),
            mean_return=jnp.float32(jnp.nan),
            first_return=jnp.float32(jnp.nan),
        )
        first = jax.tree.map(lambda x: x[0], actors)
        like = jax.eval_shape(lambda: self._rollout(learner, first, words, jnp.float32(1), 1)[1])
        like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[2:], x.dtype), like)
        memory = self._agent.initial_memory(like, each)
        memories = jax.tree.map(lambda x: jnp.broadcast_to(x, (self._groups, *x.shape)), memory)
        return State(learner, Group(actors, memories))

    # --- iterations --------------------------------------------------------------------------------------------------

    def _advance(self, state: State, words: Words, iterations: Array) -> tuple[State, Report]:
        """So many iterations. state: consumed; of `groups` it holds this device's."""
        nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(self._iteration, state, words)[1])
        nothing = nothing._replace(told=nothing.told._replace(bad=jnp.uint32(rollouts.NOT_BAD)))

        def one(_: Array, carried: tuple[State, Report]) -> tuple[State, Report]:
            state, before = carried
            state, now = self._iteration(state, words)
            told = jax.tree.map(jnp.add, before.told, now.told)
            told = told._replace(bad=jnp.minimum(before.told.bad, now.told.bad))
            learned = jax.tree.map(jnp.add, before.learned, now.learned)
            return state, Report(told, learned, before.updates + now.updates, now.level)

        return jax.lax.fori_loop(0, iterations, one, (state, nothing))

    def _iteration(self, state: State, words: Words) -> tuple[State, Report]:
        learner = state.learner
        level = self._level(learner)

        def collect(number: Array, group: Group) -> tuple[Group, Told]:
            actors, steps, told = self._rollout(learner, group.actors, words, level, self._recipe.rl.rollout)
            return self._agent.remember(learner, group._replace(actors=actors), steps), told

        groups, told = self._over_groups(collect, state.groups)
        told = self._summed(told)
        ready = self._agent.is_ready(jax.tree.map(lambda x: x[0], groups))
        learner = _with_returns(learner, told)
        learner, learned = self._updates(learner, groups, words, ready)
        learner = learner._replace(iteration=learner.iteration + 1)
        updates = ready.astype(jnp.int32) * self._agent.num_updates
        return State(learner, groups), Report(told, learned, updates, level)

    def _rollout(self, learner: Learner, actors: Any, words: Words, level: Array, steps: int) -> Any:
        def act(seen: Seen, chosen_by: Array) -> Any:
            return self._agent.act(learner, seen, chosen_by, level)

        return rollouts.rollout(self._env, act, self._to_env, actors, steps, words)

    def _updates(self, learner: Learner, groups: Group, words: Words, ready: Array) -> tuple[Learner, Any]:
        order = draws.fold_in(words.order, learner.iteration)

        def gradient(learner: Learner, update: Array, number: Array, group: Group) -> Any:
            batch = self._agent.batch(group.memory, update, draws.fold_in(order, number))

            def loss(trainable: Flat) -> tuple[Array, dict[str, Array]]:
                found = self._agent.loss(trainable, learner.frozen, learner.extra, batch)
                return found.total, found.told

            return jax.grad(loss, has_aux=True)(learner.trainable)

        def update(number: Array, carried: tuple[Learner, Any]) -> tuple[Learner, Any]:
            learner, before = carried
            _, parts = self._over_groups(lambda g, group: (group, gradient(learner, number, g, group)), groups, False)
            grads, told = self._summed(parts)
            with jax.numpy_dtype_promotion("standard"):  # optax raises floats to integers
                changes, optimiser = self._optimiser.update(grads, learner.optimiser, learner.trainable)
            trainable: Any = optax.apply_updates(learner.trainable, changes)
            learner = learner._replace(trainable=trainable, optimiser=optimiser, updates=learner.updates + 1)
            return self._agent.after_update(learner), jax.tree.map(jnp.add, before, told)

        one_group = jax.tree.map(lambda x: x[0], groups)
        _, told = jax.eval_shape(partial(gradient, learner), jnp.int32(0), jnp.int32(0), one_group)
        none = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), told)
        return jax.lax.cond(
            ready,
            lambda: jax.lax.fori_loop(0, self._agent.num_updates, update, (learner, none)),
            lambda: (learner, none),
        )

    def _level(self, learner: Learner) -> Array:
        rl = self._recipe.rl
        step = learner.iteration * (rl.num_envs * rl.rollout)
        close = jnp.float32(0)
        if self._threshold is not None:
            known = jnp.nan_to_num(schedules.closeness(learner.mean_return, learner.first_return, self._threshold))
            close = known.astype(jnp.float32)
        return schedules.level(rl.explore, schedules.progress(rl.explore, step, rl.steps), close)

    # --- groups ------------------------------------------------------------------------------------------------------

    def _over_groups(self, function: Callable[[Array, Group], Any], groups: Group, keep: bool = True) -> Any:
        """(groups as changed, results stacked [m, ...]) of function(number, group) -> (group, result), for the m groups
        of this device. keep: false where the groups are not changed."""
        if self._groups == 1:
            group, found = function(jnp.int32(0), jax.tree.map(lambda x: x[0], groups))
            return jax.tree.map(lambda x: x[None], (group if keep else (), found))
        here = self._groups // self.mesh.size
        first = jax.lax.axis_index(DATA) * here
        shapes = jax.eval_shape(function, jnp.int32(0), jax.tree.map(lambda x: x[0], groups))[1]
        results = jax.tree.map(lambda x: jnp.zeros((here, *x.shape), x.dtype), shapes)

        def one(at: Array, carried: Any) -> Any:
            groups, results = carried
            group, found = function(first + at, jax.tree.map(lambda x: x[at], groups))
            put = partial(jax.tree.map, lambda all, x: all.at[at].set(x))
            return put(groups, group) if keep else groups, put(results, found)

        # a number that the compiler does not know
        turns = jnp.minimum(jnp.int32(here), here + jax.lax.axis_index(DATA))
        return jax.lax.fori_loop(0, turns, one, (groups, results))

    def _summed(self, parts: Any) -> Any:
        """Sums over all groups, in the fixed tree; of `Told.bad` the least."""
        is_told = isinstance(parts, Told)
        bad = jnp.min(parts.bad) if is_told else None
        total = reduce.add_along(parts._replace(bad=jnp.zeros_like(parts.returns)) if is_told else parts)
        if self.mesh.size > 1:
            total = reduce.add_across(total, self.mesh.size)
            bad = jax.lax.pmin(bad, DATA) if is_told else None
        return total._replace(bad=bad) if is_told else total

    # --- scoring -----------------------------------------------------------------------------------------------------

    def score(self, trainable: Flat, frozen: Flat, words: Array, env: Env | None = None) -> tuple[Array, Array]:
        """(returns f32 [E], lengths i32 [E]) of episodes with what the parameters take for the best actions. words:
        uint32 [2], of this evaluation. env: instead of the judge."""

        def act(seen: Seen, _: Array) -> Any:
            choice = self._agent.best(trainable, frozen, seen)
            return choice, choice.log_prob

        return rollouts.episodes(env or self._judge, act, self._to_env, self._recipe.rl.eval_episodes, words)


def to_env(env: Env) -> Callable[[Array], Array]:
    """From an agent's actions to the environment's: those of a Gaussian are in half ranges around the middle."""
    if not isinstance(env.actions, Box):
        return lambda action: action
    low, high = np.asarray(env.actions.low, np.float32), np.asarray(env.actions.high, np.float32)
    middle, half = (low + high) / 2, (high - low) / 2

    def scaled(action: Array) -> Array:
        least, most, centre, unit = (jnp.broadcast_to(bound, action.shape) for bound in (low, high, middle, half))
        return jnp.clip(centre + unit * action, least, most)

    return scaled


def _with_returns(learner: Learner, told: Told) -> Learner:
    """With the episodes that ended taken into the running mean."""
    some = told.episodes > 0
    mean = told.returns / jnp.maximum(told.episodes, 1.0)
    weight = 1.0 - (1.0 - schedules.SMOOTHING) ** told.episodes
    first = jnp.where(jnp.isnan(learner.first_return) & some, mean, learner.first_return)
    moved = learner.mean_return + weight * (mean - learner.mean_return)
    now = jnp.where(some, jnp.where(jnp.isnan(learner.mean_return), mean, moved), learner.mean_return)
    return learner._replace(mean_return=now, first_return=first)


__all__ = ["Program", "Report", "State", "to_env"]
