"""What a run found out, as one frozen record: the source of report.json, report.md and the model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from jaxft.errors import Problem
from jaxft.evaluate.metrics import Calibration, Table
from jaxft.report.run_folder import plain


@dataclass(frozen=True, kw_only=True)
class DataFacts:
    """The data of a run."""

    name: str
    """As the recipe names it (`data.train`)."""
    sizes: Mapping[str, int]
    """Split (train, dev, test) -> examples."""
    sha256: Mapping[str, str]
    """Split -> hash of the file it was read from."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """Split -> where it comes from: an asset, a file, or the share of another split."""
    labels: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Split -> label (tagging: entity type or tag) -> count."""
    licence: str | None = None


@dataclass(frozen=True, kw_only=True)
class Result:
    """The outcome of one training run. Seconds are wall clock; nothing is rounded."""

    task: str
    model: str
    """As the recipe names it."""
    labels: tuple[str, ...]
    """The C labels in the order of the model's outputs."""
    multi_label: bool = False
    """An example may have any number of labels."""
    data: DataFacts
    metric: str
    """The dev score that picked the best parameters."""

    before: Mapping[str, float]
    """Metric -> value on the split `scored`, before the first step."""
    dev: Mapping[str, float]
    """Metric -> value after training; empty without a dev set."""
    test: Mapping[str, float]
    """Metric -> value after training; empty without a test set."""
    scored: Literal["test", "dev", ""]
    """Split that before, tables, confusion and calibration are about; empty without a dev and a test set."""
    tables: Mapping[str, Table]
    """What its rows are (label, entity, tag) -> table; the first one becomes `per_class` of report.json."""
    confusion: Any = None
    """int [C, C], row = gold, column = predicted; none for many labels an example."""
    confusion_labels: tuple[str, ...] | None = None
    """Names of its rows, where they are not `labels` (tagging)."""
    calibration: Calibration | None = None

    steps: int
    """Optimiser steps taken."""
    best_step: int | None = None
    """Step whose parameters are exported; none: the last."""
    stopped_early: bool = False
    tokens: Mapping[str, int]
    """Places of the training rows: `real` held a token, `padded` held padding."""
    truncated: int = 0
    """Examples of all splits that were cut at max_tokens."""
    lengths: Any = None
    """int [E]: tokens of each training example before any cut."""
    max_tokens: int
    noise: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """What noise did to the training data in the steps taken: labels, typos, replaced, masked, swapped, dropped ->
    `changed` and `of` how many; empty where it is off. A token met in two epochs counts twice."""

    real_tokens_per_s: float
    """Training throughput, compilation and evaluation left out."""
    wall_s: float
    """The whole run."""
    compile_s: float
    time_to_first_step_s: float
    """From the start of the run to the end of its first step."""
    input_stall_s: float
    """Time in which the device waited for the host's input."""
    checkpoint_stall_s: float = 0.0
    """Time in which training stood still for checkpoints."""
    peak_memory_mb: float | None = None
    """None where it cannot be measured."""

    numerics: Literal["canonical", "fast"]
    micro_batches: int = 1
    dtype: str
    """Operands of matrix products: f32 or bf16."""
    device: str
    """Kind and number, such as "cpu x 1"."""
    cpu_threads: int | None = None
    """Size of XLA's thread pool, which decides the bits on CPU; None on accelerators."""
    seeds: Mapping[str, int]
    """Stream -> seed."""
    params_sha256: str
    """Hash of the exported parameters."""
    implementation: Mapping[str, str]
    """Kernel -> chosen implementation."""
    warnings: Sequence[str | Problem] = ()

    model_source: str = ""
    """Where the model came from: package and version, hub id, or nothing to add."""
    model_licence: str | None = None

    @property
    def after(self) -> Mapping[str, float]:
        """The scores on the split `scored`."""
        return {"test": self.test, "dev": self.dev, "": {}}[self.scored]

    @property
    def per_class(self) -> Table:
        return next(iter(self.tables.values()), {})


def to_json(result: Result) -> dict[str, Any]:
    """The tree of report.json."""
    names = (
        "task", "model", "data", "metric", "before", "dev", "test", "scored", "per_class", "steps", "best_step",
        "stopped_early", "tokens", "real_tokens_per_s", "wall_s", "compile_s", "time_to_first_step_s",
        "input_stall_s", "checkpoint_stall_s", "cpu_threads", "peak_memory_mb", "truncated", "max_tokens", "noise",
        "numerics", "micro_batches", "dtype", "device", "seeds", "params_sha256", "implementation", "labels",
        "multi_label",
    )  # fmt: skip
    tree = {name: getattr(result, name) for name in names}
    tree["warnings"] = list(map(str, result.warnings))
    tree["tables"] = dict(list(result.tables.items())[1:])
    tree["confusion"] = None
    if result.confusion is not None:
        tree["confusion"] = {"labels": confusion_labels(result), "counts": np.asarray(result.confusion)}
    tree["calibration"] = None
    if result.calibration is not None:
        tree["calibration"] = {"ece": result.calibration.ece, "bins": result.calibration.bins}
    tree["lengths"] = None if result.lengths is None else length_facts(result.lengths)
    return plain(tree)


def confusion_labels(result: Result) -> tuple[str, ...]:
    return result.labels if result.confusion_labels is None else result.confusion_labels


def length_facts(lengths: Any) -> dict[str, float]:
    """Least, middle, 95th percentile and most tokens of an example."""
    sizes = np.asarray(lengths)
    high = np.percentile(sizes, 95, method="inverted_cdf")  # the length of an example, not one in between
    return {"min": int(sizes.min()), "median": float(np.median(sizes)), "p95": int(high), "max": int(sizes.max())}
