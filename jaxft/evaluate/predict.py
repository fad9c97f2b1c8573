"""Predictions: a model over a whole data set, packed, as probabilities an example or a word."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxft.data.batches import Dataset, evaluation_batches
from jaxft.model.heads import Bert
from jaxft.tasks.base import Task

_DEVICE_KEYS = ("tokens", "types", "positions", "segments", "firsts")


@dataclass(frozen=True)
class Predictions:
    """per example: f32 [E, C], the mean over an example's windows; per word: one f32 [words, C] an example, rows of NaN
    for words that were cut off."""

    probabilities: Any
    per_token: bool


class Predictor:
    """Predicts with a model in evaluation mode; compiles once a row width."""

    def __init__(
        self, model: Bert, task: Task, *, multi_label: bool = False, tokens_a_batch: int | None = None
    ) -> None:
        self._per_token = task.head == "tag"
        self._tokens = tokens_a_batch or (2048 if jax.default_backend() == "cpu" else 16384)

        def probabilities(params: Any, batch: dict[str, jax.Array]) -> jax.Array:
            return task.probabilities(model.apply({"params": params}, batch), multi_label=multi_label)

        self._apply: Callable = jax.jit(probabilities)

    def __call__(self, params: Any, data: Dataset, widths: tuple[int, ...], num_words: list[int]) -> Predictions:
        """params: as the model takes them. num_words: of each example (read for tagging only)."""
        flat, params = None, jax.device_put(params)  # once, not once a batch
        running: list[tuple[np.ndarray, np.ndarray, jax.Array]] = []
        for _, arrays in evaluation_batches(data, widths, self._tokens):
            batch = {name: jnp.asarray(arrays[name]) for name in _DEVICE_KEYS}
            zeros = jnp.zeros(batch["tokens"].shape, jnp.uint32)
            where = arrays["source"] if self._per_token else arrays["pieces"]
            running.append((where, where >= 0, self._apply(params, {**batch, "example": zeros, "occurrence": zeros})))
        for where, present, result in running:
            values = np.asarray(result)
            if flat is None:
                size = len(data.encoded.tokens) if self._per_token else len(data.encoded.example)
                flat = np.full((size, values.shape[-1]), np.nan, np.float32)
            flat[where[present]] = values[present]
        if flat is None:
            raise ValueError("nothing to predict: the data set is empty")
        return Predictions(
            self._by_word(flat, data, num_words) if self._per_token else _by_example(flat, data), self._per_token
        )

    @staticmethod
    def _by_word(flat: np.ndarray, data: Dataset, num_words: list[int]) -> list[np.ndarray]:
        encoded, starts = data.encoded, np.cumsum([0, *num_words])
        words = np.full((starts[-1], flat.shape[-1]), np.nan, np.float32)
        at = np.flatnonzero(encoded.words_at >= 0)
        example = np.repeat(encoded.example, encoded.piece_lengths)[at]
        words[starts[example] + encoded.words_at[at]] = flat[at]
        return [words[start:end] for start, end in zip(starts[:-1], starts[1:], strict=True)]


def _by_example(flat: np.ndarray, data: Dataset) -> np.ndarray:
    """Mean over the windows of each example."""
    sums = np.zeros((data.encoded.num_examples, flat.shape[-1]), np.float64)
    np.add.at(sums, data.encoded.example, flat)
    return (sums / np.bincount(data.encoded.example)[:, None]).astype(np.float32)
