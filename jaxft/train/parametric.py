"""One optimiser for all strategies: what a strategy sets is data, so that a change of it compiles nothing.

    m <- b1·m + (1 - b1)·g      v <- b2·v + (1 - b2)·g²      each bias-corrected by the leaf's own number of updates
    adamw  u = m / (sqrt(v) + eps)          sgd  u = m
    p <- p - lr·u - lr·weight_decay·p       (decay not of biases and LayerNorm)

Adam's moments (Kingma and Ba 2015) are kept under either, so a run may change from one to the other and back; sgd is
the same step without the division. A layer that a segment freezes keeps its moments and its count.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jaxft.recipe import Optim, Recipe
from jaxft.strategy import Strategy
from jaxft.train import optim as optims
from jaxft.train.optim import NO_DECAY
from jaxft.train.partition import LAYERS, Flat, Partition


class Hyper(NamedTuple):
    """What a strategy sets, f32 [] each. learning_rate: factor of the schedule's. adaptive: 1 for adamw, 0 for sgd."""

    learning_rate: Array | np.ndarray
    adaptive: Array | np.ndarray
    weight_decay: Array | np.ndarray
    label_smoothing: Array | np.ndarray


def hyper(recipe: Recipe, strategy: Strategy) -> Hyper:
    """The numbers of a strategy, on the host."""
    values = (
        strategy.learning_rate,
        float((strategy.optimizer or recipe.optim.name) == "adamw"),
        _or(strategy.weight_decay, recipe.optim.weight_decay),
        _or(strategy.label_smoothing, recipe.train.label_smoothing),
    )
    return Hyper(*(np.asarray(value, np.float32) for value in values))


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


class Moments(NamedTuple):
    """Of each trainable leaf: first and second moment; updates: int32 [N] of stacked layers, [] of others."""

    first: Flat
    second: Flat
    updates: Flat


class Window:
    """Which part of the trainable parameters a segment moves. whole: of the run. within: of the segment, which freezes
    as many layers or more."""

    def __init__(self, whole: Partition, within: Partition) -> None:
        self._whole, self._within = whole, within
        self._cut = within.frozen_layers - whole.frozen_layers

    def moving(self, flat: Flat) -> Flat:
        """The part that moves of leaves by path."""
        return {
            path: leaf[self._cut :] if path[:2] == LAYERS else leaf
            for path, leaf in flat.items()
            if path not in self._within.frozen and not self._is_gone(path, leaf)
        }

    def back(self, flat: Flat, moving: Flat) -> Flat:
        """All leaves, with the moving part as given."""

        def one(path: tuple[str, ...], leaf: Array) -> Array:
            if path not in moving:
                return leaf
            new = moving[path]
            return new if new.shape == leaf.shape else jnp.concatenate([leaf[: self._cut], new])

        return {path: one(path, leaf) for path, leaf in flat.items()}

    def params(self, moving: Flat, trainable: Flat, frozen: Flat) -> dict[str, Any]:
        """The tree that `Bert(frozen_layers=...)` of the segment takes; only `moving` is differentiated."""
        held = {path: leaf for path, leaf in {**frozen, **trainable}.items() if path not in moving}
        if self._cut:
            for path, leaf in trainable.items():
                if path[:2] == LAYERS:
                    at = ("encoder", "frozen", *path[2:])
                    below = leaf[: self._cut]
                    held[at] = jnp.concatenate([frozen[at], below]) if at in frozen else below
                    held.pop(path, None)
        return self._within.join(moving, held)

    def _is_gone(self, path: tuple[str, ...], leaf: Any) -> bool:
        return path[:2] == LAYERS and leaf.shape[0] == self._cut


class Parametric:
    """The optimiser of a recipe with segments. schedule: learning rate by step."""

    def __init__(self, optim: Optim, num_steps: int) -> None:
        self._optim, self._schedule = optim, optims.schedule(optim, num_steps)

    def init(self, trainable: Flat) -> Moments:
        """Nothing seen yet."""
        zeros = jax.tree.map(jnp.zeros_like, trainable)
        updates = {
            path: jnp.zeros(leaf.shape[:1] if path[:2] == LAYERS else (), jnp.int32) for path, leaf in trainable.items()
        }
        return Moments(zeros, jax.tree.map(jnp.copy, zeros), updates)

    def update(
        self, gradient: Flat, moments: Moments, params: Flat, step: Array, chosen: Hyper
    ) -> tuple[Flat, Moments]:
        """(parameters, moments) of the leaves in `gradient`; moments, params: of the same leaves."""
        optim = self._optim
        if optim.clip_norm is not None:
            norm = optax.tree.norm(gradient)
            scale = jnp.where(norm > optim.clip_norm, optim.clip_norm / norm, 1.0)
            gradient = jax.tree.map(lambda g: g * scale, gradient)
        rate = jnp.asarray(self._schedule(step), jnp.float32) * chosen.learning_rate
        first = jax.tree.map(lambda g, m: (1 - optim.b1) * g + optim.b1 * m, gradient, moments.first)
        second = jax.tree.map(lambda g, v: (1 - optim.b2) * (g * g) + optim.b2 * v, gradient, moments.second)
        updates = jax.tree.map(lambda count: count + 1, moments.updates)

        def moved(path: tuple[str, ...]) -> Array:
            old, count = params[path], updates[path].astype(jnp.float32)
            wide = count.reshape(count.shape + (1,) * (old.ndim - count.ndim))
            mean = first[path] / (1 - optim.b1**wide)
            size = jnp.sqrt(second[path] / (1 - optim.b2**wide)) + optim.eps
            change = mean / jnp.where(chosen.adaptive > 0, size, 1.0)
            if path[-1] not in NO_DECAY:
                change = change + chosen.weight_decay * old
            return old - rate * change

        return {path: moved(path) for path in gradient}, Moments(first, second, updates)
