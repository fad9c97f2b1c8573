"""Stepping many environments at once, on the device.

    actors ─► act on their observations ─► step ─► [T, n] steps      where an episode ends, the next one begins at once

Environment i of a run has the number i wherever it is computed; what it draws is a function of its number and of how
many steps it has taken. Starts of episodes are computed for all T steps together, in one batched call, and one is taken
where an episode ends: the same numbers as if each had been asked for there, in fewer operations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxft import draws
from jaxft.rl.env import Env
from jaxft.rl.policies import Choice

RESET, STEP = 0, 1
"""What an environment draws for."""


class Words(NamedTuple):
    """Streams of a run on the device: uint32 [2] each."""

    explore: Array
    order: Array
    environment: Array
    evaluation: Array


class Actors(NamedTuple):
    """n environments under way. number: u32 [n]. steps: i32 [], taken by each. returns, lengths: [n], of the episodes
    so far."""

    number: Array
    steps: Array
    state: Any
    observation: Any
    returns: Array
    lengths: Array


class Seen(NamedTuple):
    """What an agent may look at, [...]. valid: bool [..., A]. advice: the action that an expert would take, i32 [...].
    Both are none in environments that have neither `valid` nor `expert`."""

    observation: Any
    valid: Any = None
    advice: Any = None


class Steps(NamedTuple):
    """What happened, [T, n]. following: what is seen after the action, of the old episode where it ended. value: what
    the acting network said of the state, where it says anything."""

    seen: Seen
    action: Array
    log_prob: Array
    value: Array
    reward: Array
    terminated: Array
    truncated: Array
    following: Seen


class Told(NamedTuple):
    """Sums over steps and finished episodes. bad: u32 [], the first step (counted by environment) with a reward or
    observation that is not finite, or the largest number."""

    returns: Array
    lengths: Array
    episodes: Array
    entropy: Array
    greedy: Array
    acted: Array
    bad: Array


NOT_BAD = 2**32 - 1

Act = Callable[[Seen, Array], tuple[Choice, Array]]
"""(what n environments show, words [n, 2]) -> (choices, values [n])."""


def look(env: Env, state: Any, observation: Any) -> Seen:
    """What is seen of states [n, ...] with these observations."""
    valid, expert = getattr(env, "valid", None), getattr(env, "expert", None)
    return Seen(observation, valid and jax.vmap(valid)(state), expert and jax.vmap(expert)(state))


def begin(env: Env, numbers: Array, words: Array) -> Actors:
    """Environments with these numbers u32 [n], at the start of their first episodes. words: of their stream."""
    keys = draws.keys(_addresses(words, numbers, RESET, jnp.zeros((1,), jnp.int32))[0])
    state, observation = jax.vmap(env.reset)(keys)
    none = jnp.zeros(numbers.shape, jnp.float32)
    return Actors(numbers, jnp.int32(0), state, observation, none, jnp.zeros(numbers.shape, jnp.int32))


def rollout(
    env: Env, act: Act, to_env: Callable[[Array], Array], actors: Actors, num_steps: int, words: Words
) -> tuple[Actors, Steps, Told]:
    """`num_steps` steps of each environment. to_env: from what a policy draws to what the environment takes."""
    times = actors.steps + jnp.arange(num_steps, dtype=jnp.int32)
    resets = draws.keys(_addresses(words.environment, actors.number, RESET, times + 1))
    fresh = jax.vmap(jax.vmap(env.reset))(resets)
    chances = _addresses(words.environment, actors.number, STEP, times)
    choices = draws.fold_in(draws.fold_in(words.explore, actors.number), times[:, None])

    def one(now: Actors, given: Any) -> tuple[Actors, tuple[Steps, Told]]:
        fresh, chance, choice_words = given
        seen = look(env, now.state, now.observation)
        choice, value = act(seen, choice_words)
        out = jax.vmap(env.step)(now.state, to_env(choice.action), draws.keys(chance))
        over = out.terminated | out.truncated
        following = look(env, out.state, out.observation)
        step = Steps(seen, choice.action, choice.log_prob, value, out.reward, out.terminated, out.truncated, following)
        returns, lengths = now.returns + out.reward, now.lengths + 1
        told = _tell(now.steps, choice, out, returns, lengths, over)
        state, observation = jax.tree.map(lambda new, old: _where(over, new, old), fresh, (out.state, out.observation))
        after = Actors(
            now.number,
            now.steps + 1,
            state,
            observation,
            jnp.where(over, 0.0, returns),
            jnp.where(over, 0, lengths),
        )
        return after, (step, told)

    actors, (steps, told) = jax.lax.scan(one, actors, (fresh, chances, choices))
    return actors, steps, total(told)


def total(told: Told) -> Told:
    """Of many along the first axis, one."""
    sums = jax.tree.map(lambda x: jnp.sum(x, axis=0), told)
    return sums._replace(bad=jnp.min(told.bad, axis=0))


def _tell(steps: Array, choice: Choice, out: Any, returns: Array, lengths: Array, over: Array) -> Told:
    done = over.astype(jnp.float32)
    leaves = [x for x in jax.tree.leaves((out.reward, out.observation)) if jnp.issubdtype(x.dtype, jnp.floating)]
    fine = jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in leaves]))
    return Told(
        returns=jnp.sum(returns * done),
        lengths=jnp.sum(lengths.astype(jnp.float32) * done),
        episodes=jnp.sum(done),
        entropy=jnp.sum(choice.entropy),
        greedy=jnp.sum(choice.greedy.astype(jnp.float32)),
        acted=jnp.float32(over.size),
        bad=jnp.where(fine, jnp.uint32(NOT_BAD), steps.astype(jnp.uint32)),
    )


def _addresses(words: Array, numbers: Array, what: int, times: Array) -> Array:
    """uint32 [T, n, 2]: of each environment's draws at each time."""
    each = draws.fold_in(draws.fold_in(words, numbers), what)
    return draws.fold_in(each, times[:, None])


def _where(over: Array, new: Array, old: Array) -> Array:
    return jnp.where(over.reshape(over.shape + (1,) * (new.ndim - 1)), new, old)


# --- scoring ---------------------------------------------------------------------------------------------------------


def episodes(env: Env, act: Act, to_env: Callable[[Array], Array], count: int, words: Array) -> tuple[Array, Array]:
    """(returns f32 [E], lengths i32 [E]) of one episode each of `count` environments, until all are over; or of one
    from each start, where an environment has `num_starts` of them, to be had by `start(number)`."""
    num_starts = getattr(env, "num_starts", None)
    count = count if num_starts is None else num_starts
    numbers = jnp.arange(count, dtype=jnp.uint32)
    actors = begin(env, numbers, words)
    if num_starts is not None:
        state, observation = jax.vmap(env.start)(jnp.arange(count, dtype=jnp.int32))  # type: ignore[attr-defined]
        actors = actors._replace(state=state, observation=observation)
    base, chance = draws.fold_in(words, numbers), draws.fold_in(draws.fold_in(words, numbers), STEP)

    def turn(carried: tuple[Actors, Array]) -> tuple[Actors, Array]:
        now, running = carried
        choice, _ = act(look(env, now.state, now.observation), draws.fold_in(base, now.steps + STEP + 1))
        out = jax.vmap(env.step)(now.state, to_env(choice.action), draws.keys(draws.fold_in(chance, now.steps)))
        returns = now.returns + jnp.where(running, out.reward, 0.0)
        lengths = now.lengths + running.astype(jnp.int32)
        after = Actors(now.number, now.steps + 1, out.state, out.observation, returns, lengths)
        return after, running & ~(out.terminated | out.truncated)

    def goes_on(carried: tuple[Actors, Array]) -> Array:
        return jnp.any(carried[1]) & (carried[0].steps < env.max_steps)

    final, _ = jax.lax.while_loop(goes_on, turn, (actors, jnp.ones(count, jnp.bool_)))
    return final.returns, final.lengths
