"""The order of examples: every one once an epoch, by step number alone."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxft import prng
from jaxft.data.order import Order

WORDS = prng.stream("order", 0)
ORDERS = st.builds(Order, st.integers(1, 200), st.integers(4, 64), st.just(WORDS))


@settings(max_examples=30, deadline=None)
@given(ORDERS, st.integers(0, 3))
def test_an_epoch_holds_every_example_once(order, epoch):
    first = epoch * order.steps_per_epoch
    steps = [order.examples(step) for step in range(first, first + order.steps_per_epoch)]
    np.testing.assert_array_equal(np.sort(np.concatenate(steps)), np.arange(order.num_examples))


@settings(max_examples=30, deadline=None)
@given(ORDERS)
def test_only_the_last_step_of_an_epoch_is_short(order):
    sizes = [len(order.examples(step)) for step in range(order.steps_per_epoch)]
    assert all(size == order.batch_size for size in sizes[:-1])
    assert sizes[-1] == (order.num_examples % order.batch_size or order.batch_size)


def test_a_step_is_a_function_of_its_number():
    order = Order(100, 8, WORDS)
    alone = order.examples(17)
    for step in (3, 40, 0, 16):
        order.examples(step)
    np.testing.assert_array_equal(order.examples(17), alone)
    np.testing.assert_array_equal(Order(100, 8, WORDS).examples(17), alone)


def test_epochs_and_seeds_have_orders_of_their_own():
    def whole(words: prng.Words, epoch: int) -> tuple[int, ...]:
        order = Order(64, 64, words)
        assert order.epoch(epoch) == epoch
        return tuple(order.examples(epoch))

    orders = {whole(prng.stream("order", seed), epoch) for seed in range(3) for epoch in range(5)}
    assert len(orders) == 15


def test_the_batch_size_moves_no_example():
    """The order of an epoch is one permutation, whatever it is cut into."""
    whole = Order(50, 50, WORDS).examples(0)
    for batch_size in (1, 7, 32):
        order = Order(50, batch_size, WORDS)
        np.testing.assert_array_equal(np.concatenate([order.examples(s) for s in range(order.steps_per_epoch)]), whole)


def test_the_order_is_golden():
    assert Order(20, 20, WORDS).examples(1).tolist() == GOLDEN


GOLDEN = [12, 16, 2, 1, 15, 5, 17, 9, 13, 4, 10, 8, 11, 3, 18, 19, 7, 6, 0, 14]
