"""Streams, derived keys and random access permutations."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from jaxft import prng
from jaxft.errors import UserError
from jaxft.recipe import MAX_SEED

WORDS = prng.stream("order", 0)


# --- keys ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 2**31, MAX_SEED])
def test_a_seed_gives_the_key_of_jax(seed):
    expected = jax.random.key_data(jax.random.key(seed, impl="threefry2x32"))
    np.testing.assert_array_equal(np.stack(prng.seed_words(seed)), expected)
    np.testing.assert_array_equal(jax.random.key_data(prng.key(prng.seed_words(seed))), expected)


@pytest.mark.parametrize("seed", [-1, MAX_SEED + 1, 2**32 + 5])
def test_a_seed_out_of_range_is_refused(seed):
    with pytest.raises(UserError, match=f"0 and {MAX_SEED}, is {seed}"):
        prng.stream("order", seed)


@settings(deadline=None)
@given(st.integers(0, MAX_SEED), st.integers(0, 2**32 - 1))
def test_fold_in_is_that_of_jax(seed, number):
    expected = jax.random.key_data(jax.random.fold_in(prng.key(prng.seed_words(seed)), np.uint32(number)))
    np.testing.assert_array_equal(np.stack(prng.fold_in(prng.seed_words(seed), number)), expected)


def test_fold_in_takes_many_numbers_at_once():
    many = prng.fold_in(WORDS, np.arange(5))
    for number in range(5):
        one = prng.fold_in(WORDS, number)
        assert (int(many[0][number]), int(many[1][number])) == (int(one[0]), int(one[1]))


def test_device_words_are_the_words():
    words = prng.device_words(WORDS)
    assert words.dtype == np.uint32 and words.tolist() == [int(word) for word in WORDS]


# --- streams ---------------------------------------------------------------------------------------------------------


def test_no_two_streams_share_a_tag_or_one_of_its_words():
    tags = [prng.stream_tag(name) for name in prng.STREAMS]
    assert len(prng.STREAMS) == 8
    assert len({word for tag in tags for word in tag}) == 2 * len(tags)


def test_streams_of_one_seed_differ_and_so_do_seeds_of_one_stream():
    keys = {tuple(map(int, prng.stream(name, seed))) for name in prng.STREAMS for seed in range(100)}
    assert len(keys) == 100 * len(prng.STREAMS)


def test_a_stream_is_golden():
    assert tuple(map(int, prng.stream("dropout", 0))) == GOLDEN_STREAM


GOLDEN_STREAM = (3267548250, 1356950725)


def test_an_unknown_stream_is_refused():
    with pytest.raises(ValueError, match="unknown stream 'dropuot'; known: init, order"):
        prng.stream("dropuot", 0)


def test_paths_have_keys_of_their_own():
    paths = ["encoder/layers/up/kernel", "encoder/layers/up/bias", "classifier/kernel", ""]
    assert len({tuple(map(int, prng.path_words(WORDS, path))) for path in paths}) == len(paths)


# --- permutations ----------------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 2000), st.integers(0, MAX_SEED))
def test_a_permutation_is_a_bijection(size, seed):
    result = prng.permutation(prng.stream("order", seed), size, np.arange(size))
    assert result.dtype == np.int64
    np.testing.assert_array_equal(np.sort(result), np.arange(size))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 1024, 1025, 2**18 + 7])
def test_a_permutation_of_awkward_sizes_is_a_bijection(size):
    result = prng.permutation(WORDS, size, np.arange(size))
    assert (np.bincount(result, minlength=size) == 1).all()


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 2000), st.data())
def test_random_access_gives_what_the_whole_permutation_has(size, data):
    positions = np.array(data.draw(st.lists(st.integers(0, size - 1), max_size=20)), np.int64)
    whole = prng.permutation(WORDS, size, np.arange(size))
    np.testing.assert_array_equal(prng.permutation(WORDS, size, positions), whole[positions])


def test_positions_are_left_as_they_were():
    positions = np.arange(10)
    prng.permutation(WORDS, 10, positions)
    np.testing.assert_array_equal(positions, np.arange(10))


@pytest.mark.parametrize("position", [-1, 5])
def test_a_position_outside_is_refused(position):
    with pytest.raises(ValueError, match=r"0 \.\. 4"):
        prng.permutation(WORDS, 5, np.array([0, position]))


@pytest.mark.parametrize("size", [7, 16, 50])
def test_every_item_lands_everywhere_alike_often(size):
    """Position -> item counts over 20 keys a position: chi-square of the doubly constrained table, two-sided 0.002."""
    counts, epochs = np.zeros((size, size)), 20 * size
    for epoch in range(epochs):
        counts[np.arange(size), prng.permutation(prng.fold_in(WORDS, epoch), size, np.arange(size))] += 1
    # Rows and columns sum to `epochs` exactly, so (size - 1)² cells are free.
    expected = epochs / size
    statistic = ((counts - expected) ** 2 / expected).sum() * (size - 1) / size
    assert 0.001 < stats.chi2((size - 1) ** 2).sf(statistic) < 0.999


def test_neighbours_are_parted():
    """Neighbouring positions hold rising and falling items alike often, and neighbouring items as chance has it."""
    size, rising, near, total = 1000, 0, 0, 100
    for epoch in range(total):
        result = prng.permutation(prng.fold_in(WORDS, epoch), size, np.arange(size))
        steps = np.diff(result)
        rising, near = rising + int((steps > 0).sum()), near + int((np.abs(steps) == 1).sum())
    # Rises in a random permutation of n: mean (n - 1) / 2, variance (n + 1) / 12. Neighbours kept: about Poisson(2).
    assert abs(rising - total * (size - 1) / 2) < 3.3 * (total * (size + 1) / 12) ** 0.5
    assert 0.001 < stats.poisson(2 * total).cdf(near) < 0.999


def test_epochs_differ():
    orders = [prng.permutation(prng.fold_in(WORDS, epoch), 500, np.arange(500)) for epoch in range(20)]
    agreements = [(a == b).sum() for number, a in enumerate(orders) for b in orders[:number]]
    assert max(agreements) <= 7  # 190 pairs, each about Poisson(1): P(8 or more) = 1e-5
