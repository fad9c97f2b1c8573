"""A whole run: set up, score, train, score again, export, report."""

from __future__ import annotations

import contextlib
import resource
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np
from rich.console import Console

from jaxft import assets, compilation, cpu_threads, recipe
from jaxft.errors import UserError
from jaxft.evaluate.score import Scored
from jaxft.kernels.attention import api as attention
from jaxft.kernels.dense import api as dense
from jaxft.kernels.dropout import api as dropout
from jaxft.model import folder as model_folder
from jaxft.recipe import AnyRecipe, Recipe
from jaxft.report import report
from jaxft.report.env import environment
from jaxft.report.progress import Progress
from jaxft.report.result import DataFacts, Result
from jaxft.report.run_folder import RunFolder
from jaxft.train import resume
from jaxft.train.clock import Clock
from jaxft.train.hashes import params_sha256
from jaxft.train.loop import Evaluator, Fitted, fit
from jaxft.train.setup import Setup, dtype_of, set_up

T = TypeVar("T")


def run(chosen: Recipe, *, overwrite: bool = False, quiet: bool = False, console: Console | None = None) -> Result:
    """Trains a recipe and writes its run folder; goes on with the unfinished run that is there, unless `overwrite`.

    Raises UserError on bad inputs, before anything is written.
    """
    console = console or Console(quiet=quiet)
    folder, clock = RunFolder(chosen.out), Clock()
    with opened(folder, chosen, set_up, overwrite) as (setup, resumes):
        for warning in setup.warnings:
            console.print(f"warning: {warning}", style="yellow", markup=False, highlight=False, soft_wrap=True)
        result = _train(setup, folder, clock, resumes, quiet, console)
    if not quiet:
        report.show(result, folder, console)
    return result


@contextlib.contextmanager
def opened(
    folder: RunFolder, chosen: AnyRecipe, set_up: Callable[[AnyRecipe], T], overwrite: bool
) -> Iterator[tuple[T, bool]]:
    """(what `set_up` makes of a recipe, whether the unfinished run in the folder goes on); the folder is made, and
    locked within the block. Raises UserError, before anything is written."""
    with contextlib.ExitStack() as held:
        if folder.holds_run:
            held.enter_context(folder.locked())
        resumes = folder.resumable and not overwrite
        if resumes and folder.recipe.is_file():
            resume.check_recipe(recipe.load(folder.recipe, type(chosen)), chosen, str(folder.path))
        if resumes:
            resume.take_threads(folder)
        compilation.keep()
        setup, new = set_up(chosen), not folder.holds_run
        _prepare(folder, chosen, overwrite, resumes)
        if new:
            held.enter_context(folder.locked())
        yield setup, resumes


def _train(setup: Setup, folder: RunFolder, clock: Clock, resumes: bool, quiet: bool, console: Console) -> Result:
    """Trains, scores and exports; report.json is written last."""
    metric = setup.recipe.train.stop_metric or setup.task.default_metric
    evaluator = Evaluator(setup)
    scored = next((split for split in ("test", "dev") if split in setup.datasets), "")
    with Progress(setup.num_steps, metric=metric, quiet=quiet, console=console) as progress:
        if resumes:
            progress.message(f"going on with the unfinished run in {folder.path}")
        before = _score_before(setup, evaluator, scored, metric, progress, folder)
        fitted = fit(setup, folder, progress, evaluator, clock)
        params = setup.partition.join(*setup.partition.split(fitted.params))
        after = {split: evaluator.score(split, params) for split in ("dev", "test") if split in setup.datasets}
    export(setup, fitted.params, folder)
    result = _result(setup, fitted, metric, before, after, scored)
    report.write(folder, result)
    return result


def _prepare(folder: RunFolder, chosen: Any, overwrite: bool, resumes: bool) -> None:
    """Makes the folder and writes the recipe in force; env.json stays that of the run's beginning."""
    folder.create(overwrite=overwrite, resume=resumes)
    if not folder.recipe.is_file():  # of a run that goes on, once its checkpoint is accepted
        folder.write_text(folder.recipe, recipe.dump(chosen))
    if not folder.env.is_file():
        folder.write_json(folder.env, environment())


def export(setup: Setup, params: dict[str, Any], folder: RunFolder) -> None:
    """Writes model/: weights, configuration, tokenizer."""
    multi_label = setup.recipe.data.multi_label
    folder.model.mkdir(exist_ok=True)
    model_folder.copy_tokenizer(setup.model_path, folder.model)
    model_folder.save(folder.model, setup.config, params, setup.task.head, setup.labels, multi_label)


def _score_before(
    setup: Setup, evaluator: Evaluator, scored: str, metric: str, progress: Progress, folder: RunFolder
) -> dict[str, float]:
    """The scores before the first step; of a run that goes on, from its records."""
    if not scored:
        return {}
    for record in folder.records():
        if (record["kind"], record["step"]) == ("eval", 0):
            return resume.scores_of(record)
    progress.message(f"scoring {scored} before training")
    params = setup.partition.join(*setup.partition.split(setup.params))
    scores = evaluator.scores(scored, params)
    if metric not in scores:
        raise UserError("train.stop_metric", f"there is no {metric!r}", f"one of {', '.join(scores)}")
    progress.evaluated(0, scores, scored)
    folder.log({"kind": "eval", "step": 0, "split": scored, "scores": scores, "best": False})
    return scores


def _result(
    setup: Setup, fitted: Fitted, metric: str, before: dict[str, float], after: dict[str, Scored], scored: str
) -> Result:
    chosen, clock = setup.recipe, fitted.clock
    final = after.get(scored)
    encoded = {split: data.encoded for split, data in setup.datasets.items()}
    limit = chosen.data.max_tokens
    cut = sum(int((tokens.lengths > limit).sum()) for tokens in encoded.values())
    return Result(
        task=chosen.task,
        model=chosen.model,
        labels=setup.labels,
        multi_label=chosen.data.multi_label,
        data=_data_facts(setup),
        metric=metric,
        before=before,
        dev=after["dev"].scores if "dev" in after else {},
        test=after["test"].scores if "test" in after else {},
        scored=scored,  # type: ignore[arg-type]
        tables=final.tables if final else {},
        confusion=final.confusion if final else None,
        confusion_labels=final.confusion_labels if final else None,
        calibration=final.calibration if final else None,
        steps=fitted.steps,
        best_step=fitted.best_step,
        stopped_early=fitted.stopped_early,
        tokens={"real": clock.real_tokens, "padded": clock.padded_tokens},
        truncated=cut if chosen.data.overflow == "truncate" else 0,
        lengths=encoded["train"].lengths,
        max_tokens=limit,
        noise=setup.noise_counts(fitted.steps),
        real_tokens_per_s=clock.real_tokens / clock.train_s,
        wall_s=clock.wall_s,
        compile_s=fitted.compile_s,
        time_to_first_step_s=clock.first_step_s,
        input_stall_s=fitted.input_stall_s,
        checkpoint_stall_s=fitted.checkpoint_stall_s,
        peak_memory_mb=peak_memory_mb(),
        numerics=chosen.numerics,
        micro_batches=chosen.train.micro_batches,
        dtype={"float32": "f32", "bfloat16": "bf16"}[np.dtype(dtype_of(chosen.dtype)).name],
        device=device_name(fitted.num_devices),
        cpu_threads=cpu_threads.in_use(),
        seeds=recipe.stream_seeds(chosen),
        params_sha256=params_sha256(fitted.params),
        implementation={"attention": attention.choose(), "dense": dense.choose(), "dropout": dropout.choose()},
        warnings=(*setup.warnings, *fitted.warnings),
        model_source=_source(chosen.model),
        model_licence=_licence(chosen.model),
    )


def _data_facts(setup: Setup) -> DataFacts:
    splits = setup.corpus.splits
    return DataFacts(
        name=setup.recipe.data.train,
        sizes={name: len(examples) for name, examples in splits.items()},
        sha256={name: examples.sha256 for name, examples in splits.items()},
        sources=setup.corpus.sources,
        labels={name: _label_counts(examples.labels or []) for name, examples in splits.items()},
        licence=_licence(setup.recipe.data.train),
    )


def _label_counts(labels: list[Any]) -> dict[str, int]:
    """Label -> examples that have it; tagging: entity type -> entities, by their B- tags."""
    counts: dict[str, int] = {}
    for label in labels:
        for name in label if isinstance(label, list) else [label]:
            if isinstance(label, list) and name[:2] in ("I-",):
                continue
            counts[name] = counts.get(name, 0) + 1
    return {name.removeprefix("B-"): count for name, count in sorted(counts.items()) if name != "O"}


def _source(name: str) -> str:
    asset = assets.load_index().get(name.partition(":")[0])
    return f"{asset.package} {asset.version}" if asset else ""


def _licence(name: str) -> str | None:
    asset = assets.load_index().get(name.partition(":")[0])
    return asset.licence if asset else None


def device_name(count: int) -> str:
    """Kind and number of devices, such as `cpu x 1`."""
    return f"{jax.devices()[0].device_kind} x {count}"


def peak_memory_mb() -> float | None:
    """Most memory in use so far: of the accelerator where there is one, else of this process."""
    with contextlib.suppress(Exception):
        stats = jax.devices()[0].memory_stats()
        if stats and "peak_bytes_in_use" in stats:
            return stats["peak_bytes_in_use"] / 2**20
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
