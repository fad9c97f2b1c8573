"""`sample`: a small result of each task and a run folder, as a training run would give them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from jaxft.errors import Problem
from jaxft.evaluate import metrics
from jaxft.report.result import DataFacts, Result
from jaxft.report.run_folder import RunFolder

GOLD = [0] * 90 + [1] * 10
PREDICTED = [0] * 89 + [1] + [0] * 2 + [1] * 8


def classify(**changes: Any) -> Result:
    labels = ("ham", "spam")
    scored = metrics.classification(GOLD, PREDICTED, labels)
    probabilities = np.eye(2)[PREDICTED] * 0.9 + 0.05
    facts = DataFacts(
        name="sms_spam",
        sizes={"train": 800, "dev": 50, "test": 100},
        sha256={"train": "a" * 64, "dev": "a" * 64, "test": "a" * 64},
        sources={"dev": "10% of train"},
        labels={"test": {"ham": 90, "spam": 10}},
        licence="MIT",
    )
    values: dict[str, Any] = {
        "task": "classify", "model": "minilm", "labels": labels, "data": facts, "metric": "accuracy",
        "before": {"accuracy": 0.1, "macro_f1": 0.2, "mcc": 0.0},
        "dev": {"accuracy": 0.98, "macro_f1": 0.9, "mcc": 0.8},
        "test": scored.scores, "scored": "test", "tables": {"label": scored.per_class}, "confusion": scored.confusion,
        "calibration": metrics.calibration(probabilities, GOLD), "steps": 75, "best_step": 50, "stopped_early": True,
        "tokens": {"real": 60_000, "padded": 4_000}, "truncated": 3, "lengths": np.arange(5, 205), "max_tokens": 128,
        "real_tokens_per_s": 1234.5, "wall_s": 61.25, "compile_s": 9.5, "time_to_first_step_s": 12.0,
        "input_stall_s": 0.125, "peak_memory_mb": None, "numerics": "canonical", "micro_batches": 4, "dtype": "f32",
        "device": "cpu x 1", "seeds": {"init": 0, "dropout": 7}, "params_sha256": "f" * 64,
        "implementation": {"attention": "xla", "dropout": "xla"}, "model_licence": "Apache-2.0",
        "warnings": (Problem("data.test", "3 examples are in train too", "remove them"), "rare label: <spam>"),
    }  # fmt: skip
    return Result(**(values | changes))


def tag(**changes: Any) -> Result:
    gold = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "B-LOC", "O"]]
    predicted = [["B-PER", "I-PER", "O", "B-PER"], ["O", "B-LOC", "O"]]
    scored = metrics.tagging(gold, predicted)
    confusion, tags = metrics.tag_confusion(gold, predicted)
    facts = DataFacts(name="conll2003", sizes={"train": 14, "dev": 3, "test": 2}, sha256={"train": "b" * 64})
    values: dict[str, Any] = {
        "task": "tag", "labels": tags, "data": facts, "metric": "f1", "before": {"f1": 0.0}, "dev": {"f1": 0.5},
        "test": scored.scores, "tables": {"entity": scored.per_entity, "tag": scored.per_tag},
        "confusion": confusion, "confusion_labels": tags, "calibration": None, "warnings": (),
    }  # fmt: skip
    return classify(**(values | changes))


def folder(path: Path) -> RunFolder:
    """A run folder as it stands when training has ended."""
    run = RunFolder(path).create()
    for step in range(10, 80, 10):
        run.log({"kind": "train", "step": step, "loss": 5 / step, "learning_rate": 5e-5 * (1 - step / 80)})
    for step in (25, 50, 75):
        run.log({"kind": "eval", "step": step, "split": "dev", "scores": {"accuracy": 0.9 + step / 1000, "f1": 0.5}})
    run.model.mkdir()
    return run


@pytest.fixture
def sample() -> SimpleNamespace:
    return SimpleNamespace(classify=classify, tag=tag, folder=folder)
