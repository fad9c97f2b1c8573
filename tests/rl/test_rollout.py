"""Rollouts on the device are what a plain loop over the same keys gives, one environment after another."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft import draws
from jaxft.rl import envs, policies, rollout
from jaxft.rl.env import Env
from jaxft.rl.rollout import NOT_BAD, RESET, STEP, Actors, Seen, Words
from tests.rl.worlds import Walk

STREAMS = Words(*draws.fold_in(jax.random.key_data(jax.random.key(5)), jnp.arange(4)))
T = 60
WALKERS = 50


def act(seen: Seen, words: jax.Array) -> Any:
    """Half of the draws by what is observed."""
    first = seen.observation[:, 0]
    logits = jnp.stack([-first, first], axis=-1)
    return policies.choose(words, jax.nn.log_softmax(logits)), seen.observation[:, 1]


begin = jax.jit(rollout.begin, static_argnums=0)


@partial(jax.jit, static_argnums=(0, 2))
def go(env: Env, actors: Actors, num_steps: int, streams: Words) -> Any:
    return rollout.rollout(env, act, lambda action: action, actors, num_steps, streams)


def collect(env: Env, count: int, num_steps: int, streams: Words = STREAMS) -> Any:
    """(beginning, end, steps, told) of environments 0 .. count - 1."""
    actors = begin(env, jnp.arange(count, dtype=jnp.uint32), streams.environment)
    return (actors, *go(env, actors, num_steps, streams))


def key(words: jax.Array, *address: int) -> jax.Array:
    """By jax.random alone."""
    found = jax.random.wrap_key_data(words)
    for number in address:
        found = jax.random.fold_in(found, number)
    return found


def plain(env: Env, number: int, num_steps: int) -> list[dict[str, Any]]:
    """What environment `number` goes through, step by step, in Python."""
    reset, step = jax.jit(env.reset), jax.jit(env.step)
    choose = jax.jit(lambda observation, words: act(Seen(observation[None]), words[None]))
    state, observation = reset(key(STREAMS.environment, number, RESET, 0))
    told = []
    for time in range(num_steps):
        choice, _ = choose(observation, jax.random.key_data(key(STREAMS.explore, number, time)))
        action = choice.action[0]
        out = step(state, action, key(STREAMS.environment, number, STEP, time))
        met = {"observation": observation, "action": action, "reward": out.reward, "following": out.observation}
        ends = {"terminated": out.terminated, "truncated": out.truncated, "log_prob": choice.log_prob[0]}
        told.append(met | ends)
        state, observation = out.state, out.observation
        if out.terminated or out.truncated:
            state, observation = reset(key(STREAMS.environment, number, RESET, time + 1))
    return told


@pytest.fixture(scope="module")
def cartpole() -> Any:
    """(environment, beginning, end, steps, told) of three environments."""
    env = envs.make("cartpole")
    return (env, *collect(env, 3, T))


@pytest.mark.parametrize("number", [0, 2])
def test_episodes_are_those_of_a_plain_loop_with_the_same_keys(cartpole, number):
    env, _, _, steps, _ = cartpole
    expected = plain(env, number, T)
    assert sum(bool(one["terminated"]) for one in expected) >= 2  # of several episodes
    for time, one in enumerate(expected):
        np.testing.assert_allclose(steps.seen.observation[time, number], one["observation"], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(steps.following.observation[time, number], one["following"], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(steps.log_prob[time, number], one["log_prob"], rtol=1e-4, atol=1e-6)
        for name in ("action", "reward", "terminated", "truncated"):
            assert getattr(steps, name)[time, number] == one[name], (time, name)


def test_what_follows_the_last_step_is_the_old_episode_and_what_comes_next_a_new_one(cartpole):
    _, _, _, steps, _ = cartpole
    over = np.asarray(steps.terminated | steps.truncated)[:-1]
    following, later = np.asarray(steps.following.observation)[:-1], np.asarray(steps.seen.observation)[1:]
    assert over.any() and not over.all()
    np.testing.assert_array_equal(following[~over], later[~over])
    assert (np.abs(following[over]) > 0.05).any(axis=-1).all()  # where the pole fell
    assert (np.abs(later[over]) <= 0.05).all()  # where episodes begin


@pytest.mark.slow
def test_an_environment_is_the_same_whatever_others_there_are(cartpole):
    env, *_, steps, _ = cartpole
    _, alone, _ = go(env, begin(env, jnp.array([2], jnp.uint32), STREAMS.environment), T, STREAMS)
    np.testing.assert_array_equal(alone.reward[:, 0], steps.reward[:, 2])
    np.testing.assert_allclose(alone.seen.observation[:, 0], steps.seen.observation[:, 2], rtol=1e-5, atol=1e-6)


def test_sums_tell_of_the_episodes_that_ended(cartpole):
    _, _, end, steps, told = cartpole
    over = np.asarray(steps.terminated | steps.truncated)
    last = T - 1 - over[::-1].argmax(axis=0)  # of each environment's last finished episode
    assert int(told.episodes) == over.sum() and int(told.acted) == over.size
    assert int(told.returns) == int(told.lengths) == (last + 1).sum()  # 1 a step
    np.testing.assert_array_equal(end.lengths, T - 1 - last)
    np.testing.assert_array_equal(end.returns, T - 1 - last)
    assert int(told.bad) == NOT_BAD and int(end.steps) == T


@pytest.mark.slow
def test_going_on_is_the_same_as_not_having_stopped():
    _, end, steps, _ = collect(Walk(), WALKERS, 16)
    _, half, first, _ = collect(Walk(), WALKERS, 8)
    end_too, second, _ = go(Walk(), half, 8, STREAMS)
    joined = jax.tree.map(lambda one, two: np.concatenate([one, two]), first, second)
    jax.tree.map(np.testing.assert_array_equal, (end, steps), (end_too, joined))


def test_termination_and_the_time_limit_are_told_apart():
    env = Walk()
    _, _, steps, _ = collect(env, WALKERS, 16)
    terminated, truncated = np.asarray(steps.terminated), np.asarray(steps.truncated)
    time = np.asarray(steps.following.observation)[..., 1] * env.max_steps
    assert terminated.any() and truncated.any() and (terminated & truncated).any()
    np.testing.assert_array_equal(truncated, time >= env.max_steps)
    assert (np.asarray(steps.reward)[terminated] == 0).all()  # only a wrong answer ends an episode


def test_the_stream_of_exploration_moves_no_draw_of_the_environment():
    begun, _, steps, _ = collect(Walk(), WALKERS, 8)
    begun_too, _, steps_too, _ = collect(Walk(), WALKERS, 8, STREAMS._replace(explore=STREAMS.order))
    np.testing.assert_array_equal(begun.observation, begun_too.observation)
    assert (np.asarray(steps.action) != np.asarray(steps_too.action)).any()
    # sides are drawn whatever is done: within an episode by the step's key, at its start by the reset's
    alike = (np.asarray(steps.terminated) == np.asarray(steps_too.terminated)).all(axis=0)
    assert alike.any()
    sides = [np.asarray(one.seen.observation)[:, alike, 0] for one in (steps, steps_too)]
    np.testing.assert_array_equal(sides[0], sides[1])


@pytest.mark.slow
@pytest.mark.parametrize("breaks", ["reward", "observation"])
def test_what_is_not_a_number_is_noticed_with_its_step(breaks):
    words = rollout._addresses(STREAMS.environment, jnp.arange(4, dtype=jnp.uint32), RESET, jnp.arange(1))
    env = Walk(poison=int(words[0, 3, 0]), breaks=breaks)

    def right(seen: Seen, _: jax.Array) -> Any:
        none = seen.observation[:, 0] * 0
        return policies.Choice((seen.observation[:, 0] > 0).astype(jnp.int32), none, none, none > 0), none

    go = jax.jit(lambda actors: rollout.rollout(env, right, lambda a: a, actors, 2, STREAMS))
    after, _, told = go(begin(env, jnp.arange(4, dtype=jnp.uint32), STREAMS.environment))
    assert int(told.bad) == NOT_BAD
    after, _, told = go(after)
    assert int(told.bad) == 2
    assert int(go(after)[2].bad) == NOT_BAD


def test_of_many_sums_the_first_bad_step_counts():
    zeros = jnp.zeros(3)
    bad = jnp.array([9, 4, NOT_BAD], jnp.uint32)
    told = rollout.total(rollout.Told(zeros, zeros + 1, zeros + 2, zeros + 3, zeros + 4, zeros + 5, bad))
    assert [float(x) for x in told[:6]] == [0, 3, 6, 9, 12, 15] and int(told.bad) == 4


# --- scoring ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_scored_episodes_end_where_a_plain_loop_ends():
    env, words = Walk(), STREAMS.evaluation
    returns, lengths = jax.jit(lambda w: rollout.episodes(env, act, lambda a: a, 20, w))(words)
    assert returns.shape == lengths.shape == (20,)
    reset, step = jax.jit(env.reset), jax.jit(env.step)
    choose = jax.jit(lambda observation, words: act(Seen(observation[None]), words[None])[0].action[0])
    for number in range(4):
        state, observation = reset(key(words, number, RESET, 0))
        total, time, over = 0.0, 0, False
        while not over:
            action = choose(observation, jax.random.key_data(key(words, number, time + 2)))
            out = step(state, action, key(words, number, STEP, time))
            state, observation = out.state, out.observation
            total, time, over = total + float(out.reward), time + 1, bool(out.terminated | out.truncated)
        assert (float(returns[number]), int(lengths[number])) == (total, time)
    assert len(set(np.asarray(lengths).tolist())) > 1


class Numbered(Walk):
    """Three starts, to be had by number; the return of an episode is the number."""

    num_starts = 3

    def start(self, number: jax.Array) -> Any:
        return self.reset(jax.random.key(0))[0]._replace(time=number), jnp.stack([number, number]).astype(jnp.float32)

    def step(self, state: Any, action: jax.Array, key: jax.Array) -> Any:
        out = super().step(state, action, key)
        return out._replace(reward=state.time.astype(jnp.float32), truncated=jnp.bool_(True))


def test_where_starts_are_numbered_each_is_scored_once():
    play = jax.jit(lambda words: rollout.episodes(Numbered(), act, lambda a: a, 50, words))
    returns, lengths = play(STREAMS.evaluation)
    np.testing.assert_array_equal(returns, [0, 1, 2])
    np.testing.assert_array_equal(lengths, [1, 1, 1])


@pytest.mark.slow
def test_expert_and_valid_actions_are_looked_up_where_there_are_any():
    class Advised(Walk):
        def valid(self, state: Any) -> jax.Array:
            return jnp.stack([state.side < 0, jnp.bool_(True)])

        def expert(self, state: Any) -> jax.Array:
            return (state.side > 0).astype(jnp.int32)

    actors = rollout.begin(Advised(), jnp.arange(6, dtype=jnp.uint32), STREAMS.environment)
    assert isinstance(actors, Actors)
    seen = rollout.look(Advised(), actors.state, actors.observation)
    np.testing.assert_array_equal(seen.advice, np.asarray(actors.state.side) > 0)
    np.testing.assert_array_equal(seen.valid[:, 0], np.asarray(actors.state.side) < 0)
    assert rollout.look(Walk(), actors.state, actors.observation)[1:] == (None, None)
