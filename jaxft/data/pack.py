"""Packing: several examples share a row, so that hardly any computed token is padding.

    tokens     [CLS] a b [SEP] [CLS] c [SEP] [PAD]
    segments     1   1 1   1     2   2   2     0       which example of the row a token belongs to; 0 is padding
    positions    0   1 2   3     0   1   2     0       counted inside the example
    firsts     [0, 4, 0, ...]                          where each of the row's S segments starts (0 where absent)

Rows have static shapes, a few of them, planned from the data before the first compile. Placement is first-fit
decreasing (Johnson 1973): deterministic, and a function of the lengths alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from jaxft.data.encode import Encoded

WIDTHS = (32, 64, 128, 256, 512)
_ATTENTION_WIDTH = 640
"""A token of a row of L costs 1 + L / 640: attention grows with L, the rest does not."""
_TOKENS_A_SEGMENT = 4
"""A row of L tokens has room for L / 4 segments."""


class Shape(NamedTuple):
    """B rows of L tokens, at most S segments each."""

    rows: int
    tokens: int
    segments: int


class Placement(NamedTuple):
    """Where each of P pieces goes: row, first token, segment number from 1; int64 [P] each."""

    row: np.ndarray
    start: np.ndarray
    segment: np.ndarray

    @property
    def num_rows(self) -> int:
        return int(self.row.max()) + 1 if len(self.row) else 0


def max_segments(tokens: int) -> int:
    """Segments that a row of so many tokens has room for."""
    return max(1, tokens // _TOKENS_A_SEGMENT)


def place(lengths: np.ndarray, width: int, *, packing: bool = True) -> Placement:
    """First-fit decreasing into rows of `width` tokens; `packing=False` gives each piece its own row."""
    row, start, segment = (np.zeros(len(lengths), np.int64) for _ in range(3))
    if not packing:
        return Placement(np.arange(len(lengths)), start, segment + 1)
    room: list[int] = []
    held: list[int] = []
    for piece in np.argsort(-lengths, kind="stable"):
        length = int(lengths[piece])
        for at in range(len(room)):
            if room[at] >= length and held[at] < max_segments(width):
                break
        else:
            at = len(room)
            room.append(width)
            held.append(0)
        row[piece], start[piece] = at, width - room[at]
        room[at] -= length
        held[at] += 1
        segment[piece] = held[at]
    return Placement(row, start, segment)


def width_for(longest: int, widths: Iterable[int]) -> int:
    """The narrowest of `widths` that holds `longest` tokens."""
    fitting = [width for width in widths if width >= longest]
    if not fitting:
        raise ValueError(f"no row width of {tuple(widths)} holds {longest} tokens")
    return min(fitting)


def widths_for(max_tokens: int, longest: int) -> tuple[int, ...]:
    """Row widths worth having for texts of at most `longest` tokens, cut at `max_tokens`."""
    needed = min(longest, max_tokens)
    return tuple(width for width in WIDTHS if width < needed) + (width_for(needed, WIDTHS),)


def plan(needs: np.ndarray, widths: tuple[int, ...], shape_cost: float) -> tuple[Shape, ...]:
    """The shapes that cost the fewest tokens: padding, and `shape_cost` tokens a shape for compiling it.

    needs: int [steps, W], the rows that each step needs at each of `widths` (ascending), 0 where it has a longer
    example. Tries every set of widths that keeps the widest; a step takes the narrowest width that holds it.
    """
    best: tuple[float, tuple[Shape, ...]] | None = None
    for chosen in range(2 ** (len(widths) - 1)):
        columns = [at for at in range(len(widths)) if at == len(widths) - 1 or chosen >> at & 1]
        left, cost, shapes = np.ones(len(needs), bool), 0.0, []
        for at in columns:
            mine = left & (needs[:, at] > 0)
            left &= ~mine
            row_cost = widths[at] * (1 + widths[at] / _ATTENTION_WIDTH)
            levels, waste = _levels(needs[mine, at], shape_cost / row_cost)
            cost += (waste + needs[mine, at].sum()) * row_cost
            shapes += [Shape(rows, widths[at], max_segments(widths[at])) for rows in levels]
        if best is None or cost < best[0]:
            best = (cost, tuple(shapes))
    assert best is not None  # one set at least: the widest alone
    return best[1]


def _levels(rows: np.ndarray, level_cost: float) -> tuple[list[int], float]:
    """Row counts, the largest among them, that minimise sum of (level - rows) + level_cost · levels; and that minimum.

    Dynamic programming over the distinct row counts: the cheapest way to cover the `end` smallest ones.
    """
    values, times = np.unique(rows, return_counts=True)
    best, before = np.zeros(len(values) + 1), np.zeros(len(values) + 1, np.int64)
    for end in range(1, len(values) + 1):
        padding = (values[end - 1] - values[:end]) * times[:end]
        cost = best[:end] + padding[::-1].cumsum()[::-1] + level_cost
        before[end] = int(np.argmin(cost))
        best[end] = cost[before[end]]
    levels, end = [], len(values)
    while end:
        levels.append(int(values[end - 1]))
        end = int(before[end])
    return sorted(levels), float(best[-1])


def choose(shapes: Iterable[Shape], width: int, rows: int) -> Shape:
    """The planned shape of that width with least padding, or one made for it if none is large enough."""
    fitting = [shape for shape in shapes if shape.tokens == width and shape.rows >= rows]
    return min(fitting, default=Shape(rows, width, max_segments(width)))


def fill(encoded: Encoded, pieces: np.ndarray, placement: Placement, shape: Shape) -> dict[str, np.ndarray]:
    """The arrays of a batch, [B, L] each: tokens, types, positions, segments (int32), example, occurrence (uint32),
    source (int64: index into `encoded`'s flat tokens, -1 for padding); and firsts, pieces (int32 [B, S], pieces -1
    where there is none)."""
    lengths = encoded.piece_lengths[pieces]
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    source = np.repeat(encoded.offsets[pieces], lengths) + within
    target = np.repeat(placement.row * shape.tokens + placement.start, lengths) + within

    def spread(values: np.ndarray, dtype: type, empty: int = 0) -> np.ndarray:
        flat = np.full(shape.rows * shape.tokens, empty, dtype)
        flat[target] = values
        return flat.reshape(shape.rows, shape.tokens)

    firsts = np.zeros((shape.rows, shape.segments), np.int32)
    held = np.full((shape.rows, shape.segments), -1, np.int32)
    firsts[placement.row, placement.segment - 1] = placement.start
    held[placement.row, placement.segment - 1] = pieces
    return {
        "tokens": spread(encoded.tokens[source], np.int32),
        "types": spread(encoded.types[source], np.int32),
        "positions": spread(within, np.int32),
        "segments": spread(np.repeat(placement.segment, lengths), np.int32),
        "example": spread(np.repeat(encoded.example[pieces], lengths), np.uint32),
        "occurrence": spread(np.repeat(encoded.window[pieces], lengths), np.uint32),
        "source": spread(source, np.int64, -1),
        "firsts": firsts,
        "pieces": held,
    }
