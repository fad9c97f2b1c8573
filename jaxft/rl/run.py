"""A whole run: set up, learn, hash, export, report."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from rich.console import Console

from jaxft import cpu_threads
from jaxft.mesh import devices
from jaxft.report.run_folder import RunFolder
from jaxft.rl import converge, export, report
from jaxft.rl.converge import Score
from jaxft.rl.loop import Learned, learn, learned_sha256, nested
from jaxft.rl.progress import Progress
from jaxft.rl.recipe import RlRecipe
from jaxft.rl.report import Result
from jaxft.rl.setup import Setup, make_env, set_up
from jaxft.train.clock import Clock
from jaxft.train.hashes import params_sha256
from jaxft.train.run import device_name, opened, peak_memory_mb


def run(chosen: RlRecipe, *, overwrite: bool = False, quiet: bool = False, console: Console | None = None) -> Result:
    """Learns a recipe and writes its run folder; goes on with the unfinished run that is there, unless `overwrite`.

    Raises UserError on bad inputs, before anything is written.
    """
    console = console or Console(quiet=quiet)
    folder, clock = RunFolder(chosen.out), Clock()
    with opened(folder, chosen, _set_up, overwrite) as (setup, resumes):
        with Progress(setup.steps(setup.rounds), quiet=quiet, console=console) as progress:
            if resumes:
                progress.message(f"going on with the unfinished run in {folder.path}")
            learned = learn(setup, folder, progress)
            tested = examine(setup, learned)
        result = _result(setup, learned, clock, tested)
        export.write(setup, learned.courses[result.best_seed], folder)
        report.write(folder, result)
    if not quiet:
        report.show(result, folder, console)
    return result


def _set_up(chosen: RlRecipe) -> Setup:
    """What the recipe names, for which there are devices enough; a replay needs none of those."""
    setup = set_up(chosen)
    devices.choose(chosen.mesh.data, chosen.train.micro_batches)
    return setup


def examine(setup: Setup, learned: Learned) -> dict[int, Score]:
    """Seed -> the score of its best parameters on the test split, where the environment is a data set."""
    if not hasattr(setup.env, "split"):
        return {}
    program, exam = setup.program(), make_env(setup.recipe, "test")
    play = jax.jit(partial(program.score, env=exam))
    found = {}
    for seed, course in learned.courses.items():
        if course.best is not None:
            trainable, frozen = jax.tree.map(jnp.asarray, (course.params, setup.parameters(seed)[1]))
            found[seed] = converge.score(*play(trainable, frozen, setup.words(seed).evaluation))
    return found


def _result(setup: Setup, learned: Learned, clock: Clock, tested: dict[int, Score]) -> Result:
    rl, courses = setup.recipe.rl, learned.courses
    ranks = {seed: course.best.rank for seed, course in courses.items() if course.best is not None}
    best = max(ranks, key=lambda seed: (ranks[seed], -seed))
    steps = {seed: _taken(setup, state) for seed, state in learned.states.items()}
    return Result(
        env=rl.env,
        agent=rl.agent,
        threshold=setup.threshold,
        courses=tuple(courses.values()),
        tested=tested,
        best_seed=best,
        updates={seed: int(state.learner.updates) for seed, state in learned.states.items()},
        steps=learned.steps,
        env_steps=sum(steps.values()),
        taken=learned.taken,
        train_s=learned.train_s,
        wall_s=clock.wall_s,
        compile_s=learned.compile_s,
        peak_memory_mb=peak_memory_mb(),
        numerics=setup.recipe.numerics,
        micro_batches=setup.recipe.train.micro_batches,
        device=device_name(learned.num_devices),
        cpu_threads=cpu_threads.in_use(),
        seeds={str(seed): setup.stream_seeds(seed) for seed in setup.seeds},
        params_sha256=learned_sha256(learned.states),
        params_sha256_by_seed={str(seed): _sha256(state) for seed, state in learned.states.items()},
    )


def _taken(setup: Setup, state: Any) -> int:
    return int(state.learner.iteration) * setup.steps_an_iteration


def _sha256(state: Any) -> str:
    return params_sha256(nested(state.learner.trainable))
