"""The environment `walk` of worlds.py, by name, for the tests that ask for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from jaxft.rl import envs
from tests.rl import worlds


@pytest.fixture(scope="module")
def walk() -> Iterator[None]:
    families = envs.families() | {"walk": worlds.family()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(envs, "families", lambda: families)
        yield
