"""What the rest of a schedule can be expected to bring: a Bayesian linear model of what a segment adds to the score.

    gain / s[depth] = w1[depth, action] + w2[action before, action] + u · (w3[action] + w4[depth])
    u = (gained so far - c[depth]) / s[depth]

Gains shrink as a run goes on, so each depth has a scale s of its own, the root mean square of its gains, and a centre
c, the mean of what had been gained before them: nothing hangs on the metric's unit. Weights have a normal prior, gains
normal noise. The prior of w4 has the mean -1/2: of what a schedule is behind, the next segment makes up half, for
learning curves flatten. A draw of the weights is a world that could be (Thompson sampling, Russo et al. 2018);
`returns` plays on in it, by beam search, from every node of a tree at once.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxft import draws

BEAM = 8
WEIGHT = {"action": 1.0, "depth": 1.0, "both": 0.5, "pair": 0.5, "slope": 0.5, "slope_by_depth": 0.5}
"""What the features of a kind are worth: the deviation of their weights in the prior, relative to others."""
CATCHES_UP = 0.5
"""The share of what a schedule is behind that a segment makes up, by the prior's mean."""


class Shape(NamedTuple):
    """num_actions: A. depth: segments of a schedule."""

    num_actions: int
    depth: int

    @property
    def sizes(self) -> dict[str, int]:
        """Number of weights of each kind, in order."""
        actions, depth = self.num_actions, self.depth
        return {
            "action": actions,
            "depth": depth,
            "both": depth * actions,
            "pair": (actions + 1) * actions,
            "slope": actions,
            "slope_by_depth": depth,
        }

    @property
    def size(self) -> int:
        """Number of weights."""
        return sum(self.sizes.values())

    @property
    def prior_mean(self) -> Array:
        """f [size]: of the weights."""
        means = {"slope_by_depth": -CATCHES_UP / WEIGHT["slope_by_depth"]}
        return jnp.concatenate([jnp.full(size, means.get(name, 0.0)) for name, size in self.sizes.items()])

    def apart(self, weights: Array) -> dict[str, Array]:
        """Weights by kind."""
        ends = list(itertools.accumulate(self.sizes.values()))
        return {name: weights[end - size : end] for (name, size), end in zip(self.sizes.items(), ends, strict=True)}

    def features(self, depth: Array, before: Array, action: Array, ahead: Array) -> Array:
        """f [..., size] of a segment: its depth, the action before (A: none), its action, u. All [...]."""
        actions = self.num_actions
        places = {
            "action": action,
            "depth": depth,
            "both": depth * actions + action,
            "pair": before * actions + action,
            "slope": action,
            "slope_by_depth": depth,
        }
        hot = {name: jax.nn.one_hot(at, self.sizes[name]) for name, at in places.items()}
        parts = [WEIGHT[name] * (ahead[..., None] if "slope" in name else 1.0) * x for name, x in hot.items()]
        return jnp.concatenate(parts, axis=-1)


class Seen(NamedTuple):
    """Segments that were trained: rows [N] of which the first `count` hold. gained: the score before, less the root's;
    gain: what the segment added."""

    depth: Array
    before: Array
    action: Array
    gained: Array
    gain: Array
    count: Array


def nothing_seen(room: int) -> Seen:
    """No segments yet, with room for so many."""
    numbers = jnp.zeros(room, jnp.int32)
    return Seen(numbers, numbers, numbers, jnp.zeros(room), jnp.zeros(room), jnp.int32(0))


def add(seen: Seen, depth: Array, before: Array, action: Array, gained: Array, gain: Array) -> Seen:
    """With one more segment."""
    values = (depth, before, action, gained, gain)
    rows = [row.at[seen.count].set(value) for row, value in zip(seen[:-1], values, strict=True)]
    return Seen(*rows, count=seen.count + 1)


class Outlook(NamedTuple):
    """Weights f [size]; scale, center: f [D] of the module's formula."""

    weights: Array
    scale: Array
    center: Array


def draw(words: Array, shape: Shape, seen: Seen, *, prior: float, noise: float) -> Outlook:
    """A draw from the posterior; words: uint32 [2]. prior, noise: deviations in units of the scale."""
    scale, center = _units(shape, seen)
    ahead = (seen.gained - center[seen.depth]) / scale[seen.depth]
    held = (jnp.arange(seen.gain.shape[0]) < seen.count).astype(seen.gain.dtype)
    x = held[:, None] * shape.features(seen.depth, seen.before, seen.action, ahead)
    precision = x.T @ x / noise**2 + jnp.eye(shape.size) / prior**2
    moment = x.T @ (held * seen.gain / scale[seen.depth]) / noise**2 + shape.prior_mean / prior**2
    lower = jnp.linalg.cholesky(precision)
    mean = jax.scipy.linalg.cho_solve((lower, True), moment)
    away = jax.scipy.linalg.solve_triangular(lower.T, draws.normal(words, shape.size), lower=False)
    return Outlook(mean + away, scale, center)


def _units(shape: Shape, seen: Seen) -> tuple[Array, Array]:
    """(scale, center) f [D]. A depth that was not seen has the scale of the one before it."""
    held = jnp.arange(seen.gain.shape[0]) < seen.count
    of = jax.nn.one_hot(jnp.where(held, seen.depth, -1), shape.depth, axis=0)  # [D, N]
    count = jnp.sum(of, axis=-1)
    center = of @ jnp.where(held, seen.gained, 0.0) / jnp.maximum(count, 1.0)
    squares = of @ jnp.where(held, seen.gain, 0.0) ** 2 / jnp.maximum(count, 1.0)
    last, scales = jnp.ones(()), []
    for square in squares:
        last = jnp.where(square > 0, jnp.sqrt(square), last)
        scales.append(last)
    return jnp.stack(scales), center


def returns(outlook: Outlook, shape: Shape, depth: Array, before: Array, gained: Array) -> Array:
    """f [N, A]: what each action at each of N nodes brings from there to the end, if it goes on well.

    depth: segments so far; before: the last action (A: none); gained: so far. All [N]. A beam of 8 schedules goes on
    from each action.
    """
    actions = jnp.arange(shape.num_actions)
    count = depth.shape[0]
    start = _gain(outlook, shape, depth[:, None], before[:, None], actions[None], gained[:, None])  # [N, A]
    total = jnp.full((count, shape.num_actions, BEAM), -jnp.inf).at[..., 0].set(start)
    last = jnp.broadcast_to(actions[None, :, None], total.shape)
    for ahead in range(1, shape.depth):
        at = depth[:, None, None, None] + ahead
        going = at < shape.depth
        so_far = (gained[:, None, None] + total)[..., None]
        gain = _gain(outlook, shape, jnp.minimum(at, shape.depth - 1), last[..., None], actions, so_far)
        following = jnp.where(going, total[..., None] + gain, -jnp.inf)  # [N, A, W, A]
        flat = following.reshape(count, shape.num_actions, -1)
        best, where = jax.lax.top_k(flat, BEAM)
        on = jnp.broadcast_to(going[..., 0], best.shape)
        total, last = jnp.where(on, best, total), jnp.where(on, where % shape.num_actions, last)
    return jnp.max(total, axis=-1)


def _gain(outlook: Outlook, shape: Shape, depth: Array, before: Array, action: Array, gained: Array) -> Array:
    """Gains, whose arguments broadcast; -inf so far stays so."""
    kinds = {name: WEIGHT[name] * part for name, part in shape.apart(outlook.weights).items()}
    so_far = jnp.where(jnp.isfinite(gained), gained, 0.0)
    depth, before, action = jnp.broadcast_arrays(depth, before, action)
    both = kinds["both"].reshape(shape.depth, -1)[depth, action]
    pair = kinds["pair"].reshape(-1, shape.num_actions)[before, action]
    constant = (kinds["action"][action] + kinds["depth"][depth] + both + pair) * outlook.scale[depth]
    return constant + (so_far - outlook.center[depth]) * (kinds["slope"][action] + kinds["slope_by_depth"][depth])
