"""Whether an agent has learned what there is to learn: frozen, greedy episodes, and a bound on what they return.

Converged means: the lower end of the 95 % confidence interval of the mean return (Student's t over the episodes) is not
below the threshold. Each evaluation plays episodes of its own, so one lucky start does not count twice.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.stats import t as student

LEVEL = 0.95


class Score(NamedTuple):
    """Returns of an evaluation's episodes. low, high: ends of the 95 % interval of the mean. length: mean steps."""

    mean: float
    low: float
    high: float
    length: float
    episodes: int

    def passes(self, threshold: float | None) -> bool:
        return threshold is not None and bool(self.low >= threshold)

    @property
    def rank(self) -> tuple[float, float]:
        """What scores are compared by: the low end, the mean where there is none; what is no number comes last."""
        mean = self.mean if np.isfinite(self.mean) else -np.inf
        return (self.low if np.isfinite(self.low) else mean, mean)


def shown(value: float) -> str:
    """A return in words: 475.3, 0.745."""
    return f"{value:,.{1 if abs(value) >= 10 else 3}f}"


def score(returns: Any, lengths: Any) -> Score:
    """Of returns [E] and lengths [E]; an interval of one episode is without end."""
    returns = np.asarray(returns, np.float64)
    mean, count = float(returns.mean()), len(returns)
    margin = np.inf
    if count > 1:
        margin = float(student.ppf(0.5 + LEVEL / 2, count - 1) * returns.std(ddof=1) / np.sqrt(count))
    return Score(mean, mean - margin, mean + margin, float(np.mean(lengths)), count)
