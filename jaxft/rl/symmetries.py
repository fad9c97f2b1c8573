"""Symmetries of boards: what a position and its moves become when the board is mirrored or turned.

A symmetry is a pair of index arrays, (of the flattened observation, of the actions): `observation[at]` is the position
seen through it, `weights[at]` what its moves become. The first is the identity.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Map = Callable[[np.ndarray], np.ndarray]
"""An array of cells [height, width, ...] -> the same, mirrored or turned."""

MIRROR: tuple[Map, ...] = (lambda x: x, lambda x: x[:, ::-1])
SQUARE: tuple[Map, ...] = tuple(
    lambda x, turns=turns, flipped=flipped: np.rot90(x[:, ::-1] if flipped else x, turns)
    for flipped in (False, True)
    for turns in range(4)
)
"""The eight of a square."""


class Symmetries(NamedTuple):
    """observations: int32 [K, size of an observation]; actions: int32 [K, A]."""

    observations: np.ndarray
    actions: np.ndarray


def of(name: str, shape: tuple[int, ...], num_actions: int) -> Symmetries:
    """Those of a game, by its name, with observations [height, width, planes]; of others the identity alone."""
    if name == "tic_tac_toe":  # an action is a cell
        return _made(SQUARE, shape, np.arange(num_actions).reshape(shape[:2]))
    if name == "connect_four":  # an action is a column
        return _made(MIRROR, shape, np.arange(num_actions)[None])
    return _made(MIRROR[:1], shape, np.arange(num_actions)[None])


def _made(maps: tuple[Map, ...], shape: tuple[int, ...], actions: np.ndarray) -> Symmetries:
    cells = np.arange(int(np.prod(shape))).reshape(shape)
    both = [(one(cells).reshape(-1), one(actions).reshape(-1)) for one in maps]
    return Symmetries(*(np.stack(x).astype(np.int32) for x in zip(*both, strict=True)))
