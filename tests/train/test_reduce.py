"""Sums in one fixed tree: inside a device, across devices, and both together."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxft.mesh import devices
from jaxft.train import reduce
from jaxft.train.reduce import PairwiseSum


def tree_sum(parts: list[Any]) -> Any:
    """The definition: neighbours are added, level by level."""
    while len(parts) > 1:
        parts = [one + other for one, other in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


class Waiting(PairwiseSum):
    """Counts what waits at most."""

    most = 0

    def push(self, part: Any) -> None:
        super().push(part)
        self.most = max(self.most, len(self._waiting))


@given(st.integers(0, 7))
def test_parts_are_added_in_pairs_and_log2_of_them_wait(level):
    total = Waiting(lambda one, other: f"({one}+{other})")
    for number in range(2**level):
        total.push(str(number))
    assert total.total() == tree_text([str(number) for number in range(2**level)])
    assert total.most <= max(level, 1)


def tree_text(parts: list[str]) -> str:
    while len(parts) > 1:
        parts = [f"({one}+{other})" for one, other in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


@pytest.mark.parametrize("count", [0, 3, 6, 12])
def test_no_power_of_two_has_no_total(count):
    total = PairwiseSum(lambda one, other: one + other)
    for number in range(count):
        total.push(number)
    with pytest.raises(ValueError, match=f"{count} parts are no power of two"):
        total.total()


def rough(*shape: int) -> np.ndarray:
    """Numbers of very different size, so that another order of additions gives other bits; and some -0."""
    words = np.random.default_rng(sum(shape)).integers(0, 2**31, size=(2, *shape))
    values = (words[0] / 2**31 - 0.5) * 10.0 ** (words[1] % 12)
    return np.where(words[1] % 9 == 0, -0.0, values).astype(np.float32)


@pytest.mark.parametrize("size", [2, 4, 8])
def test_across_devices_the_tree_is_the_same(size):
    """One leaf that devices can share out (halving), one that they cannot (butterfly), one number a device."""
    mesh = devices.choose(size, size)
    leaves = {"shared": rough(size, 24, 8), "whole": rough(size, 7, 5), "number": rough(size, 1)}
    flat = {name: leaf.reshape(-1, *leaf.shape[2:]) for name, leaf in leaves.items()}
    found = jax.jit(reduce.across(mesh))(jax.device_put(flat, devices.spread(mesh)))
    for name, leaf in leaves.items():
        expected = tree_sum(list(leaf))
        assert not size > 2 or not np.array_equal(leaf.sum(0, dtype=np.float32), expected) or name == "number"
        for copy in found[name].addressable_shards:
            assert np.asarray(copy.data).tobytes() == expected.tobytes(), name


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_any_split_into_devices_and_turns_gives_the_same_bits(size):
    parts, mesh = rough(16, 40), devices.choose(size, 16)
    turns, total = 16 // size, PairwiseSum(jax.jit(lambda one, other: one + other))
    for turn in range(turns):
        total.push(jax.device_put(parts[turn::turns].reshape(-1), devices.spread(mesh)))
    found = total.total()
    if size > 1:
        found = jax.jit(reduce.across(mesh))(found)
    assert np.asarray(found).tobytes() == tree_sum(list(parts)).tobytes()
