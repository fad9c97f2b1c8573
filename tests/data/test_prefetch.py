"""Prefetch: order, depth, errors, stopping."""

from __future__ import annotations

import threading

import pytest

from jaxft.data.prefetch import Prefetch


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "jaxft-prefetch"]


def test_items_come_in_order():
    with Prefetch(lambda number: number * number, range(50), depth=3) as items:
        assert list(items) == [number * number for number in range(50)]
    assert not workers()


def test_nothing_is_made_before_it_is_entered():
    made: list[int] = []
    Prefetch(made.append, range(3))
    assert made == []


def test_no_more_than_depth_items_wait():
    made, full = [], threading.Event()

    def make(number: int) -> int:
        made.append(number)
        if number == 3:
            full.set()  # two wait in the queue, one in the hand that wants to put it, and this
        return number

    with Prefetch(make, range(100), depth=2) as items:
        iterator = iter(items)
        assert next(iterator) == 0
        assert full.wait(timeout=30)
        assert next(iterator) == 1
        assert len(made) <= 5
    assert not workers()


def test_an_error_comes_in_its_items_place():
    def make(number: int) -> int:
        if number == 2:
            raise KeyError("broken item")
        return number

    got = []
    with pytest.raises(KeyError, match="broken item"), Prefetch(make, range(5)) as items:
        for item in items:
            got.append(item)
    assert got == [0, 1] and not workers()


@pytest.mark.parametrize("taken", [0, 1, 4])
def test_leaving_early_stops_the_thread(taken):
    with Prefetch(lambda number: number, iter(int, 1), depth=2) as items:
        for _ in zip(range(taken), items, strict=False):
            pass
    assert not workers()


def test_waiting_is_measured():
    gate = threading.Event()

    def make(number: int) -> int:
        gate.wait(timeout=30)
        return number

    with Prefetch(make, range(2)) as items:
        assert items.stall_s == 0.0
        threading.Timer(0.05, gate.set).start()
        assert list(items) == [0, 1]
        assert items.stall_s > 0.0


def test_no_items_are_no_error():
    with Prefetch(lambda number: number, []) as items:
        assert list(items) == []
