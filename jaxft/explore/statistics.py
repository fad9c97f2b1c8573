"""What a verdict on searchers needs: interquartile mean, bootstrap intervals, probability of improvement, a test of it,
curves.

Follows Agarwal et al. 2021, "Deep reinforcement learning at the edge of the statistical precipice", and their rliable:
intervals are percentiles of a stratified bootstrap, in which the runs of each task are resampled apart. Of a handful of
runs such intervals are too narrow, so whether two are told apart is for `p_value` to say. Left out: paired tests, which
need the same noise on both sides. Resampling draws from words (of the stream "bootstrap"), so an interval is a pure
function of its numbers and words.

Scores are f64 [K, tasks]: K runs (seeds) on each task; [K] is one task. Nothing here takes NaN for a number: a run
that found nothing is -inf for `probability_of_improvement`, and leaves other statistics NaN. One that diverged is -inf.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.stats

from jaxft import prng
from jaxft.explore import draws
from jaxft.explore.account import Account

RESAMPLES = 2000
CONFIDENCE = 0.95
_PERMUTATIONS = 200_000
_AT_ONCE = 1 << 21
"""Numbers of resampled runs in memory at a time."""
_FIRST, _SECOND = 0, 1
"""Whose runs are resampled."""


class Estimate(NamedTuple):
    """A statistic with its interval; floats, or arrays of one shape."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


Statistic = Callable[[np.ndarray], np.ndarray]
"""[..., K, tasks] -> [...]."""


def iqm(scores: np.ndarray) -> np.ndarray:
    """Interquartile mean over runs and tasks together: of what is left without the lowest and the highest quarter
    (rounded down). scores: f64 [..., K, tasks]. NaN where a score is."""
    flat = np.sort(scores.reshape(*scores.shape[:-2], -1), axis=-1)  # NaN last
    cut = flat.shape[-1] // 4
    return np.where(np.isnan(flat[..., -1]), np.nan, flat[..., cut : flat.shape[-1] - cut].mean(-1))


def interval(scores: np.ndarray, words: prng.Words, statistic: Statistic = iqm) -> Estimate:
    """A statistic of scores [K] or [K, tasks], with its interval."""
    scores = _tasks(scores)
    found = [statistic(sample) for sample in _resampled(scores, words)]
    return _estimate(statistic(scores), np.concatenate(found))


def curve_intervals(curves: np.ndarray, words: prng.Words) -> Estimate:
    """The interquartile mean of curves [K, G] at each of G budgets, each [G], with its interval; NaN until all runs
    have a score. A resample takes whole runs."""
    curves = np.asarray(curves, np.float64)
    choices = _choices(len(curves), 1, words, copies=curves.shape[1])
    found = [iqm(curves.T[:, chosen[..., 0], None]).T for chosen in choices]
    return _estimate(iqm(curves.T[..., None]), np.concatenate(found))


def probability_of_improvement(x: np.ndarray, y: np.ndarray, words: prng.Words) -> Estimate:
    """P(X > Y) + P(X = Y) / 2 for a run of X and one of Y on the same task, mean over tasks: Mann and Whitney's U over
    the number of pairs. x: [K] or [K, tasks], y: [J] or [J, tasks]. Both are resampled, apart."""
    x, y = _tasks(x), _tasks(y)
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"scores on {x.shape[1]} and on {y.shape[1]} tasks")
    if np.isnan(x).any() or np.isnan(y).any():
        raise ValueError("a score is NaN; a run that found nothing is -inf")
    values, found = [], []
    for task, (left, right) in enumerate(zip(x.T, y.T, strict=True)):
        values.append(_wins(left, right).mean())
        counts_x = _counts(len(left), draws.fold(words, _FIRST, task))
        counts_y = _counts(len(right), draws.fold(words, _SECOND, task))
        pairs = len(left) * len(right)
        found.append(((counts_x @ _wins(left, right)) * counts_y).sum(-1) / pairs)
    return _estimate(np.asarray(np.mean(values)), np.mean(found, axis=0))


def p_value(x: np.ndarray, y: np.ndarray) -> float:
    """Of Mann and Whitney's test, two-sided, that runs x [K] and y [J] are alike: over all permutations, ties and -inf
    included; by the normal approximation where there are more than 200,000. 1 where x or y is a single run."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if np.isnan(x).any() or np.isnan(y).any():
        raise ValueError("a score is NaN; a run that found nothing is -inf")
    if min(len(x), len(y)) == 1:
        return 1.0
    count = math.comb(len(x) + len(y), len(x))
    method: Any = scipy.stats.PermutationMethod(n_resamples=count, batch=10_000)
    found: Any = scipy.stats.mannwhitneyu(x, y, method=method if count <= _PERMUTATIONS else "asymptotic")
    return float(found.pvalue)


def least_p(runs: int) -> float:
    """What `p_value` gives where each of so many runs is better than each of as many others, as far as all permutations
    are taken."""
    return min(1.0, 2 / math.comb(2 * runs, runs))


def holm(values: Sequence[float]) -> list[float]:
    """p-values of several comparisons, each as large as the chance that any of them is wrong makes it (Holm 1979)."""
    found, least = [0.0] * len(values), 0.0
    for rank, at in enumerate(sorted(range(len(values)), key=lambda at: values[at])):
        least = found[at] = max(least, min(1.0, values[at] * (len(values) - rank)))
    return found


def curve(account: Account, budgets: Sequence[float] | np.ndarray) -> np.ndarray:
    """Best score of a whole schedule by each budget [G], in gradient steps, in any order; NaN before the first."""
    spent = np.array([one.spent for one in account.sightings])
    best = np.maximum.accumulate(np.array([one.score for one in account.sightings], np.float64))
    seen = np.searchsorted(spent, np.asarray(budgets, np.float64) + 1e-9, side="right")
    return np.concatenate([[np.nan], best])[seen]


def curves(accounts: Sequence[Account], budgets: Sequence[float] | np.ndarray) -> np.ndarray:
    """f64 [K, G]: `curve` of each account."""
    return np.stack([curve(account, budgets) for account in accounts])


def steps_to(account: Account, level: float) -> float:
    """Gradient steps spent when a whole schedule first reached a score; NaN if none did."""
    return next((one.spent for one in account.sightings if one.score >= level), np.nan)


# --- resampling ------------------------------------------------------------------------------------------------------


def _tasks(scores: np.ndarray) -> np.ndarray:
    """[K, tasks]."""
    scores = np.asarray(scores, np.float64)
    scores = scores[:, None] if scores.ndim == 1 else scores
    if scores.ndim != 2 or not scores.size:
        raise ValueError(f"scores must be [runs] or [runs, tasks] and not empty, are {list(scores.shape)}")
    return scores


def _choices(runs: int, tasks: int, words: prng.Words, copies: int = 1) -> Iterator[np.ndarray]:
    """Which runs are taken, int64 [some, K, tasks], for all resamples. copies: how many numbers hang on each."""
    block = max(1, _AT_ONCE // (runs * tasks * copies))
    for start in range(0, RESAMPLES, block):
        numbers = np.arange(start, min(start + block, RESAMPLES))
        drawn = [draws.integers(draws.fold(words, task, numbers), runs, runs) for task in range(tasks)]
        yield np.stack(drawn, axis=-1)


def _resampled(scores: np.ndarray, words: prng.Words) -> Iterator[np.ndarray]:
    """[some, K, tasks]."""
    for chosen in _choices(len(scores), scores.shape[1], words):
        yield scores[chosen, np.arange(scores.shape[1])]


def _counts(runs: int, words: prng.Words) -> np.ndarray:
    """How often each run is taken, f64 [RESAMPLES, K]."""
    found = []
    for chosen in _choices(runs, 1, words):
        at = chosen[..., 0] + runs * np.arange(len(chosen))[:, None]
        found.append(np.bincount(at.ravel(), minlength=runs * len(chosen)).reshape(-1, runs))
    return np.concatenate(found).astype(np.float64)


def _wins(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """[K, J]: 1 where x is higher, 0.5 where equal."""
    return (x[:, None] > y).astype(np.float64) + 0.5 * (x[:, None] == y)


def _estimate(value: np.ndarray, resampled: np.ndarray) -> Estimate:
    tail = (1 - CONFIDENCE) / 2
    method = "nearest" if np.isneginf(resampled).any() else "linear"  # nothing lies between a number and -inf
    low, high = np.quantile(resampled, [tail, 1 - tail], axis=0, method=method)
    return Estimate(value, low, high)
