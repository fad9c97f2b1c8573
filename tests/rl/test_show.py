"""Pictures of episodes: as many frames as there are steps, and in them what the states say."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from jaxft.errors import UserError
from jaxft.rl import envs, show
from jaxft.rl.envs import board, control, grid

BLUE, ORANGE = (47, 109, 179), (224, 138, 44)


@cache
def states_of(name: str) -> tuple[Any, Any]:
    """(environment, four states [4, ...])."""
    env: Any = envs.make(name)
    if name in control.NAMES:
        return env, jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), 4))[0]
    if name in grid.NAMES:
        return env, grid.State(jnp.asarray([grid.START, 4, 0, 3]), jnp.arange(4))
    return env, played(name, (0, 1, 3))


def played(name: str, moves: tuple[int, ...]) -> Any:
    """States of a game in which player 0 begins, before each of the moves and at the end."""
    game = board.Board(name)
    step, states = jax.jit(game.step), [game.init(jax.random.key(0)).replace(current_player=jnp.int32(0))]
    for move in moves:
        states.append(step(states[-1], jnp.int32(move)))
    return jax.tree.map(lambda *x: np.stack(x), *states)


def pixels(picture: Any, colour: tuple[int, int, int]) -> np.ndarray:
    """Where (row, column) it has about that colour, [n, 2]."""
    return np.argwhere(np.abs(np.asarray(picture.convert("RGB"), int) - colour).max(axis=-1) < 12)


def frames_of(path: Path) -> list[Any]:
    with Image.open(path) as picture:
        found = []
        for at in range(getattr(picture, "n_frames", 1)):
            picture.seek(at)
            found.append(picture.convert("RGB"))
        return found


def test_all_environments_with_states_to_look_at_have_pictures():
    assert set(show.PAINTERS) == {*control.NAMES, *board.NAMES, *grid.NAMES}


@pytest.mark.parametrize("name", show.PAINTERS)
def test_states_become_frames_and_strips(name, tmp_path):
    env, states = states_of(name)
    show.animate(env, states, tmp_path / "a.gif")
    frames = frames_of(tmp_path / "a.gif")
    assert len(frames) == 4
    for before, after in zip(frames, frames[1:], strict=False):
        assert before.size == after.size and np.abs(np.asarray(before, int) - np.asarray(after)).max() > 100
    show.strip(env, states, str(tmp_path / "a.png"), frames=3)  # the first, one between, the last
    (strip,) = frames_of(tmp_path / "a.png")
    assert strip.size == (3 * frames[0].width, frames[0].height)
    last = strip.crop((2 * frames[0].width, 0, *strip.size))
    assert abs(len(pixels(last, BLUE)) / len(pixels(frames[-1], BLUE)) - 1) < 0.1


def test_frames_are_where_the_states_are(tmp_path):
    env, states = states_of("gridworld")
    show.animate(env, states, tmp_path / "grid.gif")
    width, height = frames_of(tmp_path / "grid.gif")[0].size
    for frame, index in zip(frames_of(tmp_path / "grid.gif"), states.index, strict=True):
        row, column = pixels(frame, BLUE).mean(axis=0)
        wanted = grid.CELLS[int(index)]
        assert column == pytest.approx((wanted[1] + 0.5) / 4 * width, abs=8)
        assert row == pytest.approx(35 + (wanted[0] + 0.5) / 3 * (height - 35), abs=8)  # below the title


@pytest.mark.slow
def test_stones_are_of_their_players_and_the_end_is_said(tmp_path):
    env, _ = states_of("connect_four")
    states = played("connect_four", (0, 1, 0, 1, 0, 1, 0))
    show.animate(env, states, tmp_path / "four.gif")
    frames = frames_of(tmp_path / "four.gif")
    one = len(pixels(frames[1], BLUE))
    counts = [(len(pixels(frame, BLUE)) / one, len(pixels(frame, ORANGE)) / one) for frame in frames[:-1]]
    np.testing.assert_allclose(counts, [((at + 1) // 2, at // 2) for at in range(len(counts))], rtol=0.05, atol=0.05)

    axes, paint = Figure().add_subplot(), show.PAINTERS["connect_four"]
    said = [paint(axes, jax.tree.map(lambda x, at=at: x[at], states)) for at in range(8)]
    assert said == [""] * 7 + ["won"]
    other = played("connect_four", (2, 0, 1, 0, 1, 0, 1, 0))
    assert paint(axes, jax.tree.map(lambda x: x[-1], other)) == "lost"


def test_long_episodes_are_thinned(tmp_path):
    env, states = states_of("pendulum")
    many = jax.tree.map(lambda x: np.tile(x, 25), states)
    show.animate(env, many, tmp_path / "long.gif", frames=7)
    assert len(frames_of(tmp_path / "long.gif")) == 7


def test_what_has_no_picture_is_said(tmp_path):
    env = envs.make("gym:CartPole-v1")
    with pytest.raises(UserError, match="no pictures of gym:CartPole-v1"):
        show.animate(env, env.reset(jax.random.key(0))[0], tmp_path / "a.gif")
    assert not list(tmp_path.iterdir())
