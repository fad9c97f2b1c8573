"""What a task is: the protocol that `tasks.get` hands out.

A task is stateless. Host side (strings, numpy): `parse`, `label_set`, `targets`, `decode`, `score`, `table`. Device
side (pure JAX): `loss`, `probabilities`. Neither tokenising (see data/encode.py) nor the model is its business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxft.data.examples import Examples
    from jaxft.data.rows import Rows
    from jaxft.errors import Problems
    from jaxft.recipe import Data


class Task(Protocol):
    """One way of learning from labelled text."""

    @property
    def name(self) -> str:
        """What recipes call it."""
        ...

    @property
    def head(self) -> Literal["classify", "tag"]:
        """classify: one row of logits an example; tag: one row of logits a token."""
        ...

    @property
    def default_metric(self) -> str:
        """Key of `score` that picks the best parameters."""
        ...

    def parse(self, rows: Rows, spec: Data, problems: Problems) -> Examples:
        """Rows of a source as examples; adds a problem for each bad cell.

        Rows without columns (a source that could not be read, as was said) give no examples and no further problem.
        """
        ...

    def label_set(self, train: Examples, spec: Data) -> tuple[str, ...]:
        """The classes, in the order of the logits."""
        ...

    def targets(self, examples: Examples, labels: tuple[str, ...], problems: Problems) -> list:
        """What the loss compares with, one entry an example; a label outside `labels` is a problem."""
        ...

    def loss(
        self, logits: Any, targets: Any, *, label_smoothing: float = 0.0, class_weights: Any | None = None
    ) -> tuple[Any, Any]:
        """(losses, weights), both f32 and 0 where there is no target; the mean loss is sum(losses) / sum(weights)."""
        ...

    def probabilities(self, logits: Any, *, multi_label: bool = False) -> Any:
        """Logits [..., C] as probabilities [..., C], f32."""
        ...

    def decode(self, probabilities: Any, labels: tuple[str, ...], *, multi_label: bool = False) -> Any:
        """The prediction for one example."""
        ...

    def score(self, gold: Any, predicted: Any, labels: Sequence[str]) -> dict[str, float]:
        """Metric name -> value."""
        ...

    def table(self, gold: Any, predicted: Any, labels: Sequence[str]) -> dict[str, dict[str, float]]:
        """Label -> {precision, recall, f1, support}."""
        ...
