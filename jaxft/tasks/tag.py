"""Tagging of words, such as named entities: one tag a word, IOB2 inside whatever the file writes.

A word's first sub-token carries its target (see data/encode.py); here everything is by word. Decoding takes the
likeliest tag of each word and repairs the row to IOB2; there is no CRF.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxft.data import cells
from jaxft.data.examples import Examples
from jaxft.data.listing import Listing
from jaxft.tasks import iob

if TYPE_CHECKING:
    from jaxft.data.rows import Rows
    from jaxft.errors import Problems
    from jaxft.recipe import Data


class Entity(NamedTuple):
    """A predicted entity."""

    type: str
    start: int
    """First word, from 0."""
    end: int
    """The word after the last."""
    probability: float
    """Mean over its words of the probability of the word's likeliest tag."""


class Tag:
    """The task `tag`; see tasks/base.py for what each method must do."""

    name = "tag"
    head = "tag"
    default_metric = "f1"

    def parse(self, rows: Rows, spec: Data, problems: Problems) -> Examples:
        """Words and IOB2 tags: columns 0 and last of CoNLL, else lists in the columns `data.text` and `data.label`."""
        nothing = Examples([], None, [], [], rows.source, rows.sha256)
        if not rows.columns:
            return nothing
        if rows.format == "conll":
            words, tags = rows.columns["words"], rows.columns["tags"]
        else:
            columns = _list_columns(rows, spec, problems)
            if columns is None:
                return nothing
            words, tags = columns
        where = [rows.where(i) for i in range(len(rows))]
        iob2 = iob.to_iob2(tags, rows.where if rows.word_lines else _word_where(where), problems, rows.path)
        ids = None if spec.id is None else rows.column(spec.id, "data.id", problems)
        return Examples(
            words, None, iob2, where, rows.source, rows.sha256, None if ids is None else [str(i) for i in ids]
        )

    def label_set(self, train: Examples, spec: Data) -> tuple[str, ...]:
        """O, then B- and I- of every entity type, sorted by type: also the ones that training lacks."""
        types = sorted({tag[2:] for tags in train.labels or [] for tag in tags if tag != "O"})
        return ("O", *(prefix + kind for kind in types for prefix in ("B-", "I-")))

    def targets(self, examples: Examples, labels: tuple[str, ...], problems: Problems) -> list:
        """int32 [words] of each example. Unknown tags are problems, left at 0."""
        index = {name: number for number, name in enumerate(labels)}
        with Listing(problems, examples.source) as listing:
            for where, tags in zip(examples.where, examples.labels or [], strict=True):
                for j, tag in enumerate(tags):
                    if tag not in index:
                        near = difflib.get_close_matches(tag, labels, n=1)
                        what = f"tag {tag!r} of word {j + 1} is none of the {len(labels)} known"
                        listing.add(where, what, f"nearest: {near[0]!r}" if near else "")
        return [np.array([index.get(tag, 0) for tag in tags], np.int32) for tags in examples.labels or []]

    def loss(
        self, logits: Any, targets: Any, *, label_smoothing: float = 0.0, class_weights: Any | None = None
    ) -> tuple[Any, Any]:
        """(losses, weights) f32 [B, L] of logits [B, L, C] and targets int32 [B, L], -1 where a token has none."""
        from jaxft.tasks import losses

        return losses.cross_entropy(logits, targets, label_smoothing=label_smoothing, class_weights=class_weights)

    def probabilities(self, logits: Any, *, multi_label: bool = False) -> Any:
        """Softmax over C."""
        from jaxft.tasks import losses

        return losses.softmax(logits)

    def decode(self, probabilities: Any, labels: tuple[str, ...], *, multi_label: bool = False) -> list[str]:
        """Word-level probabilities [W, C] of one example as strict IOB2.

        The likeliest tag of each word; an I-X that continues no X becomes B-X.
        """
        return iob.repair([labels[c] for c in np.asarray(probabilities).reshape(-1, len(labels)).argmax(axis=-1)])

    def entities(self, probabilities: Any, labels: tuple[str, ...]) -> list[Entity]:
        """The entities of `decode` with their words and probability, in order."""
        best = np.asarray(probabilities).reshape(-1, len(labels)).max(axis=-1)
        found = iob.spans(self.decode(probabilities, labels))
        return [Entity(kind, start, end, float(best[start:end].mean())) for kind, start, end in found]

    def score(self, gold: Any, predicted: Any, labels: Sequence[str]) -> dict[str, float]:
        """gold, predicted: one list of tags an example. Entity-level f1, precision, recall; word-level accuracy."""
        from jaxft.evaluate import metrics

        return metrics.tagging(gold, predicted).scores

    def table(self, gold: Any, predicted: Any, labels: Sequence[str]) -> dict[str, dict[str, float]]:
        """As `score`; one row an entity type."""
        from jaxft.evaluate import metrics

        return metrics.tagging(gold, predicted).per_entity


def _list_columns(rows: Rows, spec: Data, problems: Problems) -> tuple[list[list[str]], list[list[str]]] | None:
    """Words and tags of rows with a list in each cell; rows with a problem keep their place, empty."""
    words, tags = (
        rows.column(name, f"data.{key}", problems) for key, name in (("text", spec.text), ("label", spec.label))
    )
    if words is None or tags is None:
        return None
    class_names = rows.class_names.get(spec.label)
    with Listing(problems, rows.path) as listing:
        both = [
            _row(*pair, rows.where(i), spec, class_names, listing)
            for i, pair in enumerate(zip(words, tags, strict=True))
        ]
    return [row[0] for row in both], [row[1] for row in both]


def _row(
    words: Any, tags: Any, where: str, spec: Data, class_names: list[str] | None, listing: Listing
) -> tuple[list[str], list[str]]:
    before = listing.count
    found = cells.words(words, where, spec.text, listing)
    if listing.count == before and not isinstance(tags, list):
        listing.add(where, f"column {spec.label!r} must hold a list of tags, came {type(tags).__name__}")
    if listing.count == before and len(tags) != len(found):
        listing.add(where, f"{len(found)} words but {len(tags)} tags")
    if listing.count == before:
        names = [cells.label(tag, where, spec.label, listing, class_names) for tag in tags]
        if listing.count == before:
            return found, names
    return [], []


def _word_where(where: list[str]) -> iob.Where:
    return lambda row, word: f"{where[row]}: word {word + 1}"


TASK = Tag()
