"""Early stopping: keep the best parameters, stop when they stay the best for too long."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any


@dataclass
class EarlyStopping:
    """metric: key of the dev scores; `loss` is better when lower, every other when higher. patience: evaluations in a
    row without a better score before `should_stop`; none: never. A tie is not better: the earlier parameters stay."""

    metric: str
    patience: int | None = None
    best_score: float | None = None
    best_step: int | None = None
    since_best: int = 0
    best_params: Any = field(default=None, repr=False)

    def observe(self, step: int, scores: dict[str, float], params: Any) -> bool:
        """Takes one evaluation's scores; True where they are the best so far. `params` are kept as given."""
        score = scores[self.metric]
        signed = -score if self.metric == "loss" else score
        best = None if self.best_score is None else (-self.best_score if self.metric == "loss" else self.best_score)
        if not math.isnan(signed) and (best is None or signed > best):
            self.best_score, self.best_step, self.best_params, self.since_best = score, step, params, 0
            return True
        self.since_best += 1
        return False

    @property
    def should_stop(self) -> bool:
        return self.patience is not None and self.since_best >= self.patience
