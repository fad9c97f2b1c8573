"""The report of a run: report.md with its plots for people, report.json for programs, a summary for the terminal.

report.json is written last: a run is finished iff it exists.
"""

from __future__ import annotations

import shlex

import numpy as np
from rich.console import Console
from scipy.stats import binomtest

from jaxft.report import model_card, plots, tables
from jaxft.report.result import DataFacts, Result, confusion_labels, length_facts, to_json
from jaxft.report.run_folder import RunFolder

__all__ = ["DataFacts", "Result", "markdown", "show", "to_json", "write"]


def write(folder: RunFolder, result: Result) -> None:
    """Writes the plots, report.md, the card of the model (if model/ exists) and, last, report.json."""
    drawn = _draw(folder, result)
    folder.write_text(folder.report_md, markdown(result, folder, drawn))
    if folder.model.is_dir():
        model_card.write(folder.model, result)
    folder.write_json(folder.report_json, to_json(result))


def show(result: Result, folder: RunFolder, console: Console) -> None:
    """Prints the tables of the run and where the rest is."""
    for grid in _grids(result):
        console.print(tables.to_rich(grid))
        console.print()
    console.print(f"report: {folder.report_md}", markup=False, highlight=False, soft_wrap=True)
    if folder.model.is_dir():
        console.print(f"model:  {folder.model}", markup=False, highlight=False, soft_wrap=True)


def _draw(folder: RunFolder, result: Result) -> list[tuple[str, str]]:
    """Draws what there is to draw; titles and file names of the plots."""
    drawn = []
    records = folder.records()
    if any(record.get("kind") == "train" for record in records):
        plots.learning_curves(records, folder.plot("learning_curves"), result.metric, result.best_step)
        drawn.append(("Learning curves", "learning_curves.png"))
    if result.confusion is not None:
        plots.confusion(result.confusion, confusion_labels(result), folder.plot("confusion"))
        drawn.append(("Confusion matrix", "confusion.png"))
    if result.calibration is not None:
        plots.calibration(result.calibration, folder.plot("calibration"))
        drawn.append(("Calibration", "calibration.png"))
    if result.lengths is not None and len(result.lengths):
        plots.lengths(result.lengths, result.max_tokens, folder.plot("lengths"))
        drawn.append(("Lengths", "lengths.png"))
    return drawn


# --- report.md -------------------------------------------------------------------------------------------------------


def markdown(result: Result, folder: RunFolder, drawn: list[tuple[str, str]]) -> str:
    """The text of report.md; `drawn`: titles and file names of the plots beside it."""
    images = {title: f"![{title}]({name})\n" for title, name in drawn}
    parts = [f"# {tables.escape(_title(result))}\n", _headline(result)]
    if result.warnings:
        parts += ["## Warnings\n", "".join(f"- {tables.escape(str(warning))}\n" for warning in result.warnings)]
    for grid in _grids(result):
        parts += [f"## {grid.title}\n", tables.to_markdown(grid)]
        if grid.title == tables.BEFORE_AFTER:
            parts.append(_noise(result))
        parts.append(images.pop(grid.title, ""))
    parts += [f"## {title}\n\n{image}" for title, image in images.items()]
    parts += ["## Data\n", tables.to_markdown(tables.data(result)), _lengths(result), _changed(result)]
    parts += ["## Run\n", tables.to_markdown(_run_grid(result))]
    parts += ["## Do it again\n", _again(result, folder)]
    return "\n".join(part for part in parts if part)


def _title(result: Result) -> str:
    return f"{result.model} on {result.data.name} ({result.task})"


def _headline(result: Result) -> str:
    if not result.scored:
        return f"Trained for {result.steps:,} steps; there was no dev or test set to score.\n"
    return f"**{tables.sentence(result)}**\n"


def _grids(result: Result) -> list[tables.Grid]:
    grids = []
    if result.scored:
        grids.append(tables.before_after(result.before, result.dev, result.test, result.scored))
    grids += [tables.per_label(table, of) for of, table in result.tables.items() if table]
    if result.confusion is not None:
        grid = tables.confusion(result.confusion, confusion_labels(result))
        grids += [grid] if grid.rows else []  # no mistakes at all
    return grids


def _noise(result: Result) -> str:
    """The interval of the accuracy that the number of examples leaves open, where accuracy counts examples."""
    size = result.data.sizes.get(result.scored, 0)
    if result.confusion is None or "accuracy" not in result.after or int(np.sum(result.confusion)) != size:
        return ""
    interval = binomtest(int(np.trace(result.confusion)), size).proportion_ci(method="wilson")
    text = f"With {size:,} {result.scored} examples, the 95% interval of the accuracy (Wilson) is "
    return text + f"{interval.low:.4f} to {interval.high:.4f}; another seed moves it as well.\n"


def _lengths(result: Result) -> str:
    lines = [f"Labels: {', '.join(map(tables.escape, result.labels))}."]
    if result.lengths is not None and len(result.lengths):
        facts = length_facts(result.lengths)
        lines.append(f"Training examples have {facts['min']} to {facts['max']} tokens, median {facts['median']:g}.")
    lines.append(f"Limit: {result.max_tokens} tokens; {result.truncated:,} examples were cut.")
    if result.data.licence:
        lines.append(f"Licence of the data, as its source states it: {tables.escape(result.data.licence)}.")
    return " ".join(lines) + "\n"


def _changed(result: Result) -> str:
    """What noise did to the training data."""
    if not result.noise:
        return ""
    told = {
        "labels": "labels changed",
        "typos": "words misspelt",
        "replaced": "tokens replaced",
        "masked": "tokens masked",
        "swapped": "tokens swapped with the next",
        "dropped": "tokens dropped",
    }
    parts = [f"{count['changed']:,} of {count['of']:,} {told[kind]}" for kind, count in result.noise.items()]
    return f"Noise in the training data, over all steps taken: {'; '.join(parts)}.\n"


def _run_grid(result: Result) -> tables.Grid:
    real, padded = result.tokens["real"], result.tokens["padded"]
    best = "the last" if result.best_step is None else f"{result.best_step:,} (best dev {result.metric})"
    memory = "not measured" if result.peak_memory_mb is None else f"{result.peak_memory_mb:,.0f} MB"
    return tables.facts(
        "Run",
        {
            "steps": f"{result.steps:,}" + (" (stopped early)" if result.stopped_early else ""),
            "exported step": best,
            "real tokens": f"{real:,}",
            "padding": f"{padded:,} ({padded / max(real + padded, 1):.1%} of all places)",
            "real tokens a second": f"{result.real_tokens_per_s:,.0f}",
            "wall time": f"{result.wall_s:,.1f} s",
            "of that compiling": f"{result.compile_s:,.1f} s",
            "time to first step": f"{result.time_to_first_step_s:,.1f} s",
            "device waited for input": f"{result.input_stall_s:,.2f} s",
            "peak memory": memory,
            "device": result.device,
            "matrix products": result.dtype,
            "kernels": ", ".join(f"{name}: {chosen}" for name, chosen in result.implementation.items()),
            "seeds": ", ".join(f"{name} {seed}" for name, seed in result.seeds.items()),
        },
    )


def _again(result: Result, folder: RunFolder) -> str:
    again = shlex.join(["jaxft", "train", str(folder.recipe), "--out", f"{folder.path}-again"])
    return f"```\n{again}\n```\n\n{guarantee(result, folder)}\n\nParameters (sha256): `{result.params_sha256}`\n"


def guarantee(result: Result, folder: RunFolder) -> str:
    """What the run's numerics promise, in Markdown."""
    if result.numerics == "canonical":
        return (
            "Numerics: **canonical**. The same recipe gives the same parameters, to the bit, when it is run again on "
            "the same kind of device, any number of them that divides `train.micro_batches`, with the versions and, on "
            f"CPU, the thread pool of `env.json`; `{shlex.join(['jaxft', 'verify', str(folder.path)])}` does so."
        )
    return (
        "Numerics: **fast**. Sums are taken in the quickest order, so another number of devices can change the last "
        "bits of the parameters: no bit-for-bit promise. `numerics: canonical` makes it."
    )
