"""A tiny model on a few messages, explored once.

Searches and optimisers run as their users run them: with JAX's own promotion rules.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import pytest

from jaxft.explore.recipe import ExploreRecipe
from jaxft.train import segments

STRATEGIES = [
    {"learning_rate": 3.0},
    {"freeze": "encoder", "learning_rate": 10.0},
    {"learning_rate": 1e6},  # with which training diverges
]
CONFIRMED = {"confirm_seeds": 2, "test_metric": "loss"}


@pytest.fixture(scope="module")
def as_users_do() -> Iterator[None]:
    """For what lives as long as a file of tests; layers in a loop, which compiles faster."""
    real = segments.model_of
    with jax.numpy_dtype_promotion("standard"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "model_of", lambda setup, strategy: real(setup, strategy).clone(unroll=1))
        yield


@pytest.fixture(autouse=True)
def promotion() -> Iterator[None]:
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="session")
def messages(sms_spam: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with 160 text messages."""
    path = tmp_path_factory.mktemp("data") / "messages.csv"
    with (
        open(sms_spam, encoding="utf-8", newline="") as source,
        open(path, "w", encoding="utf-8", newline="") as target,
    ):
        csv.writer(target).writerows(row for row, _ in zip(csv.reader(source), range(161), strict=False))
    return path


@pytest.fixture(scope="session")
def tree_on(tiny_model: Callable[..., Path], messages: Path) -> Callable[..., dict[str, Any]]:
    """A recipe as nested dicts: runs of two segments of 10 steps, batches of one shape."""
    model = str(tiny_model(positions=32, layers=1))

    def make(out: Path | str, **changes: dict[str, Any]) -> dict[str, Any]:
        """changes: section -> keys that are others."""
        tree: dict[str, Any] = {
            "task": "classify",
            "model": model,
            "data": {"train": str(messages), "test": 0.2, "search": 0.2, "max_tokens": 16},
            "train": {"steps": 20, "batch_size": 16, "packing": False, "row_tokens": 16},
            "optim": {"learning_rate": 3.0e-3},
            "explore": {"segments": 2, "strategies": STRATEGIES, "budget": 110} | CONFIRMED,
            "out": str(out),
        }
        for section, keys in changes.items():
            tree[section] = {**tree[section], **keys} if isinstance(keys, dict) else keys
        return tree

    return make


@pytest.fixture(scope="session")
def recipe_on(tree_on: Callable[..., dict[str, Any]]) -> Callable[..., ExploreRecipe]:
    from jaxft import recipe

    return lambda out, **changes: recipe.from_tree(tree_on(out, **changes), kind=ExploreRecipe)
