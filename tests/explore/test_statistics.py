"""Statistics of a verdict, against values computed by hand, by scipy, and by the definitions of rliable."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from jaxft import prng
from jaxft.explore import statistics
from jaxft.explore.account import Account
from jaxft.explore.statistics import curve, curve_intervals, curves, interval, iqm, probability_of_improvement, steps_to
from tests.explore.worlds import Table

WORDS = prng.stream("bootstrap", 0)
X = np.random.default_rng(0).normal(0.3, 1, size=(12, 3))
Y = np.concatenate([X[:1], np.random.default_rng(1).normal(0, 1, size=(9, 3))])


# --- interquartile mean ----------------------------------------------------------------------------------------------


def test_the_interquartile_mean_by_hand():
    assert iqm(np.array([[1.0], [2.0], [3.0], [100.0]])) == 2.5
    assert iqm(np.array([[-50.0, 1.0, 2.0, 3.0, 100.0]])) == 2.0  # 5 // 4 = 1 off each end
    assert iqm(np.array([[7.0]])) == 7.0
    assert iqm(np.array([[1.0], [2.0], [6.0]])) == 3.0


@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (10, 1), (5, 7), (12, 3)])
def test_the_interquartile_mean_is_that_of_rliable(shape):
    scores = np.random.default_rng(2).normal(size=(20, *shape))
    expected = [stats.trim_mean(one.ravel(), proportiontocut=0.25) for one in scores]
    np.testing.assert_allclose(iqm(scores), expected, rtol=1e-12)


def test_a_score_that_is_missing_shows():
    assert np.isnan(iqm(np.array([[1.0], [2.0], [3.0], [np.nan]])))
    assert np.isnan(interval(np.array([1.0, 2.0, np.nan]), WORDS).low)


# --- intervals -------------------------------------------------------------------------------------------------------


def test_the_interval_of_a_mean_is_that_of_scipy_but_for_chance():
    found = interval(X[:, 0], WORDS, lambda scores: scores.mean((-2, -1)))
    assert found.value == pytest.approx(X[:, 0].mean())
    options = {"method": "percentile", "n_resamples": 20_000, "random_state": 0}
    low, high = stats.bootstrap((X[:, 0],), np.mean, **options).confidence_interval
    np.testing.assert_allclose(found[1:], (low, high), atol=0.06 * (high - low))


def test_the_runs_of_each_task_are_resampled_apart():
    """As rliable does: a run of one task goes with any run of another."""
    chosen = np.random.default_rng(3).integers(12, size=(20_000, 12, 3))
    expected = np.quantile(iqm(X[chosen, np.arange(3)]), [0.025, 0.975])
    found = interval(X, WORDS)
    assert found.value == pytest.approx(stats.trim_mean(X.ravel(), 0.25))
    np.testing.assert_allclose(found[1:], expected, atol=0.06 * (expected[1] - expected[0]))


def test_an_interval_covers_as_often_as_it_says():
    samples = np.random.default_rng(4).normal(size=(200, 30))
    found = [interval(sample, prng.fold_in(WORDS, number)) for number, sample in enumerate(samples)]
    covered = sum(one.low <= 0 <= one.high for one in found)
    assert 0.88 < covered / 200 < 0.985


def test_an_interval_is_a_function_of_its_numbers_and_words(monkeypatch):
    found = interval(X, WORDS)
    assert interval(X, WORDS) == found and interval(X, prng.stream("bootstrap", 1)) != found
    monkeypatch.setattr(statistics, "_AT_ONCE", 500)  # other blocks
    assert interval(X, WORDS) == found
    assert interval(np.full(5, 2.0), WORDS) == (2.0, 2.0, 2.0)


@pytest.mark.parametrize("shape", [(0,), (3, 0), (2, 2, 2)])
def test_scores_of_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="scores must be"):
        interval(np.zeros(shape), WORDS)


# --- probability of improvement --------------------------------------------------------------------------------------


def test_the_probability_of_improvement_by_hand():
    found = probability_of_improvement(np.array([1.0, 2.0]), np.array([0.0, 1.0, 3.0]), WORDS)
    assert found.value == (1.5 + 2) / 6  # 1: above 0, equal to 1; 2: above 0 and 1
    assert found.low < found.value < found.high
    assert probability_of_improvement(np.array([-np.inf, -np.inf]), np.array([0.0]), WORDS) == (0, 0, 0)


def test_the_probability_of_improvement_is_that_of_rliable():
    tested = [stats.mannwhitneyu(x, y, alternative="greater") for x, y in zip(X.T, Y.T, strict=True)]
    expected = np.asarray(tested)[:, 0].mean() / 120  # of statistics and p-values
    found = probability_of_improvement(X, Y, WORDS)
    assert found.value == pytest.approx(expected)
    against = probability_of_improvement(Y, X, WORDS)
    assert against.value == pytest.approx(1 - expected)
    draw = np.random.default_rng(5).integers

    def resampled():
        x, y = X[draw(12, size=(12, 3)), np.arange(3)], Y[draw(10, size=(10, 3)), np.arange(3)]
        return np.mean((x[:, None] > y).mean((0, 1)) + 0.5 * (x[:, None] == y).mean((0, 1)))

    low, high = np.quantile([resampled() for _ in range(4000)], [0.025, 0.975])
    np.testing.assert_allclose(found[1:], (low, high), atol=0.06 * (high - low))


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="3 and on 1 tasks"):
        probability_of_improvement(X, Y[:, 0], WORDS)
    with pytest.raises(ValueError, match="NaN"):
        probability_of_improvement(np.array([np.nan]), np.array([0.0]), WORDS)


# --- curves ----------------------------------------------------------------------------------------------------------


class Told(Table):
    """Scores of whole schedules by their first action."""

    def score(self, path):
        return (0.5, 0.25, 0.75, 0.75)[path[0]]


@pytest.fixture
def account():
    """Schedules seen at 41, 82, 123 and 164 gradient steps."""
    account = Account(Told(), 1000.0)
    for action in range(4):
        account.train_whole((action,) * 4)
        account.score((action,) * 4)
    return account


def test_a_curve_is_the_best_by_each_budget(account):
    nan = np.nan
    budgets = [0, 40.9, 41, 100, 122.9, 123, 1e6]
    np.testing.assert_array_equal(curve(account, budgets), [nan, nan, 0.5, 0.5, 0.5, 0.75, 0.75])
    for budget, best in zip(budgets, curve(account, budgets), strict=True):
        seen = account.best(within=budget)
        assert (seen.score if seen else nan) == pytest.approx(best, nan_ok=True)
    empty = Account(Told(), 10.0)
    np.testing.assert_array_equal(curves([account, empty], [41]), [[0.5], [nan]])


def test_steps_to_a_level(account):
    assert [steps_to(account, level) for level in (0.1, 0.5, 0.6, 0.75)] == [41, 41, 123, 123]
    assert np.isnan(steps_to(account, 0.76))


def test_curves_have_intervals_at_each_budget(monkeypatch):
    scores = np.maximum.accumulate(np.random.default_rng(6).normal(size=(9, 4)), axis=1)
    scores[0, 0] = np.nan
    found = curve_intervals(scores, WORDS)
    assert [part.shape for part in found] == [(4,)] * 3 and np.isnan([part[0] for part in found]).all()
    for at in (1, 2, 3):
        single = interval(scores[:, at], WORDS)
        np.testing.assert_allclose([part[at] for part in found], single)
    monkeypatch.setattr(statistics, "_AT_ONCE", 500)
    np.testing.assert_array_equal(curve_intervals(scores, WORDS), found)


# --- whether two are told apart --------------------------------------------------------------------------------------


def test_p_is_that_of_all_permutations():
    """With ties: counted by hand for 3 and 2 runs."""
    x, y = np.array([1.0, 2.0, 2.0]), np.array([0.0, -np.inf])
    assert statistics.p_value(x, y) == pytest.approx(2 / 10)
    assert statistics.p_value(y, x) == pytest.approx(2 / 10)
    assert statistics.p_value(x, x) == 1.0
    assert statistics.p_value(x, y[:1]) == 1.0, "of one run nothing is told"
    for runs in (1, 2, 4, 5):
        apart = np.arange(runs) + 10.0, np.arange(runs) + 0.0
        assert statistics.p_value(*apart) == pytest.approx(statistics.least_p(runs))
    assert statistics.p_value(np.arange(40.0), np.arange(40.0) + 30) < 1e-6  # too many to be permuted
    with pytest.raises(ValueError, match="NaN"):
        statistics.p_value(x, np.array([np.nan]))


@pytest.mark.slow
def test_alike_are_called_apart_no_oftener_than_they_may():
    """Of 3 rivals as good as the schedule, with 5 runs each: the chance that any is told apart is 0.05 at most. 400
    such reports have 32 or fewer then, but for a chance of 0.6 %."""
    draw = np.random.default_rng(0).normal
    false = 0
    for _ in range(400):
        ours = draw(size=5)
        values = [statistics.p_value(ours, draw(size=5)) for _ in range(3)]
        false += min(statistics.holm(values)) < 0.05
    assert false <= 32


def test_holm_multiplies_the_least_by_the_number_of_comparisons():
    assert statistics.holm([0.04, 0.01, 0.5]) == pytest.approx([0.08, 0.03, 0.5])
    assert statistics.holm([0.6, 0.02]) == pytest.approx([0.6, 0.04])
    assert statistics.holm([0.4, 0.3]) == pytest.approx([0.6, 0.6]), "none below that of a smaller one"
    assert statistics.holm([]) == []
