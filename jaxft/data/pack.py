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
FINE_WIDTHS = tuple(sorted({*WIDTHS, 48, 80, 96, 112, 192, 384}))
"""For plans on a CPU. Elsewhere widths are those of the hardware's tiles, or halves of them."""
_ATTENTION_WIDTH = 640
"""A token of a row of L costs 1 + L / 640: attention grows with L, the rest does not."""
_TOKENS_A_SEGMENT = 4
"""A row of L tokens has room for L / 4 segments."""
_MOST_CANDIDATES = 32
"""Numbers of rows that a plan looks at for each width."""


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


def widths_for(max_tokens: int, longest: int, among: tuple[int, ...] = WIDTHS) -> tuple[int, ...]:
    """Row widths worth having for texts of at most `longest` tokens, cut at `max_tokens`."""
    needed = min(longest, max_tokens)
    return tuple(width for width in among if width < needed) + (width_for(needed, among),)


def plan(needs: np.ndarray, widths: tuple[int, ...], shape_cost: float) -> tuple[Shape, ...]:
    """Shapes that cost few tokens: those that steps compute, padding too, and `shape_cost` tokens for each shape.

    needs: int [steps, W], the rows that each step needs at each of `widths` (ascending), 0 where it has a longer
    example; the widest holds every step. A step takes the cheapest shape that holds it. Where to build so as to serve
    all is the problem of facility location; here shapes are added as long as that pays, the best one first, after each
    those there are may be exchanged, one by one, and in the end those that do not pay go.
    """
    candidates = [shape for column, width in enumerate(widths) for shape in _candidates(needs[:, column], width)]
    columns = np.array([widths.index(shape.tokens) for shape in candidates])
    rows = np.array([shape.rows for shape in candidates])
    holds = (needs[:, columns] > 0) & (needs[:, columns] <= rows)
    costs = np.where(holds, [row_cost(shape) for shape in candidates], np.inf)
    price = shape_cost * _ATTENTION_WIDTH
    chosen = [int(np.argmin(costs.sum(0)))]  # one that holds every step: the widest with most rows does
    while True:
        now = costs[:, chosen].min(1)
        total, added = _best(now, costs)
        if now.sum() - total <= price:
            return tuple(sorted(candidates[at] for at in _paying(chosen, costs, price)))
        chosen = _exchanged([*chosen, added], costs)


def row_cost(shape: Shape) -> int:
    """What computing all rows of a shape costs, in 640ths of a token in a very short row: a whole number, so that sums
    do not hang on their order."""
    return shape.rows * shape.tokens * (_ATTENTION_WIDTH + shape.tokens)


def _candidates(rows: np.ndarray, width: int) -> list[Shape]:
    """Shapes of that width for the numbers of rows that steps need: each, or, of many, evenly spaced ones."""
    counts = np.unique(rows[rows > 0])
    kept = counts[np.linspace(0, len(counts) - 1, min(len(counts), _MOST_CANDIDATES)).round().astype(int)]
    return [Shape(int(count), width, max_segments(width)) for count in kept]


def _best(now: np.ndarray, costs: np.ndarray) -> tuple[float, int]:
    """The candidate that, beside what costs each step `now`, makes all together cheapest; and that sum."""
    totals = np.minimum(now[:, None], costs).sum(0)
    return float(totals.min()), int(np.argmin(totals))


def _exchanged(chosen: list[int], costs: np.ndarray) -> list[int]:
    """The same number of candidates, none of which could give way to another at a gain."""
    while True:
        total = costs[:, chosen].min(1).sum()
        for at in range(len(chosen)):
            others = chosen[:at] + chosen[at + 1 :]
            now = costs[:, others].min(1) if others else np.full(len(costs), np.inf)
            found, other = _best(now, costs)
            if found < total:
                total, chosen = found, [*others, other]
                break
        else:
            return chosen


def _paying(chosen: list[int], costs: np.ndarray, price: float) -> list[int]:
    """Those without which steps would cost more than `price` more."""
    while len(chosen) > 1:
        total = costs[:, chosen].min(1).sum()
        others = [chosen[:at] + chosen[at + 1 :] for at in range(len(chosen))]
        best = min(others, key=lambda rest: costs[:, rest].min(1).sum())
        if costs[:, best].min(1).sum() - total > price:
            return chosen
        chosen = best
    return chosen


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
