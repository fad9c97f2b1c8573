"""Predictions over a data set: each example or word gets its own, however the pieces were packed."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft import tasks
from jaxft.data.batches import Dataset
from jaxft.data.encode import Encoded
from jaxft.evaluate.predict import Predictor

CLASSES = 5


class ByToken:
    """In place of a model: the logits of a token, or of an example's first token, are a row of a table."""

    def __init__(self, head: str) -> None:
        self._head = head
        self.traces = 0

    def apply(self, variables: Any, batch: dict[str, jax.Array]) -> jax.Array:
        self.traces += 1
        logits = variables["params"][batch["tokens"]]
        if self._head == "tag":
            return logits
        return jnp.take_along_axis(logits, batch["firsts"][..., None], axis=1)


@pytest.fixture(scope="module")
def table() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(100, CLASSES)).astype(np.float32)


def encoded(pieces: list[list[int]], example: list[int], words_at: list[list[int]] | None = None) -> Encoded:
    """Pieces of tokens; example: of each piece; words_at: as `Encoded` has it."""
    tokens = np.concatenate([np.asarray(piece, np.int32) for piece in pieces])
    at = np.full(len(tokens), -1, np.int32) if words_at is None else np.concatenate(words_at).astype(np.int32)
    window = np.array([example[:number].count(of) for number, of in enumerate(example)], np.int32)
    offsets = np.cumsum([0, *map(len, pieces)]).astype(np.int64)
    lengths = np.bincount(example, [len(piece) for piece in pieces]).astype(np.int32)
    return Encoded(tokens, np.zeros_like(tokens), at, offsets, np.asarray(example, np.int32), window, lengths)


def softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


@pytest.fixture(scope="module")
def random_pieces() -> list[list[int]]:
    random = np.random.default_rng(1)
    return [random.integers(1, 100, random.integers(1, 33)).tolist() for _ in range(60)]


@pytest.mark.parametrize(("widths", "tokens_a_batch"), [((32,), 64), ((8, 16, 32), 128), ((64,), 4096)])
def test_every_example_gets_its_own_whatever_the_packing(table, random_pieces, widths, tokens_a_batch):
    data = Dataset(encoded(random_pieces, list(range(60))), np.zeros(60, np.int32), per_token=False)
    model: Any = ByToken("classify")
    predictor = Predictor(model, tasks.get("classify"), tokens_a_batch=tokens_a_batch)
    found = predictor(table, data, widths, [])
    assert not found.per_token and found.probabilities.shape == (60, CLASSES)
    expected = softmax(table[[piece[0] for piece in random_pieces]])
    np.testing.assert_allclose(found.probabilities, expected, rtol=1e-5)
    assert model.traces <= len(widths)
    predictor(table, data, widths, [])
    assert model.traces <= len(widths)


def test_windows_of_an_example_are_averaged(table):
    data = Dataset(encoded([[7, 1], [8], [9, 2, 3]], [0, 1, 0]), np.zeros(2, np.int32), per_token=False)
    model: Any = ByToken("classify")
    found = Predictor(model, tasks.get("classify"))(table, data, (8,), []).probabilities
    each = softmax(table[[7, 8, 9]])
    np.testing.assert_allclose(found, [(each[0] + each[2]) / 2, each[1]], rtol=1e-5)


def test_many_labels_are_judged_one_by_one(table):
    data = Dataset(encoded([[7], [8, 1]], [0, 1]), np.zeros((2, CLASSES), np.float32), per_token=False)
    model: Any = ByToken("classify")
    found = Predictor(model, tasks.get("classify"), multi_label=True)(table, data, (8,), []).probabilities
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-table[[7, 8]])), rtol=1e-5)


def test_words_get_what_their_first_token_says_and_those_cut_off_nothing(table):
    pieces, words_at = [[1, 20, 21, 22, 2], [1, 30, 2]], [[-1, 0, -1, 1, -1], [-1, 0, -1]]
    data = Dataset(encoded(pieces, [0, 1], words_at), np.full(8, -1, np.int32), per_token=True)
    model: Any = ByToken("tag")
    found = Predictor(model, tasks.get("tag"))(table, data, (8,), [3, 1])
    first, second = found.probabilities
    assert found.per_token and first.shape == (3, CLASSES) and second.shape == (1, CLASSES)
    np.testing.assert_allclose(first[:2], softmax(table[[20, 22]]), rtol=1e-5)
    assert np.isnan(first[2]).all()
    np.testing.assert_allclose(second, softmax(table[[30]]), rtol=1e-5)


def test_nothing_to_predict_is_refused(table):
    none = np.zeros(0, np.int32)
    empty = Encoded(none, none, none, np.zeros(1, np.int64), none, none, none)
    model: Any = ByToken("classify")
    with pytest.raises(ValueError, match="empty"):
        Predictor(model, tasks.get("classify"))(table, Dataset(empty, none, per_token=False), (8,), [])
