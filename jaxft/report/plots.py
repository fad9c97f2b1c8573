"""The pictures of a report, one function a picture, each saved as PNG.

Matplotlib's object interface on its Agg canvas: no global state, no display, no thread trouble. Colours are those of
Okabe and Ito, which colour-blind readers can tell apart. Labels come from data, so nothing is read as TeX.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter, StrMethodFormatter

from jaxft.evaluate.metrics import Calibration
from jaxft.report.result import length_facts
from jaxft.report.tables import printable

BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#666666"
STYLE: Any = {
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e2e2e2",
    "legend.edgecolor": "none",
    "savefig.dpi": 150,
    "text.parse_math": False,
}
MOST_ANNOTATED, MOST_NAMED, MOST_CHARS = 20, 60, 24


@contextmanager
def drawing(path: Path, width: float, height: float) -> Iterator[Figure]:
    """A figure of so many inches, saved to `path` at the end."""
    with mpl.rc_context(STYLE), warnings.catch_warnings():
        # a label in a script that DejaVu Sans lacks is drawn as boxes; the tables of the report have it in full
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="png", bbox_inches="tight", pad_inches=0.15)


# --- learning curves -------------------------------------------------------------------------------------------------


def learning_curves(
    records: Sequence[Mapping[str, Any]], path: Path, metric: str, best_step: int | None = None
) -> None:
    """Training loss, the dev metric and the learning rate over steps.

    records: of metrics.jsonl (see run_folder); losses that are not finite are left out.
    metric: name of the dev score. best_step: marked with a ring.
    """
    train = [record for record in records if record.get("kind") == "train"]
    evals = [record for record in records if record.get("kind") == "eval" and record.get("split") == "dev"]
    scores = _points((record["step"], record["scores"].get(metric)) for record in evals)
    panels = [lambda axes: _loss(axes, train, evals)]
    if scores[0]:
        panels.append(lambda axes: _dev_metric(axes, *scores, metric, best_step))
    panels.append(lambda axes: _learning_rate(axes, train))
    with drawing(path, 8, 2.2 * len(panels)) as figure:
        heights = [3.0] * (len(panels) - 1) + [1.5]
        rows = figure.subplots(len(panels), 1, sharex=True, height_ratios=heights)
        for draw, axes in zip(panels, rows, strict=True):
            draw(axes)
        rows[-1].set_xlabel("step")
        rows[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
        rows[-1].xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def _loss(axes: Axes, train: Sequence[Mapping[str, Any]], evals: Sequence[Mapping[str, Any]]) -> None:
    steps, losses = _points((record["step"], record.get("loss")) for record in train)
    window = max(1, len(losses) // 40)
    if window > 2:
        axes.plot(steps, losses, color=BLUE, alpha=0.3, linewidth=1, label="each record")
        smooth = [np.mean(losses[max(0, i - window // 2) : i + window // 2 + 1]) for i in range(len(losses))]
        axes.plot(steps, smooth, color=BLUE, linewidth=2, label=f"train (mean of {window // 2 * 2 + 1} records)")
    else:
        axes.plot(steps, losses, color=BLUE, linewidth=2, marker="o" if len(steps) < 15 else "", label="train")
    dev_steps, dev_losses = _points((record["step"], record["scores"].get("loss")) for record in evals)
    if dev_losses:
        axes.plot(dev_steps, dev_losses, color=RED, linewidth=2, marker="s", linestyle="--", label="dev")
    axes.set(title="Loss", ylim=(0, 1.08 * max([*losses, *dev_losses, 1e-6])))
    if losses or dev_losses:
        axes.legend(loc="upper right")


def _dev_metric(axes: Axes, steps: list[int], scores: list[float], metric: str, best_step: int | None) -> None:
    axes.plot(steps, scores, color=ORANGE, linewidth=2, marker="o")
    axes.set_title(f"Dev {printable(metric)}")
    axes.margins(y=0.15)
    if best_step in steps:
        best = scores[steps.index(best_step)]
        axes.plot(
            [best_step], [best], "o", markersize=14, markerfacecolor="none", markeredgecolor=RED, markeredgewidth=2
        )
        axes.set_title(f"Dev {printable(metric)} (best: {best:.4f} at step {best_step:,})")


def _learning_rate(axes: Axes, train: Sequence[Mapping[str, Any]]) -> None:
    steps, rates = _points((record["step"], record.get("learning_rate")) for record in train)
    axes.plot(steps, rates, color=GREEN, linewidth=2)
    axes.set(title="Learning rate", ylim=(0, 1.12 * max([*rates, 1e-12])))
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:.2g}"))


def _points(pairs: Any) -> tuple[list[int], list[float]]:
    """Two lists of the pairs whose second is a finite number."""
    kept = [(step, value) for step, value in pairs if value is not None and np.isfinite(value)]
    return [step for step, _ in kept], [float(value) for _, value in kept]


# --- confusion matrix ------------------------------------------------------------------------------------------------


def confusion(matrix: Any, labels: Sequence[str], path: Path) -> None:
    """Confusion matrix int [C, C] (row = gold, column = predicted): colour is the share of the gold label, numbers are
    counts (up to MOST_ANNOTATED labels). Labels are named up to MOST_NAMED."""
    matrix = np.asarray(matrix)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    cell = 0.95 if len(labels) <= 4 else 0.62 if len(labels) <= MOST_ANNOTATED else 0.2
    side = min(max(len(labels) * cell, 2.6), 12)
    with drawing(path, side + 3, side + 1.9) as figure:
        axes = figure.subplots()
        axes.grid(False)
        image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 1))  # a root, so that rare mistakes show
        axes.set(title="Confusion matrix", xlabel="predicted", ylabel="gold")
        axes.spines[:].set_visible(False)
        _name_axes(axes, labels)
        if len(labels) <= MOST_ANNOTATED:
            edges = np.arange(1, len(labels)) - 0.5
            axes.hlines(edges, -0.5, len(labels) - 0.5, color="white", linewidth=1.5)
            axes.vlines(edges, -0.5, len(labels) - 0.5, color="white", linewidth=1.5)
            for (gold, guess), count in np.ndenumerate(matrix):
                ink = "white" if shares[gold, guess] > 0.35 else "black" if count else "#aaaaaa"
                axes.text(
                    guess, gold, f"{count:,}", ha="center", va="center", color=ink, fontsize=11 if side < 8 else 9
                )
        ticks = [0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1]
        bar = figure.colorbar(image, ax=axes, shrink=0.8, ticks=ticks, format=PercentFormatter(1, decimals=0))
        bar.set_label("share of the gold label")
        bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]


def _name_axes(axes: Axes, labels: Sequence[str]) -> None:
    if len(labels) > MOST_NAMED:
        axes.set(xlabel=f"predicted ({len(labels)} labels)", ylabel=f"gold ({len(labels)} labels)")
        return
    names = [_short(label) for label in labels]
    size = 11 if len(labels) <= MOST_ANNOTATED else 7
    wide = max(map(len, names)) > 6 or len(labels) > MOST_ANNOTATED
    axes.set_xticks(range(len(labels)), names, fontsize=size, rotation=90 if wide else 0)
    axes.set_yticks(range(len(labels)), names, fontsize=size)
    axes.tick_params(length=0)


def _short(label: str) -> str:
    label = printable(label)
    return label if len(label) <= MOST_CHARS else label[: MOST_CHARS - 10] + "…" + label[-9:]


# --- calibration -----------------------------------------------------------------------------------------------------


def calibration(calibrated: Calibration, path: Path) -> None:
    """Reliability diagram: accuracy of each confidence bin against the diagonal, and the predictions in each."""
    filled = [b for b in calibrated.bins if b.confidence is not None and b.accuracy is not None]
    width = 1 / len(calibrated.bins)
    with drawing(path, 6.4, 6.6) as figure:
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        centres = [b.low + width / 2 for b in filled]
        accuracies, confidences = [b.accuracy for b in filled], [b.confidence for b in filled]
        top.bar(centres, accuracies, width * 0.92, color=BLUE, alpha=0.75, label="accuracy of the bin")  # pyright: ignore
        top.plot([0, 1], [0, 1], color=GREY, linestyle="--", label="perfect calibration")
        top.plot(confidences, accuracies, "o", color=RED, label="mean confidence, accuracy")  # pyright: ignore
        top.set(title=f"Calibration (ECE {calibrated.ece:.4f})", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.03))
        top.legend(loc="upper left")
        counts = [b.count for b in filled]
        bars = bottom.bar(centres, counts, width * 0.92, color=GREY)
        bottom.bar_label(bars, [f"{count:,}" for count in counts], fontsize=9, padding=2)
        bottom.set(xlabel="confidence (probability of the predicted label)", ylabel="predictions")
        bottom.margins(y=0.3)
        bottom.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        figure.align_ylabels()


# --- lengths ---------------------------------------------------------------------------------------------------------


def lengths(tokens: Any, max_tokens: int, path: Path) -> None:
    """Histogram of the examples' lengths in tokens (before any cut), with the limit marked."""
    tokens = np.asarray(tokens)
    longer = int((tokens > max_tokens).sum())
    low, high = int(tokens.min()), int(tokens.max())
    width = max(1, -(-(high - low + 1) // 60))  # whole tokens a bar, at most 60 bars
    edges = np.arange(low, high + width + 1, width) - 0.5
    with drawing(path, 8, 4.2) as figure:
        axes = figure.subplots()
        axes.hist(tokens, bins=list(edges), color=BLUE, alpha=0.85)
        axes.set_title("Length of the training examples", pad=40)
        axes.set(xlabel="tokens", ylabel="examples")
        axes.grid(False, axis="x")
        axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
        note = f"{longer:,} of {len(tokens):,} ({longer / len(tokens):.1%}) are longer than the limit of {max_tokens:,}"
        facts = length_facts(tokens)
        note += f"\nmedian {facts['median']:,g}, 95% up to {facts['p95']:,}, longest {high:,}"
        axes.text(0, 1.03, note, transform=axes.transAxes, va="bottom", fontsize=10, color="#333333", linespacing=1.4)
        if high >= 0.5 * max_tokens:
            axes.axvline(max_tokens + 0.5, color=RED, linestyle="--", linewidth=2)
            axes.axvspan(max_tokens + 0.5, max(high, max_tokens) + 1.5, color=RED, alpha=0.08, linewidth=0)
            axes.text(
                max_tokens + 0.5, 0.97, "limit ", color=RED, ha="right", va="top", transform=axes.get_xaxis_transform()
            )
