"""Which devices a run takes."""

from __future__ import annotations

import jax
import pytest

from jaxft.errors import UserError
from jaxft.mesh import devices
from tests.conftest import DEVICES


@pytest.mark.parametrize(("micro_batches", "count"), [(1, 1), (2, 2), (4, 4), (8, 8), (16, 8)])
def test_by_default_as_many_as_share_the_micro_batches(micro_batches, count):
    assert devices.choose(-1, micro_batches).size == count


def test_a_number_is_taken_from_the_first_on():
    assert list(devices.choose(2, 8).devices.flat) == jax.devices()[:2]


def test_more_than_there_are_is_an_error_that_names_what_fits():
    with pytest.raises(UserError, match=rf"mesh.data: 16 devices are wanted, there are {DEVICES} .* one of 1, 2, 4, 8"):
        devices.choose(16, 16)
