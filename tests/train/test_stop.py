"""Early stopping."""

from __future__ import annotations

import pytest

from jaxft.train.stop import EarlyStopping


def watch(scores: list[float], metric: str = "f1", patience: int | None = 2) -> tuple[EarlyStopping, list[bool]]:
    """Observes scores at steps 10, 20, ...; parameters are the step's number as text."""
    stopping = EarlyStopping(metric, patience)
    return stopping, [stopping.observe(10 * n, {metric: s}, str(10 * n)) for n, s in enumerate(scores, 1)]


def test_the_best_score_and_its_parameters_are_kept():
    stopping, best = watch([0.2, 0.7, 0.5, 0.6])
    assert best == [True, True, False, False]
    assert (stopping.best_score, stopping.best_step, stopping.best_params) == (0.7, 20, "20")


def test_loss_is_better_when_lower():
    stopping, best = watch([0.9, 0.4, 0.6], metric="loss")
    assert best == [True, True, False] and stopping.best_step == 20


def test_a_tie_keeps_the_earlier_parameters():
    stopping, best = watch([0.5, 0.5])
    assert best == [True, False] and stopping.best_params == "10"


@pytest.mark.parametrize(("scores", "stops"), [([0.5, 0.4], False), ([0.5, 0.4, 0.3], True), ([0.5, 0.4, 0.6], False)])
def test_patience_counts_evaluations_in_a_row(scores, stops):
    assert watch(scores)[0].should_stop is stops


def test_a_better_score_starts_the_count_again():
    stopping, _ = watch([0.5, 0.4, 0.6, 0.5])
    assert not stopping.should_stop and stopping.since_best == 1


def test_without_patience_it_never_stops():
    assert not watch([0.5, *[0.1] * 50], patience=None)[0].should_stop


def test_a_score_that_is_no_number_is_never_the_best():
    stopping, best = watch([float("nan"), 0.5, float("nan")])
    assert best == [False, True, False] and stopping.best_step == 20
