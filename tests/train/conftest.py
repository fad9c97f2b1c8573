"""Small real data, a tiny BERT, and recipes on them."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import pytest

from jaxft.recipe import Data, Noise, Optim, Recipe, Train
from jaxft.train.setup import Setup, set_up


@pytest.fixture(scope="module")
def promotion_for_optax() -> Iterator[None]:
    """optax raises a float to the power of an int32, which strict promotion forbids."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="session")
def tiny(tiny_model) -> Path:
    """Folder of a BERT of 2 layers, drawn at random, with MiniLM's tokenizer."""
    return tiny_model(positions=128, layers=2)


@pytest.fixture(scope="session")
def files(sms_spam, conll2003, tmp_path_factory) -> dict[str, Path]:
    """classify, tag -> a file with the first 160 text messages, or sentences."""
    path = tmp_path_factory.mktemp("data")
    found = {"classify": path / "messages.csv", "tag": path / "sentences.conll"}
    with (
        open(sms_spam, encoding="utf-8", newline="") as source,
        open(found["classify"], "w", encoding="utf-8", newline="") as target,
    ):
        csv.writer(target).writerows(row for row, _ in zip(csv.reader(source), range(161), strict=False))
    blocks = conll2003["train"].read_text("utf-8").split("\n\n")[1:161]
    found["tag"].write_text("\n\n".join(blocks) + "\n", "utf-8")
    return found


@pytest.fixture(scope="session")
def set_up_on(tiny, files, tmp_path_factory) -> Callable[..., Setup]:
    """A setup of the tiny model on one of `files`; tokens are kept in a cache of the tests' own."""
    cache = tmp_path_factory.mktemp("cache")

    def make(
        task: str = "classify",
        *,
        model: Any = None,
        optim: Optim | None = None,
        data: Any = None,
        noise: Noise | None = None,
        **train: Any,
    ) -> Setup:
        """data: keys of `Data`; train: keys of `Train`."""
        chosen = Recipe(
            task=task,
            model=str(model or tiny),
            data=Data(**{"train": str(files[task]), "max_tokens": 64, **(data or {})}),
            train=Train(**{"epochs": 2, "batch_size": 16, **train}),
            optim=optim or Optim(learning_rate=1e-3),
            noise=noise or Noise(),
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("JAXFT_CACHE", str(cache))
            return set_up(chosen)

    return make


@pytest.fixture
def compilations() -> Iterator[list[float]]:
    """Grows by one with every program that JAX's backend compiles or loads from its cache."""
    seen: list[float] = []

    def listen(event: str, duration_secs: float, **_: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            seen.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield seen
    jax.monitoring.unregister_event_duration_listener(listen)
