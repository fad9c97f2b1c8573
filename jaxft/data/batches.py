"""Batches: what a step or an evaluation feeds the device, made on the host from addresses alone.

A training step is `batch_size` examples cut into M micro-batches of equal shape, each packed on its own; a batch of it
has arrays [M, B, L]. Evaluation packs pieces of like length together, whichever example they belong to: arrays [B, L].
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from jaxft.data import pack
from jaxft.data.encode import Encoded
from jaxft.data.order import Order

_PLANNED_STEPS = 1024
"""Shapes are planned from at most so many steps of a run."""
_HOST_ONLY = ("source", "pieces")
_KEPT_EPOCHS = 2


@dataclass(frozen=True)
class Dataset:
    """Tokens and what to predict from them.

    targets: int32 [T], -1 where a token has none (per_token); else int32 [E], or float32 [E, C] for many labels an
    example.
    """

    encoded: Encoded
    targets: np.ndarray
    per_token: bool

    @classmethod
    def of(cls, encoded: Encoded, targets: list, per_token: bool) -> Dataset:
        """targets: as `Task.targets` gives them; per_token: one a word, else one an example."""
        if not per_token:
            many = bool(targets) and np.ndim(targets[0]) == 1
            return cls(encoded, np.asarray(targets, np.float32 if many else np.int32), False)
        words = np.cumsum([0, *map(len, targets)])[:-1]
        flat = np.concatenate([*targets, np.zeros(0, np.int32)]).astype(np.int32)
        first = np.repeat(words[encoded.example], encoded.piece_lengths)
        at = encoded.words_at
        return cls(encoded, np.where(at >= 0, flat[np.where(at >= 0, first + at, 0)], -1).astype(np.int32), True)

    def at(self, epoch: int) -> Dataset:
        """Itself: the same in every epoch."""
        return self

    @functools.cached_property
    def first_piece(self) -> np.ndarray:
        """int64 [E + 1], where the pieces of each example start."""
        return np.searchsorted(self.encoded.example, np.arange(self.encoded.num_examples + 1))

    def batch(self, pieces: np.ndarray, placement: pack.Placement, shape: pack.Shape) -> dict[str, np.ndarray]:
        """As `pack.fill`, with `targets`: [B, L], or [B, S] or [B, S, C] by example, -1 where there is none."""
        arrays = pack.fill(self.encoded, pieces, placement, shape)
        index = arrays["source"] if self.per_token else self.encoded.example[np.maximum(arrays["pieces"], 0)]
        present = (arrays["source"] if self.per_token else arrays["pieces"]) >= 0
        values = self.targets[np.where(present, index, 0)]
        mask = present.reshape(present.shape + (1,) * (values.ndim - present.ndim))
        arrays["targets"] = np.where(mask, values, np.asarray(-1, values.dtype))
        return arrays


class ByEpoch(Protocol):
    """Training data that may differ from epoch to epoch; its examples and their numbers stay."""

    def at(self, epoch: int) -> Dataset:
        """What an epoch, counted from 0, meets."""
        ...


class Epochs:
    """Data sets by epoch, made when first needed; the last ones are kept. Threads may share one `Epochs`."""

    def __init__(self, make: Callable[[int], Dataset]) -> None:
        self._make, self._lock = make, threading.Lock()
        self._kept: dict[int, Dataset] = {}

    def at(self, epoch: int) -> Dataset:
        """As `ByEpoch`."""
        with self._lock:
            if epoch not in self._kept:
                self._kept[epoch] = self._make(epoch)
                for old in list(self._kept)[:-_KEPT_EPOCHS]:
                    del self._kept[old]
            return self._kept[epoch]


@dataclass(frozen=True)
class StepBatch:
    """One training step on the host. arrays: [M, B, L] for the device. examples: int64 [E]."""

    step: int
    epoch: int
    arrays: dict[str, np.ndarray]
    examples: np.ndarray
    real_tokens: int
    padded_tokens: int

    @property
    def shape(self) -> tuple[int, ...]:
        return self.arrays["tokens"].shape


class TrainBatches:
    """The batches of a run, by step number.

    data: a `Dataset`, or what gives one for each epoch. shapes: planned for its steps. widths: of rows to choose from,
    ascending, the last holds any piece. shape_cost: tokens that may be computed in addition for one shape less.
    """

    def __init__(
        self,
        data: ByEpoch,
        order: Order,
        num_steps: int,
        *,
        micro_batches: int,
        widths: tuple[int, ...],
        packing: bool = True,
        shape_cost: float = 0.0,
    ) -> None:
        self._data, self._order, self._micro_batches = data, order, micro_batches
        self._widths, self._packing = widths, packing
        planned = range(0, num_steps, max(1, num_steps // _PLANNED_STEPS))
        needs = np.array([self._needs(step) for step in planned])
        scale = len(planned) / num_steps
        self.shapes = pack.plan(needs, widths, shape_cost * scale / micro_batches)
        self._cheapest_first = sorted(self.shapes, key=pack.row_cost)

    def make(self, step: int) -> StepBatch:
        """The batch of one step: a pure function of its number."""
        epoch = self._order.epoch(step)
        data = self._data.at(epoch)
        examples, parts = self._parts(step, data)
        placements, shape = self._lay_out([data.encoded.piece_lengths[pieces] for pieces in parts])
        micro = [data.batch(*pair, shape) for pair in zip(parts, placements, strict=True)]
        arrays = {name: np.stack([part[name] for part in micro]) for name in micro[0] if name not in _HOST_ONLY}
        real = int(sum(data.encoded.piece_lengths[pieces].sum() for pieces in parts))
        places = shape.rows * shape.tokens * len(parts)
        return StepBatch(step, epoch, arrays, examples, real, places - real)

    def _needs(self, step: int) -> list[int]:
        """Rows a step needs at each width, 0 where it does not fit."""
        data = self._data.at(self._order.epoch(step))
        lengths = [data.encoded.piece_lengths[pieces] for pieces in self._parts(step, data)[1]]
        longest = pack.width_for(_longest(lengths), self._widths)
        return [0 if width < longest else _most_rows(self._place(lengths, width)) for width in self._widths]

    def _parts(self, step: int, data: Dataset) -> tuple[np.ndarray, list[np.ndarray]]:
        """Examples of a step, and the pieces of each micro-batch."""
        examples = self._order.examples(step)
        return examples, [_pieces(data, part) for part in np.array_split(examples, self._micro_batches)]

    def _lay_out(self, lengths: list[np.ndarray]) -> tuple[list[pack.Placement], pack.Shape]:
        """The cheapest planned shape that holds each micro-batch, or one made for them where none does: a step that was
        not planned may hold more, or a longer text, than all that were."""
        longest, tokens = _longest(lengths), max(int(part.sum()) for part in lengths)
        tried: dict[int, list[pack.Placement]] = {}
        for shape in self._cheapest_first:
            if shape.tokens >= longest and shape.rows * shape.tokens >= tokens:
                placements = tried.get(shape.tokens) or self._place(lengths, shape.tokens)
                if _most_rows(placements) <= shape.rows:
                    return placements, shape
                tried[shape.tokens] = placements
        width = pack.width_for(longest, self._widths)
        placements = tried.get(width) or self._place(lengths, width)
        return placements, pack.Shape(_most_rows(placements), width, pack.max_segments(width))

    def _place(self, lengths: list[np.ndarray], width: int) -> list[pack.Placement]:
        return [pack.place(part, width, packing=self._packing) for part in lengths]


def _longest(lengths: list[np.ndarray]) -> int:
    return max(int(part.max(initial=1)) for part in lengths)


def _most_rows(placements: list[pack.Placement]) -> int:
    return max(placement.num_rows for placement in placements)


def _pieces(data: Dataset, examples: np.ndarray) -> np.ndarray:
    """int64 [P], the pieces of some examples, in their order."""
    firsts = data.first_piece[examples]
    counts = data.first_piece[examples + 1] - firsts
    return np.repeat(firsts - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())


def evaluation_batches(
    data: Dataset, widths: tuple[int, ...], tokens_a_batch: int
) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
    """Yields (pieces, arrays [B, L], with source and pieces) that cover every piece once, in one shape a row width."""
    lengths = data.encoded.piece_lengths
    width_of = np.array([pack.width_for(int(length), widths) for length in lengths], np.int64)
    for width in sorted(set(width_of.tolist())):
        pieces = np.flatnonzero(width_of == width)
        pieces = pieces[np.argsort(-lengths[pieces], kind="stable")]
        shape = pack.Shape(max(1, tokens_a_batch // width), width, pack.max_segments(width))
        while len(pieces):
            count = _fitting(lengths[pieces], shape)
            placement = pack.place(lengths[pieces[:count]], width)
            yield pieces[:count], data.batch(pieces[:count], placement, shape)
            pieces = pieces[count:]


def _fitting(lengths: np.ndarray, shape: pack.Shape) -> int:
    """How many of the first pieces surely fit the shape: by halving from what would fill it."""
    count = min(
        len(lengths),
        shape.rows * shape.segments,
        int(np.searchsorted(np.cumsum(lengths), shape.rows * shape.tokens, "right")),
    )
    count = max(count, 1)
    while pack.place(lengths[:count], shape.tokens).num_rows > shape.rows:
        count = max(1, count - max(1, count // 16))
    return count
