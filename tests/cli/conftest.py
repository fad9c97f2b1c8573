"""A small data set and, trained on it through the command line, a run of a tiny model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import pytest

from jaxft.cli.main import main

MESSAGES = [(f"message number {i} {'win a prize' if i % 3 else 'see you soon'}", i % 3) for i in range(60)]


@pytest.fixture(scope="session")
def promotion_for_optax() -> Iterator[None]:
    """optax raises a float to the power of an int32, which strict promotion forbids."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="session")
def messages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 texts, ham or spam, as CSV."""
    path = tmp_path_factory.mktemp("data") / "messages.csv"
    lines = [f"{text},{'spam' if spam else 'ham'}" for text, spam in MESSAGES]
    path.write_text("\n".join(["text,label", *lines]) + "\n")
    return path


@pytest.fixture(scope="session")
def recipe_on(tiny_model: Callable[..., Path]) -> Callable[..., dict[str, Any]]:
    """A recipe as nested dicts: the tiny model on a source, two steps."""
    model = str(tiny_model("none"))

    def make(train: str | Path, out: str | Path, task: str = "classify", **data: Any) -> dict[str, Any]:
        return {
            "task": task,
            "model": model,
            "data": {"train": str(train), "max_tokens": 64, **data},
            "train": {"steps": 2, "batch_size": 16},
            "out": str(out),
        }

    return make


@pytest.fixture(scope="session")
def run(messages: Path, recipe_on, promotion_for_optax, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder that `jaxft train` wrote."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "recipe.yaml").write_text(json.dumps(recipe_on(messages, folder / "run", dev=0.2, test=0.2)))
    assert main(["train", str(folder / "recipe.yaml"), "--quiet"]) == 0
    return folder / "run"
