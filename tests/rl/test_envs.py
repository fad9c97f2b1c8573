"""Environments keep their contract, and agree with gymnasium, with boards looked at cell by cell, and with exact
solutions."""

from __future__ import annotations

import gc
import importlib
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxft import draws
from jaxft.errors import UserError
from jaxft.rl import envs
from jaxft.rl.env import Box, Discrete, Env
from jaxft.rl.envs import board, control, grid, host

FAMILIES = (control, board, grid)
OWN = [name for family in FAMILIES for name in family.NAMES]
LANES = 4


@cache
def made(name: str) -> Any:
    return envs.make(name)


def keys(seed: int, *shape: int) -> jax.Array:
    return jax.random.split(jax.random.key(seed), shape)


def drawn(env: Env, state: Any, observation: Any, key: jax.Array) -> jax.Array:
    """A valid action, each as likely."""
    words = jax.random.key_data(key)
    if isinstance(env.actions, Box):
        low, high = jnp.asarray(env.actions.low), jnp.asarray(env.actions.high)
        return low + (high - low) * draws.uniform(words, env.actions.size)
    scores = draws.gumbel(words, env.actions.count)
    valid_of = getattr(env, "valid", None)
    scores = scores if valid_of is None else jnp.where(valid_of(state), scores, -jnp.inf)
    return jnp.argmax(scores).astype(jnp.int32)


@partial(jax.jit, static_argnums=(0, 1, 3))
def play(env: Env, policy: Callable, seeds: jax.Array, steps: int) -> dict[str, Any]:
    """Episodes from keys [n], without a new start, [T, n, ...] each. states, observations: before the action."""
    first = jax.vmap(env.reset)(seeds)

    def one(now: Any, at: jax.Array) -> Any:
        words = draws.fold_in(jax.random.key_data(seeds), at)
        here, chance = draws.keys(draws.fold_in(words, 0)), draws.keys(draws.fold_in(words, 1))
        action = jax.vmap(partial(policy, env))(*now, here)
        out = jax.vmap(env.step)(now[0], action, chance)
        told = {"states": now[0], "observations": now[1], "actions": action, "next": out.state}
        told |= {"following": out.observation, "reward": out.reward}
        return (out.state, out.observation), told | {"terminated": out.terminated, "truncated": out.truncated}

    return jax.lax.scan(one, first, jnp.arange(1, steps + 1))[1]


def types(tree: Any) -> list[tuple]:
    return [(leaf.shape, leaf.dtype, leaf.weak_type) for leaf in jax.tree.leaves(tree)]


# --- the contract ----------------------------------------------------------------------------------------------------


def test_families_define_these_environments_and_no_others():
    assert set(control.NAMES) == {"cartpole", "mountain_car", "acrobot", "pendulum", "reacher"}
    assert set(board.NAMES) == {"tic_tac_toe", "connect_four"}
    assert set(grid.NAMES) == {"gridworld"}
    assert host.NAMES == {} and host.prefix == "gym:"
    assert set(OWN) <= set(envs.names()) and len(OWN) == 8


@pytest.mark.slow
@pytest.mark.parametrize("name", OWN)
def test_environments_keep_their_contract(name):
    env = made(name)
    assert isinstance(env, Env) and env.name == name
    assert hash(env) == hash(envs.make(name)) and env == envs.make(name)  # one compiled program for both
    state, observation = jax.eval_shape(env.reset, jax.random.key(0))
    action = jax.eval_shape(partial(drawn, env), state, observation, jax.random.key(0))
    out = jax.eval_shape(env.step, state, action, jax.random.key(0))
    assert types(out.state) == types(state) and types(out.observation) == types(observation)
    assert {(dtype, weak) for _, dtype, weak in types((state, observation))} <= {
        (np.dtype(kind), False) for kind in ("float32", "int32", "bool")
    }
    assert observation.dtype == jnp.float32
    flag = ((), np.dtype(bool), False)
    assert types(out[2:]) == [((), np.dtype("float32"), False), flag, flag]

    told = play(env, drawn, keys(3, LANES), env.max_steps)
    assert np.isfinite(told["reward"]).all() and np.isfinite(told["following"]).all()
    over = np.asarray(told["terminated"] | told["truncated"])
    assert over.any(axis=0).all()
    assert not told["truncated"][:-1].any()  # by the time limit alone
    again = play(env, drawn, keys(3, LANES), env.max_steps)
    for one, two in zip(jax.tree.leaves(told), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(one, two)

    bulk = jax.jit(jax.vmap(jax.vmap(env.reset)))(keys(3, LANES).reshape(LANES, 1))
    single = jax.tree.map(lambda x: x[0], (told["states"], told["observations"]))
    for one, two in zip(jax.tree.leaves(bulk), jax.tree.leaves(single), strict=True):
        np.testing.assert_array_equal(one[:, 0], two)


def test_unknown_names_and_settings_are_refused():
    with pytest.raises(UserError, match="did you mean `cartpole`"):
        envs.make("cartpol")
    with pytest.raises(UserError, match="no opponent 'perfect'"):
        envs.make("connect_four", opponent="perfect")
    with pytest.raises(UserError, match="no game 'chess'"):
        board.Board("chess")
    with pytest.raises(UserError, match="no probability"):
        envs.make("gridworld", slip=1.5)


# --- control against gymnasium ---------------------------------------------------------------------------------------

GYMNASIUM = {
    "cartpole": ("CartPole-v1", ("x", "x_dot", "theta", "theta_dot")),
    "mountain_car": ("MountainCar-v0", ("position", "velocity")),
    "acrobot": ("Acrobot-v1", ("joint_angle1", "joint_angle2", "velocity_1", "velocity_2")),
    "pendulum": ("Pendulum-v1", ("theta", "theta_dot")),
}


def skilled(env: Any, state: Any, observation: jax.Array, key: jax.Array) -> jax.Array:
    """Balances the pole, rocks the car, pumps the links, turns the pendulum with its speed and more than is allowed."""
    if env.name == "cartpole":
        return (observation @ jnp.asarray([0.05, 0.3, 1.0, 0.5]) > 0).astype(jnp.int32)
    if env.name == "mountain_car":
        return jnp.where(observation[1] >= 0, 2, 0).astype(jnp.int32)
    if env.name == "acrobot":
        return jnp.where(observation[5] >= 0, 2, 0).astype(jnp.int32)
    return jnp.where(observation[2:] >= 0, 3.0, -3.0)


@pytest.mark.slow
@pytest.mark.parametrize("policy", [drawn, skilled])
@pytest.mark.parametrize("name", GYMNASIUM)
def test_control_steps_as_gymnasium_does(name, policy):
    env, (its, fields) = made(name), GYMNASIUM[name]
    judge = gymnasium.make(its, disable_env_checker=True)
    assert judge.spec is not None and env.max_steps == judge.spec.max_episode_steps
    assert judge.spec.reward_threshold == (None if name == "pendulum" else env.threshold)
    if isinstance(env.actions, Discrete):
        assert isinstance(judge.action_space, gymnasium.spaces.Discrete)
        assert judge.action_space.n == env.actions.count
    else:
        assert isinstance(judge.action_space, gymnasium.spaces.Box)
        assert judge.action_space.low == env.actions.low and judge.action_space.high == env.actions.high
    told = jax.tree.map(np.asarray, play(env, policy, keys(7, LANES), env.max_steps))
    states = np.stack([getattr(told["states"], one) for one in fields], axis=-1).astype(np.float64)
    after = np.stack([getattr(told["next"], one) for one in fields], axis=-1)
    ends = []
    for lane in range(LANES):
        judge.reset(seed=0)
        for at in range(env.max_steps):
            unwrapped: Any = judge.unwrapped
            unwrapped.state = states[at, lane].copy()
            action = told["actions"][at, lane]
            observation, reward, terminated, truncated, _ = judge.step(int(action) if action.ndim == 0 else action)
            np.testing.assert_allclose(told["following"][at, lane], observation, atol=1e-5, rtol=1e-5)
            np.testing.assert_allclose(after[at, lane], unwrapped.state, atol=1e-5, rtol=1e-5)
            assert told["reward"][at, lane] == pytest.approx(float(reward), abs=1e-5, rel=1e-5)
            assert (told["terminated"][at, lane], told["truncated"][at, lane]) == (terminated, truncated)
            if terminated or truncated:
                ends.append("terminated" if terminated else "truncated")
                break
    expected = {"cartpole": ("terminated", "truncated"), "pendulum": ("truncated", "truncated")}
    assert set(ends) == {expected.get(name, ("truncated", "terminated"))[policy is skilled]}
    assert len(ends) == LANES


@pytest.mark.slow
def test_first_states_are_drawn_from_gymnasiums_ranges():
    seeds = keys(1, 2000)
    ranges = {
        "cartpole": [(-0.05, 0.05)] * 4,
        "mountain_car": [(-0.6, -0.4)],
        "acrobot": [(-0.1, 0.1)] * 4,
        "pendulum": [(-np.pi, np.pi), (-1.0, 1.0)],
    }
    for name, bounds in ranges.items():
        state, _ = jax.jit(jax.vmap(made(name).reset))(seeds)
        for field, (low, high) in zip(GYMNASIUM[name][1], bounds, strict=False):
            numbers = np.asarray(getattr(state, field), np.float64)
            assert stats.kstest(numbers, stats.uniform(low, high - low).cdf).pvalue > 1e-4


def test_the_reacher_is_pushed_no_harder_than_its_actions_go():
    env = made("reacher")
    state, _ = jax.jit(env.reset)(jax.random.key(0))
    step = jax.jit(env.step)
    hard, most = (step(state, jnp.full(2, x), jax.random.key(1)) for x in (5.0, 1.0))
    np.testing.assert_array_equal(hard.observation, most.observation)
    angles = np.asarray(most.state.angles, np.float64)
    arm = np.array([np.cos(angles).sum(), np.sin(angles).sum()])
    assert float(most.reward) == pytest.approx(np.exp(-np.sum((arm - np.asarray(state.goal_xy)) ** 2)), rel=1e-5)
    np.testing.assert_allclose(most.state.angle_vels, state.angle_vels + 0.05, atol=1e-6)


# --- boards ----------------------------------------------------------------------------------------------------------

SHAPES = {"tic_tac_toe": (3, 3, 3), "connect_four": (6, 7, 4)}


def has_line(stones: np.ndarray, length: int) -> bool:
    """Of that many stones in a row, bool [height, width]."""
    steps = ((0, 1), (1, 0), (1, 1), (1, -1))
    at = {tuple(cell) for cell in np.argwhere(stones).tolist()}
    return any(all((y + k * dy, x + k * dx) in at for k in range(length)) for y, x in at for dy, dx in steps)


@pytest.mark.slow
@pytest.mark.parametrize("name", board.GAMES)
def test_games_of_two_are_played_by_the_rules(name):
    game, count = board.Board(name), 32
    height, width, length = SHAPES[name]
    assert game.num_actions == (height * width if name == "tic_tac_toe" else width)

    @jax.jit
    def game_of(seed: jax.Array) -> Any:
        def turn(state: Any, at: jax.Array) -> Any:
            scores = draws.gumbel(draws.fold_in(jax.random.key_data(seed), at + 1), game.num_actions)
            action = jnp.argmax(jnp.where(game.valid(state), scores, -jnp.inf)).astype(jnp.int32)
            view = (game.observe(state), game.player(state), game.over(state), game.valid(state), action)
            return game.step(state, action), view

        final, views = jax.lax.scan(turn, game.init(seed), jnp.arange(height * width))
        return final, views, game.over(final), jnp.stack([game.result(final, who) for who in (0, 1)])

    final, views, over, results = jax.tree.map(np.asarray, jax.vmap(game_of)(keys(2, count)))
    boards, players, was_over, valid, actions = views
    assert over.all() and boards.dtype == np.float32 and boards.shape[2:] == (height, width, 2)
    assert set(players[:, 0].tolist()) == {0, 1}  # who begins is drawn
    assert (results.sum(axis=1) == 0).all()
    ended = set()
    for one in range(count):
        stones = np.zeros((2, height, width), bool)  # of players 0 and 1
        for at in range(height * width):
            if was_over[one, at]:
                break
            mover = int(players[one, at])
            np.testing.assert_array_equal(boards[one, at, ..., 0], stones[mover])
            np.testing.assert_array_equal(boards[one, at, ..., 1], stones[1 - mover])
            taken = np.asarray(stones.any(axis=0))
            expected = ~taken.ravel() if name == "tic_tac_toe" else ~taken[0]
            np.testing.assert_array_equal(valid[one, at], expected)
            action = int(actions[one, at])
            row, column = (
                divmod(action, width) if name == "tic_tac_toe" else (int((~taken[:, action]).sum()) - 1, action)
            )
            stones[mover, row, column] = True
            assert mover == (players[one, 0] + at) % 2
        lines = [has_line(stones[who], length) for who in (0, 1)]
        wanted = [0.0, 0.0] if not any(lines) else [1.0 if line else -1.0 for line in lines]
        assert results[one].tolist() == wanted
        assert any(lines) or stones.any(axis=0).all()
        ended.add(wanted[0])
    assert ended >= {1.0, -1.0}


@pytest.mark.slow
@pytest.mark.parametrize("name", board.GAMES)
def test_moves_that_are_not_valid_lose_at_once_and_an_ended_game_stays(name):
    game, env = board.Board(name), made(name)
    move, act = jax.jit(game.step), jax.jit(env.step)
    state = jax.jit(game.init)(jax.random.key(0))
    for _ in range(1 if name == "tic_tac_toe" else 6):
        state = move(state, jnp.int32(0))
    loser = int(game.player(state))
    assert not game.valid(state)[0] and not game.over(state)
    lost = move(state, jnp.int32(0))
    assert game.over(lost) and (game.result(lost, loser), game.result(lost, 1 - loser)) == (-1, 1)
    for one, two in zip(*(jax.tree.leaves(x) for x in (lost, move(lost, jnp.int32(1)))), strict=True):
        np.testing.assert_array_equal(one, two)

    out = act(state.replace(current_player=jnp.int32(0)), jnp.int32(0), jax.random.key(1))
    assert out.terminated and not out.truncated and out.reward == -1
    past = act(out.state, jnp.int32(1), jax.random.key(2))
    assert past.terminated and past.reward == 0


@cache
def worth(cells: tuple[int, ...], mine: bool) -> float:
    """Mean result of best play from here against random moves. cells: 1 the agent's, -1 the opponent's, 0 free."""
    for who in (1, -1):
        if has_line(np.reshape(cells, (3, 3)) == who, 3):
            return float(who)
    free = [at for at in range(9) if cells[at] == 0]
    if not free:
        return 0.0
    values = [worth((*cells[:at], 1 if mine else -1, *cells[at + 1 :]), not mine) for at in free]
    return max(values) if mine else sum(values) / len(values)


@pytest.mark.slow
def test_best_play_of_tic_tac_toe_gets_the_exact_return_from_the_environment():
    empty = (0,) * 9
    first, second = worth(empty, True), worth(empty, False)
    exact = (first + second) / 2
    env, count = made("tic_tac_toe"), 1000
    assert (first, second) == pytest.approx((0.9948, 0.9249), abs=5e-5)
    assert env.threshold < exact

    state, observation = jax.jit(jax.vmap(env.reset))(keys(4, count))
    began = np.asarray(observation).sum(axis=(1, 2, 3)) == 0
    assert stats.binomtest(int(began.sum()), count).pvalue > 1e-4  # each side is as likely
    step, returns = jax.jit(jax.vmap(env.step)), np.zeros(count)
    for at in range(env.max_steps):
        boards = np.asarray(observation).reshape(count, 9, 2).astype(int) @ [1, -1]
        actions = [best(tuple(cells.tolist())) for cells in boards]
        state, observation, reward, terminated, _ = step(state, jnp.asarray(actions, jnp.int32), keys(10 + at, count))
        returns += np.asarray(reward)
    assert np.asarray(terminated).all()
    assert returns.mean() == pytest.approx(exact, abs=4 * returns.std() / np.sqrt(count))


@cache
def best(cells: tuple[int, ...]) -> int:
    free = [at for at in range(9) if cells[at] == 0] or [0]
    return max(free, key=lambda at: worth((*cells[:at], 1, *cells[at + 1 :]), False))


# --- the grid --------------------------------------------------------------------------------------------------------


def test_grid_steps_are_drawn_from_its_transition_tensor():
    env, draws_each = made("gridworld"), 2000
    states, actions = len(grid.CELLS), env.actions.count
    assert env.P.shape == (states, actions, states) and env.R.shape == (states, actions)
    np.testing.assert_allclose(env.P.sum(axis=-1), 1.0, atol=1e-12)
    index, action = np.divmod(np.arange(states * actions), actions)

    @jax.jit
    def many(seed: jax.Array) -> Any:
        state = grid.State(jnp.asarray(index, jnp.int32), jnp.zeros(index.size, jnp.int32))
        each = draws.keys(draws.fold_in(jax.random.key_data(seed), jnp.arange(index.size)))
        out = jax.vmap(env.step)(state, jnp.asarray(action, jnp.int32), each)
        return out.state.index, out.reward, out.terminated

    after, reward, terminated = jax.tree.map(np.asarray, jax.vmap(many)(keys(6, draws_each)))
    ends = [kind in "+-" for kind in grid.KINDS]
    np.testing.assert_array_equal(terminated, np.array(ends)[after])
    for pair in range(index.size):
        chances = env.P[index[pair], action[pair]]
        counts = np.bincount(after[:, pair], minlength=states)
        reached = chances > 0
        assert counts[~reached].sum() == 0
        if reached.sum() > 1:
            assert stats.chisquare(counts[reached], chances[reached] * draws_each).pvalue > 1e-4
        mean, exact = reward[:, pair].mean(), env.R[index[pair], action[pair]]
        assert mean == pytest.approx(exact, abs=1e-6 + 4 * reward[:, pair].std() / np.sqrt(draws_each))


def test_value_iteration_finds_the_books_values_and_satisfies_bellmans_equation():
    env = made("gridworld")
    for discount in (1.0, 0.9):
        Q = grid.value_iteration(env.P, env.R, discount, 1e-10)
        assert Q.dtype == np.float64
        np.testing.assert_allclose(Q, env.R + discount * np.einsum("ijk,k->ij", env.P, Q.max(1)), atol=1e-9)
    best_from = dict(zip(grid.CELLS, grid.value_iteration(env.P, env.R, 1.0, 1e-10).max(axis=1), strict=True))
    book = [[0.8516, 0.9078, 0.9578, 0.0], [0.8016, None, 0.7003, 0.0], [0.7453, 0.6953, 0.6514, 0.4279]]
    for row, line in enumerate(book):
        for column, value in enumerate(line):
            assert value is None or best_from[row, column] == pytest.approx(value, abs=5e-5)
    assert env.threshold < best_from[grid.CELLS[grid.START]]


def test_value_iteration_says_when_there_is_no_end():
    P, R = np.ones((1, 1, 1)), np.ones((1, 1))
    with pytest.raises(UserError, match="a discount below 1"):
        grid.value_iteration(P, R, 1.0, 1e-9)


# --- gymnasium on the host -------------------------------------------------------------------------------------------


def gym_loop(name: str, seeds: np.ndarray, actions: np.ndarray) -> dict[str, np.ndarray]:
    """What gymnasium gives, [T, n, ...]; after an end zeros."""
    rows: dict[str, list] = {"observations": [], "following": [], "reward": [], "terminated": [], "truncated": []}
    for lane, seed in enumerate(seeds):
        env = gymnasium.make(name)
        observation, over = env.reset(seed=int(seed))[0], False
        told: dict[str, list] = {key: [] for key in rows}
        for action in actions[:, lane]:
            told["observations"].append(observation)
            if over:
                observation, reward, terminated, truncated = np.zeros_like(observation), 0.0, True, False
            else:
                observation, reward, terminated, truncated, _ = env.step(int(action) if action.ndim == 0 else action)
            over = over or terminated or truncated
            for key, value in (("following", observation), ("reward", reward)):
                told[key].append(value)
            told["terminated"].append(terminated)
            told["truncated"].append(truncated)
        env.close()
        for key, values in told.items():
            rows[key].append(np.stack(values))
    return {key: np.stack(lanes, axis=1) for key, lanes in rows.items()}


@pytest.mark.parametrize("its", ["CartPole-v1", "Pendulum-v1"])
def test_rollouts_through_the_host_are_gymnasiums(its):
    env: Any = envs.make(f"gym:{its}", max_envs=LANES)
    assert isinstance(env, host.Gym) and env.max_steps == (500 if its == "CartPole-v1" else 200)
    for seed in (0, 1, 0):  # the same keys again give the same numbers
        seeds = keys(seed, LANES)
        told = jax.tree.map(np.asarray, play(env, drawn, seeds, 60))
        wanted = gym_loop(its, np.asarray(jax.random.key_data(seeds))[:, 1] & 0x7FFFFFFF, told["actions"])
        assert wanted["terminated"].any() == (its == "CartPole-v1")
        for name, values in wanted.items():
            np.testing.assert_array_equal(told[name], values.astype(told[name].dtype), err_msg=name)
    env.close()


def test_resets_ahead_of_time_hold_no_environment_and_starts_may_be_chosen_later():
    env: Any = envs.make("gym:CartPole-v1", max_envs=2)
    ahead = jax.jit(jax.vmap(jax.vmap(env.reset)))(keys(8, 50, 2))
    assert len(env.pool.made) == 1
    step = jax.jit(jax.vmap(env.step))
    for at in (3, 40):  # others take the place of episodes that were given up
        state, observation = jax.tree.map(lambda x, at=at: x[at], ahead)
        out = step(state, jnp.asarray([0, 1]), keys(9, 2))
        seeds = np.asarray(state.episode)[:, 1] & 0x7FFFFFFF
        wanted = gym_loop("CartPole-v1", seeds, np.array([[0, 1]]))
        np.testing.assert_array_equal(observation, wanted["observations"][0])
        np.testing.assert_array_equal(out.observation, wanted["following"][0])
    assert len(env.pool.made) == 3
    assert env.reset(jax.random.key(5))[1].tolist() == gymnasium.make("CartPole-v1").reset(seed=5)[0].tolist()


def test_what_the_host_cannot_do_is_refused():
    env: Any = envs.make("gym:CartPole-v1", max_envs=2)
    state, _ = jax.vmap(env.reset)(keys(0, 3))
    with pytest.raises(UserError, match="3 environments of CartPole-v1 are stepped at once, 2 is the most"):
        jax.jit(jax.vmap(env.step))(state, jnp.zeros(3, jnp.int32), keys(1, 3))
    state, _ = env.reset(jax.random.key(0))
    with pytest.raises(jax.errors.JaxRuntimeError, match="its state was stepped before"):
        for _ in range(2):
            env.step(state._replace(steps=jnp.int32(1)), jnp.int32(0), jax.random.key(0))
    same = jax.tree.map(lambda x: jnp.stack([x, x]), state)
    with pytest.raises(jax.errors.JaxRuntimeError, match="two episodes of CartPole-v1 with one key"):
        jax.vmap(env.step)(same, jnp.zeros(2, jnp.int32), keys(1, 2))
    for name, settings, message in (
        ("gym:CartPol-v1", {}, "did you mean `gym:CartPole-v1`"),
        ("gym:CartPole-v1", {"mass": 3}, "cannot make CartPole-v1"),
        ("gym:CartPole-v1", {"max_envs": 0}, "1 or more"),
        ("gym:Blackjack-v1", {}, "no time limit"),
    ):
        with pytest.raises(UserError, match=message):
            envs.make(name, **settings)
    assert envs.make("gym:Blackjack-v1", max_steps=20).max_steps == 20


def test_spaces_are_translated_and_missing_gymnasium_is_told(monkeypatch):
    frozen: Any = envs.make("gym:FrozenLake-v1")
    _, observation = frozen.reset(jax.random.key(0))
    assert isinstance(frozen, Env) and frozen.actions == Discrete(4) and observation.tolist() == [1.0] + [0.0] * 15
    continuous: Any = envs.make("gym:Pendulum-v1")
    assert continuous.actions == Box((-2.0,), (2.0,)) and continuous.threshold is None
    monkeypatch.setitem(importlib.import_module("sys").modules, "gymnasium", None)
    with pytest.raises(UserError, match=r"jaxft\[gym\]"):
        host.make("gym:CartPole-v1")


def test_missing_gymnax_is_told(monkeypatch):
    control._gymnax.cache_clear()
    monkeypatch.setitem(importlib.import_module("sys").modules, "gymnax", None)
    with pytest.raises(UserError, match=r"jaxft\[control\]"):
        envs.make("cartpole")


def test_environments_are_closed_with_the_pool():
    closed = []

    class Closes(gymnasium.Wrapper):
        def close(self) -> None:
            closed.append(self)
            super().close()

    env: Any = envs.make("gym:CartPole-v1")
    env.pool.made[:] = [Closes(one) for one in env.pool.made]
    del env
    gc.collect()
    assert len(closed) == 1
