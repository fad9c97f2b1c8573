"""A Markov decision process small enough to be solved exactly: the 4 x 3 world of Russell and Norvig.

    . . . +     +  goal, +1        Artificial Intelligence: A Modern Approach, 4th edition, figure 17.1. A move goes
    . # . -     -  pit, -1         where it is meant to with probability 0.8, and to either side of that with 0.1; where
    s . . .     s  start           there is a wall, one stays. Each move costs 0.04, unless it ends in goal or pit.

The book prints what the states are worth (figure 17.3); the best return from the start is 0.7453.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxft import draws
from jaxft.errors import UserError
from jaxft.rl.env import Discrete, Outcome

NAMES = {"gridworld": "a slippery way to a goal past a pit, 11 states; solved exactly"}

MAP = ("...+", ".#.-", "s...")
MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))
"""(rows, columns) of the actions: up, right, down, left."""
MAX_STEPS = 100
MAX_SWEEPS = 100_000


def make(name: str, slip: float = 0.2, cost: float = 0.04) -> Gridworld:
    """slip: probability that a move goes to a side, half of it to either. cost: of a move."""
    if not 0 <= slip <= 1:
        raise UserError("rl.env", f"slip is {slip}, which is no probability", "0 to 1")
    # The best return is 0.7453; 0.7 leaves room for the mean of 100 episodes, whose standard error is about 0.03.
    threshold = 0.7 if (slip, cost) == (0.2, 0.04) else None
    return Gridworld(name, Discrete(len(MOVES)), threshold, MAX_STEPS, slip, cost)


class State(NamedTuple):
    """index: i32 [], of `CELLS`. time: i32 [], steps taken."""

    index: Array
    time: Array


CELLS = tuple((row, column) for row, line in enumerate(MAP) for column, cell in enumerate(line) if cell != "#")
"""State -> (row, column), from the top."""
KINDS = tuple(MAP[row][column] for row, column in CELLS)
START = KINDS.index("s")


@dataclass(frozen=True)
class Gridworld:
    """Observation: f32 [S], 1 at the state. Goal and pit end the episode, and are never left."""

    name: str
    actions: Discrete
    threshold: float | None
    max_steps: int
    slip: float
    cost: float

    @property
    def num_states(self) -> int:
        return len(CELLS)

    @property
    def P(self) -> np.ndarray:
        """f64 [S, A, S]: probability of the next state."""
        return _model(self.slip, self.cost)[0]

    @property
    def R(self) -> np.ndarray:
        """f64 [S, A]: mean reward of an action."""
        return _model(self.slip, self.cost)[1]

    def reset(self, key: Array) -> tuple[State, Array]:
        """Always the same state; the key is not used."""
        state = State(jnp.int32(START), jnp.int32(0))
        return state, self._observe(state)

    def step(self, state: State, action: Array, key: Array) -> Outcome:
        below = jnp.asarray(_cumulative(self.slip, self.cost))[state.index, action]
        number = draws.uniform(jax.random.key_data(key), 1)
        index = jnp.sum(number >= below, dtype=jnp.int32)  # the inverse of the distribution function
        was_over = jnp.asarray(_ENDS)[state.index]
        reward = jnp.where(was_over, 0.0, jnp.asarray(_arrivals(self.cost), jnp.float32)[index])
        after = State(index, state.time + 1)
        return Outcome(after, self._observe(after), reward, jnp.asarray(_ENDS)[index], after.time >= self.max_steps)

    def _observe(self, state: State) -> Array:
        return (jnp.arange(len(CELLS)) == state.index).astype(jnp.float32)


_ENDS = np.array([kind in "+-" for kind in KINDS])


def _arrivals(cost: float) -> np.ndarray:
    """f64 [S]: reward of coming to a state."""
    return np.array([{"+": 1.0, "-": -1.0}.get(kind, -cost) for kind in KINDS])


@cache
def _model(slip: float, cost: float) -> tuple[np.ndarray, np.ndarray]:
    """P [S, A, S] and R [S, A], read only."""
    number = {cell: index for index, cell in enumerate(CELLS)}
    chances = np.zeros((len(CELLS), len(MOVES), len(CELLS)))
    for index, (row, column) in enumerate(CELLS):
        for action in range(len(MOVES)):
            if _ENDS[index]:
                chances[index, action, index] = 1.0
                continue
            for turn, chance in ((0, 1 - slip), (1, slip / 2), (-1, slip / 2)):
                down, right = MOVES[(action + turn) % len(MOVES)]
                chances[index, action, number.get((row + down, column + right), index)] += chance
    rewards = np.where(_ENDS[:, None], 0.0, chances @ _arrivals(cost))
    for array in (chances, rewards):
        array.setflags(write=False)
    return chances, rewards


@cache
def _cumulative(slip: float, cost: float) -> np.ndarray:
    """f32 [S, A, S]: probability of a state up to this one. The last is 1, so that a number below 1 finds one; where
    nothing is added, no number does."""
    below = np.cumsum(_model(slip, cost)[0], axis=-1)
    below[below > 1 - 1e-12] = 1.0
    return below.astype(np.float32)


def value_iteration(P: np.ndarray, R: np.ndarray, discount: float, tolerance: float) -> np.ndarray:
    """Q f64 [S, A] with |Q - (R + discount P max Q)| <= tolerance everywhere. P: [S, A, S]; R: [S, A].

    Bellman's operator again and again, from 0 (Sutton and Barto, 2nd edition, section 4.4). Without a discount it ends
    where every policy does. Raises UserError where it has not come to an end.
    """
    Q = np.zeros(R.shape)
    for _ in range(MAX_SWEEPS):
        after = R + discount * (P @ Q.max(axis=1))
        change = np.abs(after - Q).max()
        if change <= tolerance:
            return Q
        Q = after
    raise UserError("value_iteration", f"no fixed point: Q changes by {change:.3g} a sweep", "a discount below 1")
