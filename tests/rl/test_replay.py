"""The replay buffer is a ring: what is oldest is written over, and only what is there is drawn."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from jaxft import draws
from jaxft.rl import replay

WORDS = jax.random.key_data(jax.random.key(8))


def filled(times: int, capacity: int = 12) -> replay.Buffer:
    """Steps are numbered 1, 2, ... in the order of [T = 2, n = 2]."""
    like = {"number": jax.ShapeDtypeStruct((), jnp.float32), "pair": jax.ShapeDtypeStruct((2,), jnp.int32)}
    buffer = replay.empty(like, capacity)
    for at in range(times):
        number = (1.0 + 4 * at + jnp.arange(4.0)).reshape(2, 2)
        pair = jnp.stack([number, -number], axis=-1).astype(jnp.int32)
        buffer = replay.add(buffer, {"number": number, "pair": pair})
    return buffer


def test_an_empty_buffer_has_its_capacity_and_no_size():
    buffer = filled(0)
    assert (buffer.capacity, int(buffer.size)) == (12, 0)
    assert buffer.data["pair"].shape == (12, 2) and buffer.data["pair"].dtype == jnp.int32


def test_steps_lie_in_the_order_of_time_and_the_oldest_are_written_over():
    assert [int(filled(times).size) for times in range(6)] == [0, 4, 8, 12, 12, 12]
    np.testing.assert_array_equal(filled(2).data["number"], [1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0])
    buffer = filled(4)
    np.testing.assert_array_equal(buffer.data["number"], [13, 14, 15, 16, 5, 6, 7, 8, 9, 10, 11, 12])
    assert int(buffer.added) == 16
    np.testing.assert_array_equal(buffer.data["pair"][:, 1], -buffer.data["number"].astype(jnp.int32))


def test_samples_are_steps_that_are_there_each_as_likely():
    drawn = replay.sample(filled(2), 8000, WORDS)
    numbers = np.asarray(drawn["number"]).astype(int)
    np.testing.assert_array_equal(drawn["pair"], np.stack([numbers, -numbers], axis=-1))  # of one step, all of it
    counts = np.bincount(numbers, minlength=9)
    assert counts[0] == 0 and len(counts) == 9
    assert stats.chisquare(counts[1:]).pvalue > 1e-4


def test_samples_depend_on_their_words_alone():
    one, two = (replay.sample(filled(3), 20, words)["number"] for words in (WORDS, draws.fold_in(WORDS, 1)))
    np.testing.assert_array_equal(one, jax.jit(replay.sample, static_argnums=1)(filled(3), 20, WORDS)["number"])
    assert (np.asarray(one) != np.asarray(two)).any()
