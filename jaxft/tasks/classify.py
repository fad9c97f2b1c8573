"""Classification of a text or a pair of texts: one label an example, or any number (multi-label).

The labels are class names throughout; numbers are made of them by their place in `label_set`. Regression is left out.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxft.data import cells
from jaxft.data.examples import Examples
from jaxft.data.listing import Listing

if TYPE_CHECKING:
    from jaxft.data.rows import Rows
    from jaxft.errors import Problems
    from jaxft.recipe import Data

THRESHOLD = 0.5
"""A multi-label class is predicted from this probability on."""


class Classify:
    """The task `classify`; see tasks/base.py for what each method must do."""

    name = "classify"
    head = "classify"
    default_metric = "accuracy"

    def parse(self, rows: Rows, spec: Data, problems: Problems) -> Examples:
        """Texts, pairs and labels out of the columns the recipe names."""
        if rows.format == "conll" and rows.columns:
            problems.add(rows.path, "holds tagged words, but the task is classify", "set `task: tag`, or `data.format`")
        if rows.format == "conll" or not rows.columns:
            return Examples([], None, [], [], rows.source, rows.sha256)
        columns = {key: rows.column(name, f"data.{key}", problems) for key, name in _wanted(spec).items()}
        where = [rows.where(i) for i in range(len(rows))]
        with Listing(problems, rows.path) as listing:
            texts = _texts(columns["text"] or [], where, spec.text, listing)
            pairs = _texts(columns["text_pair"] or [], where, spec.text_pair, listing) if spec.text_pair else None
            labels = _labels(columns["label"] or [], where, spec, rows.class_names.get(spec.label), listing)
        if any(column is None for column in columns.values()):
            return Examples([], None, [], [], rows.source, rows.sha256)
        ids = None if spec.id is None else [str(cell) for cell in columns["id"] or []]
        return Examples(texts, pairs, labels, where, rows.source, rows.sha256, ids)

    def label_set(self, train: Examples, spec: Data) -> tuple[str, ...]:
        """Class names sorted; by value if all of them are integers."""
        names = {name for label in train.labels or [] for name in (label if isinstance(label, list) else [label])}
        if all(re.fullmatch("-?[0-9]+", name) for name in names):
            return tuple(sorted(names, key=lambda name: (int(name), name)))
        return tuple(sorted(names))

    def targets(self, examples: Examples, labels: tuple[str, ...], problems: Problems) -> list:
        """Class number of each example; multi-label: float32 [C] of 0 and 1. Unknown labels are problems, left at 0."""
        index = {name: number for number, name in enumerate(labels)}
        golds = examples.labels or []
        with Listing(problems, examples.source) as listing:
            for where, gold in zip(examples.where, golds, strict=True):
                for name in gold if isinstance(gold, list) else [gold]:
                    if name not in index:
                        near = difflib.get_close_matches(name, labels, n=1)
                        listing.add(
                            where,
                            f"label {name!r} is none of the {len(labels)} known",
                            f"nearest: {near[0]!r}" if near else "",
                        )
        if not examples.is_multi_label:
            return [index.get(gold, 0) for gold in golds]
        return [np.isin(labels, gold).astype(np.float32) for gold in golds]

    def loss(
        self, logits: Any, targets: Any, *, label_smoothing: float = 0.0, class_weights: Any | None = None
    ) -> tuple[Any, Any]:
        """(losses, weights) f32 [B, S]; formulas in tasks/losses.py.

        logits: [B, S, C]. targets: int32 [B, S], -1 where there is no example; or, multi-label, float32 [B, S, C] of 0
        and 1, all -1 where there is no example.
        """
        from jaxft.tasks import losses

        loss = losses.binary_cross_entropy if targets.ndim == logits.ndim else losses.cross_entropy
        return loss(logits, targets, label_smoothing=label_smoothing, class_weights=class_weights)

    def probabilities(self, logits: Any, *, multi_label: bool = False) -> Any:
        """Softmax over C, or for multi-label the sigmoid of each class."""
        from jaxft.tasks import losses

        return losses.sigmoid(logits) if multi_label else losses.softmax(logits)

    def decode(self, probabilities: Any, labels: tuple[str, ...], *, multi_label: bool = False) -> Any:
        """Probabilities [C] of one example as (label, probability); multi-label: all such pairs, likeliest first."""
        row = np.asarray(probabilities)
        if not multi_label:
            best = int(row.argmax())
            return labels[best], float(row[best])
        chosen = [int(c) for c in np.argsort(-row, kind="stable") if row[c] >= THRESHOLD]
        return [(labels[c], float(row[c])) for c in chosen]

    def score(self, gold: Any, predicted: Any, labels: Sequence[str]) -> dict[str, float]:
        """gold, predicted: int [E]; multi-label: bool [E, C]."""
        return _metrics(gold, predicted, labels).scores

    def table(self, gold: Any, predicted: Any, labels: Sequence[str]) -> dict[str, dict[str, float]]:
        """As `score`; one row a class."""
        return _metrics(gold, predicted, labels).per_class


def _wanted(spec: Data) -> dict[str, str]:
    """Recipe key -> column, of the columns that this recipe reads."""
    named = {"text": spec.text, "text_pair": spec.text_pair, "label": spec.label, "id": spec.id}
    return {key: name for key, name in named.items() if name is not None}


def _texts(column: list[Any], where: list[str], name: str, listing: Listing) -> list[str]:
    return [cells.text(cell, at, name, listing) for cell, at in zip(column, where, strict=False)]


def _labels(
    column: list[Any], where: list[str], spec: Data, class_names: list[str] | None, listing: Listing
) -> list[Any]:
    rows = zip(column, where, strict=False)  # a missing column is empty
    if spec.multi_label:
        return [cells.label_list(cell, spec.label_separator, at, spec.label, listing, class_names) for cell, at in rows]
    return [cells.label(cell, at, spec.label, listing, class_names) for cell, at in rows]


def _metrics(gold: Any, predicted: Any, labels: Sequence[str]) -> Any:
    from jaxft.evaluate import metrics

    return (metrics.multilabel if np.ndim(gold) == 2 else metrics.classification)(gold, predicted, labels)


TASK = Classify()
