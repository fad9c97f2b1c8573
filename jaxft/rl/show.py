"""Pictures of episodes: a moving one, or some of its steps side by side.

States come stacked over time, as a rollout leaves them; how one is drawn depends on the environment. Left out: windows,
sound, and environments whose states can't be looked at (texts, and gymnasium's on the host).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxft.errors import UserError
from jaxft.rl.envs import grid

BLUE, ORANGE, GREEN, RED, GREY, DARK, PALE = (
    "#2f6db3", "#e08a2c", "#3c9d5f", "#c8453b", "#8a8f98", "#2b2e34", "#e9ecf1",
)  # fmt: skip
SIZE_INCHES, DPI = 3.6, 100


def animate(env: Any, states: Any, path: Path | str, *, frames: int = 200, fps: int = 20) -> None:
    """Writes an animated GIF. env: an environment, or a game of two. states: its states [T, ...], on the host or not.
    frames: the most there are; of a longer episode some steps are left out. Raises UserError where there are no
    pictures of the environment."""
    from PIL import Image

    paint, states = _painter(env), jax.tree.map(np.asarray, states)
    figure, axes = _figure(1, paint)
    pictures = []
    for at in _chosen(states, frames):
        _draw(axes[0], paint, states, at, env.name)
        figure.canvas.draw()
        picture = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")
        pictures.append(picture.quantize(64, dither=Image.Dither.NONE))
    # The last frame stays for a second, so that the end is seen.
    durations = [1000 // fps] * (len(pictures) - 1) + [1000]
    pictures[0].save(path, "GIF", save_all=True, append_images=pictures[1:], duration=durations, loop=0)


def strip(env: Any, states: Any, path: Path | str, frames: int = 8) -> None:
    """Writes a PNG of so many steps from the first to the last, evenly apart. Otherwise as `animate`."""
    paint, states = _painter(env), jax.tree.map(np.asarray, states)
    chosen = _chosen(states, frames)
    figure, axes = _figure(len(chosen), paint)
    for one, at in zip(axes, chosen, strict=True):
        _draw(one, paint, states, at, env.name if at == 0 else "")
    figure.savefig(path, dpi=DPI)


def _painter(env: Any) -> Callable[[Any, Any], str]:
    name = getattr(env, "name", "")
    if name not in PAINTERS:
        raise UserError("rl.show", f"there are no pictures of {name or env}", f"there are of {', '.join(PAINTERS)}")
    return PAINTERS[name]


def _chosen(states: Any, frames: int) -> list[int]:
    """At most that many steps, the first and the last among them."""
    count = len(jax.tree.leaves(states)[0])
    return sorted({int(at) for at in np.linspace(0, count - 1, min(frames, count)).round()})


def _figure(count: int, paint: Callable) -> tuple[Any, list[Any]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    (left, right), (low, high) = _VIEWS[paint]
    height = SIZE_INCHES * (high - low) / (right - left) + 0.35  # of the title
    figure = Figure(figsize=(SIZE_INCHES * count, height), facecolor="white")
    FigureCanvasAgg(figure)
    top = 1 - 0.35 / height
    places = [(one / count + 0.012 / count, 0.01, 0.976 / count, top - 0.02) for one in range(count)]
    return figure, [figure.add_axes(place) for place in places]


def _draw(axes: Any, paint: Callable, states: Any, at: int, name: str) -> None:
    axes.clear()
    axes.set_axis_off()
    (left, right), (low, high) = _VIEWS[paint]
    axes.set(xlim=(left, right), ylim=(low, high), aspect="equal")
    note = paint(axes, jax.tree.map(lambda x: x[at], states))
    axes.set_title(name, loc="left", fontsize=11, color=GREY)
    axes.set_title(f"step {at}" + (f" · {note}" if note else ""), loc="right", fontsize=11, color=DARK)


# --- one state each; what is returned is said beside the step --------------------------------------------------------


def _cartpole(axes: Any, state: Any) -> str:
    from matplotlib.patches import Circle, FancyBboxPatch

    x, angle = float(state.x), float(state.theta)
    axes.plot([-2.9, 2.9], [-0.16, -0.16], color=GREY, linewidth=2)
    for end in (-2.4, 2.4):  # the episode ends beyond
        axes.plot([end, end], [-0.3, 0.1], color=RED, linewidth=2)
    for side in (-0.15, 0.15):
        axes.add_patch(Circle((x + side, -0.09), 0.07, color=DARK))
    box = FancyBboxPatch((x - 0.28, -0.05), 0.56, 0.2, boxstyle="round,pad=0,rounding_size=0.05", color=BLUE)
    axes.add_patch(box)
    tip = x + np.sin(angle), 0.15 + np.cos(angle)
    axes.plot([x, tip[0]], [0.15, tip[1]], color=ORANGE, linewidth=6, solid_capstyle="round")
    axes.add_patch(Circle((x, 0.15), 0.05, color=DARK))
    return ""


def _height(x: Any) -> Any:
    return 0.45 * np.sin(3 * x) + 0.55


def _mountain_car(axes: Any, state: Any) -> str:
    from matplotlib.patches import Circle, Polygon

    ground = np.linspace(-1.25, 0.65, 200)
    axes.fill_between(ground, _height(ground), -0.2, color=PALE)
    axes.plot(ground, _height(ground), color=GREY, linewidth=2)
    axes.plot([0.5, 0.5], [_height(0.5), _height(0.5) + 0.2], color=DARK, linewidth=2)
    top = _height(0.5) + 0.2
    axes.add_patch(Polygon([(0.5, top), (0.6, top - 0.04), (0.5, top - 0.08)], color=GREEN))
    x = float(state.position)
    slope = np.arctan(1.35 * np.cos(3 * x))
    along, up = np.array([np.cos(slope), np.sin(slope)]), np.array([-np.sin(slope), np.cos(slope)])
    foot = np.array([x, _height(x)])
    corners = [(-0.07, 0.03), (0.07, 0.03), (0.055, 0.075), (0.02, 0.11), (-0.045, 0.11), (-0.07, 0.075)]
    axes.add_patch(Polygon([foot + a * along + b * up for a, b in corners], color=BLUE, zorder=3))
    for side in (-0.042, 0.042):
        wheel_x, wheel_y = foot + side * along + 0.026 * up
        axes.add_patch(Circle((wheel_x, wheel_y), 0.026, color=DARK, zorder=4))
    return ""


def _links(axes: Any, points: list[tuple[float, float]], colours: tuple[str, ...]) -> None:
    """Bars from point to point, with a joint where each begins."""
    from matplotlib.patches import Circle

    for (start, end), colour in zip(zip(points, points[1:], strict=False), colours, strict=True):
        axes.plot(*zip(start, end, strict=True), color=colour, linewidth=8, solid_capstyle="round", zorder=2)
    for point in points[:-1]:
        axes.add_patch(Circle(point, 0.07, color=DARK, zorder=3))


def _acrobot(axes: Any, state: Any) -> str:
    one, both = float(state.joint_angle1), float(state.joint_angle1 + state.joint_angle2)
    elbow = np.sin(one), -np.cos(one)
    tip = elbow[0] + np.sin(both), elbow[1] - np.cos(both)
    axes.plot([-2.2, 2.2], [1, 1], color=GREEN, linewidth=2, linestyle=(0, (4, 3)))
    axes.text(-2.2, 1.06, "goal", color=GREEN, fontsize=9, va="bottom")
    _links(axes, [(0.0, 0.0), elbow, tip], (BLUE, ORANGE))
    return "goal" if tip[1] > 1 else ""


def _pendulum(axes: Any, state: Any) -> str:
    angle, torque = float(state.theta), float(state.last_u)  # from upright, against the clock
    axes.plot([0, 0], [0, 1.15], color=GREEN, linewidth=2, linestyle=(0, (4, 3)))
    _links(axes, [(0.0, 0.0), (-np.sin(angle), np.cos(angle))], (BLUE,))
    axes.plot([-0.5, 0.5], [-1.2, -1.2], color=PALE, linewidth=6, solid_capstyle="round")
    axes.plot([0, -0.25 * torque], [-1.2, -1.2], color=ORANGE, linewidth=6, solid_capstyle="round")
    axes.text(-0.62, -1.2, "torque", color=GREY, fontsize=9, va="center", ha="right")
    return ""


def _reacher(axes: Any, state: Any) -> str:
    from matplotlib.patches import Circle

    first, second = (float(angle) for angle in state.angles)  # each from the x axis
    elbow = np.cos(first), np.sin(first)
    tip = elbow[0] + np.cos(second), elbow[1] + np.sin(second)
    goal = float(state.goal_xy[0]), float(state.goal_xy[1])
    axes.add_patch(Circle((0, 0), 2, facecolor=PALE, edgecolor="none"))  # what can be reached
    axes.add_patch(Circle(goal, 0.16, facecolor="none", edgecolor=GREEN, linewidth=2.5, zorder=3))
    axes.add_patch(Circle(goal, 0.05, color=GREEN, zorder=3))
    _links(axes, [(0.0, 0.0), elbow, tip], (BLUE, ORANGE))
    return f"{np.hypot(tip[0] - goal[0], tip[1] - goal[1]):.2f} away"


def _sides(state: Any) -> tuple[dict[int, str], str]:
    """Stone -> colour, player 0 in blue; how it ended for that player."""
    mover, stone = int(state.current_player), int(state._x.color)
    mine = stone if mover == 0 else 1 - stone
    result = int(state.rewards[0])
    ended = ("drawn", "won", "lost")[result] if state.terminated else ""
    return {mine: BLUE, 1 - mine: ORANGE}, ended


def _rows_of(board: np.ndarray, length: int) -> Iterator[list[tuple[int, int]]]:
    """Cells (row, column) of each row of that many stones of one side."""
    height, width = board.shape
    for row, column in np.ndindex(height, width):
        for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
            cells = [(row + k * down, column + k * right) for k in range(length)]
            inside = all(0 <= y < height and 0 <= x < width for y, x in cells)
            if inside and board[cells[0]] >= 0 and all(board[cell] == board[cells[0]] for cell in cells):
                yield cells


def _tic_tac_toe(axes: Any, state: Any) -> str:
    from matplotlib.patches import Circle

    board, (colours, ended) = np.asarray(state._x.board).reshape(3, 3), _sides(state)
    for at in (1, 2):
        axes.plot([at, at], [0.08, 2.92], color=GREY, linewidth=2.5, solid_capstyle="round")
        axes.plot([0.08, 2.92], [at, at], color=GREY, linewidth=2.5, solid_capstyle="round")
    for row, column in np.ndindex(3, 3):
        stone, x, y = int(board[row, column]), column + 0.5, 2.5 - row
        if stone == 0:  # who begins has X
            for rise in (-0.27, 0.27):
                axes.plot([x - 0.27, x + 0.27], [y - rise, y + rise], color=colours[0], linewidth=6)
        elif stone == 1:
            axes.add_patch(Circle((x, y), 0.29, facecolor="none", edgecolor=colours[1], linewidth=6))
    for cells in _rows_of(board, 3):
        ends = [(column + 0.5, 2.5 - row) for row, column in (cells[0], cells[-1])]
        axes.plot(*zip(*ends, strict=True), color=DARK, linewidth=3, alpha=0.7, solid_capstyle="round")
    return ended


def _connect_four(axes: Any, state: Any) -> str:
    from matplotlib.patches import Circle, FancyBboxPatch

    board, (colours, ended) = np.asarray(state._x.board).reshape(6, 7), _sides(state)
    corners = "round,pad=0,rounding_size=0.25"
    axes.add_patch(FancyBboxPatch((0, 0), 7, 6, boxstyle=corners, facecolor=PALE, edgecolor=GREY, linewidth=1.5))
    for row, column in np.ndindex(6, 7):
        colour = colours.get(int(board[row, column]), "white")
        axes.add_patch(Circle((column + 0.5, 5.5 - row), 0.39, facecolor=colour, edgecolor=GREY, linewidth=1))
    for cells in _rows_of(board, 4):
        for row, column in cells:
            axes.add_patch(Circle((column + 0.5, 5.5 - row), 0.16, color="white"))
    return ended


def _gridworld(axes: Any, state: Any) -> str:
    from matplotlib.patches import Circle, Rectangle

    looks = {"+": ("#cfe8d7", GREEN, "+1"), "-": ("#f3d3d0", RED, "−1"), "s": ("white", GREY, "start")}
    for row, line in enumerate(grid.MAP):
        for column, kind in enumerate(line):
            face, colour, label = looks.get(kind, (GREY if kind == "#" else "white", GREY, ""))
            corner = column, len(grid.MAP) - 1 - row
            axes.add_patch(Rectangle(corner, 1, 1, facecolor=face, edgecolor=GREY, linewidth=1.5))
            axes.text(corner[0] + 0.08, corner[1] + 0.9, label, color=colour, fontsize=10, va="top")
    row, column = grid.CELLS[int(state.index)]
    axes.add_patch(Circle((column + 0.5, len(grid.MAP) - 0.5 - row), 0.24, color=BLUE))
    return {"+": "goal", "-": "pit"}.get(grid.KINDS[int(state.index)], "")


PAINTERS: dict[str, Callable[[Any, Any], str]] = {
    "cartpole": _cartpole,
    "mountain_car": _mountain_car,
    "acrobot": _acrobot,
    "pendulum": _pendulum,
    "reacher": _reacher,
    "tic_tac_toe": _tic_tac_toe,
    "connect_four": _connect_four,
    "gridworld": _gridworld,
}
_VIEWS = {
    _cartpole: ((-3, 3), (-0.5, 1.4)),
    _mountain_car: ((-1.25, 0.65), (-0.05, 1.3)),
    _acrobot: ((-2.3, 2.3), (-2.2, 2.2)),
    _pendulum: ((-1.4, 1.4), (-1.35, 1.25)),
    _reacher: ((-2.3, 2.3), (-2.3, 2.3)),
    _tic_tac_toe: ((-0.05, 3.05), (-0.05, 3.05)),
    _connect_four: ((-0.15, 7.15), (-0.15, 6.15)),
    _gridworld: ((-0.06, 4.06), (-0.06, 3.06)),
}
"""What is in view: x from, to; y from, to. Pictures have its proportions."""
