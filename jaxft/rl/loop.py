"""The loop of a run, as a straight story: advance, score, log, keep the best, save, stop.

A round is the stretch between two evaluations. What a run is after a round is a function of the recipe and of the
states that a checkpoint holds, so a run that was interrupted ends as it would have ended.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from jaxft import recipe
from jaxft.checkpoint.store import Damaged, Snapshot, Store
from jaxft.errors import UserError
from jaxft.report.run_folder import RunFolder
from jaxft.rl import converge, crowd
from jaxft.rl.converge import Score
from jaxft.rl.program import Report, State
from jaxft.rl.progress import Progress
from jaxft.rl.rollout import NOT_BAD
from jaxft.rl.setup import Setup
from jaxft.train import resume
from jaxft.train.hashes import params_sha256
from jaxft.train.interrupt import Interrupted, Watch
from jaxft.train.partition import Flat, nest


@dataclass
class Course:
    """How a seed is doing. best: its best evaluation so far; params: of then, on the host. converged: steps after which
    its bound passed the threshold. failed: why it can't go on."""

    seed: int
    before: Score | None = None
    best: Score | None = None
    best_step: int = 0
    params: Flat = field(default_factory=dict)
    last: Score | None = None
    converged: int | None = None
    failed: str = ""

    def observe(self, score: Score, step: int, threshold: float | None, params: Flat) -> None:
        """Takes an evaluation in. The best one is that with the highest lower bound, the earliest of several."""
        if step == 0:
            self.before = score
        self.last = score
        if self.is_better(score):
            self.best, self.best_step, self.params = score, step, params
        if self.converged is None and score.passes(threshold):
            self.converged = step

    def is_better(self, score: Score) -> bool:
        return self.best is None or score.rank > self.best.rank

    def goes_on(self, stop: bool) -> bool:
        return not self.failed and not (stop and self.converged is not None)


@dataclass(frozen=True)
class Learned:
    """What a run ends with. steps: of a seed that did not stop before. states: seed -> its last one, on the host.
    taken: environment steps of all seeds since the command was given, in train_s seconds."""

    courses: dict[int, Course]
    states: dict[int, State]
    steps: int
    taken: int
    compile_s: float
    train_s: float
    num_devices: int


def learn(setup: Setup, folder: RunFolder, progress: Progress) -> Learned:
    """Trains all seeds, from the folder's newest whole checkpoint or from the beginning.

    Raises UserError where no seed can go on, and Interrupted, after a save, where a signal asked for it.
    """
    with progress.working():
        runs = crowd.of(setup, progress.compiling)
    store = Store(folder.checkpoints, keep=setup.recipe.train.keep_checkpoints)
    identity = identify(setup)
    round, courses = _restore(setup, runs, store, identity, folder, progress)
    rl, every = setup.recipe.rl, setup.recipe.train.save_every or 1
    taken = 0
    if round == 0:
        with progress.working():
            found = runs.score(setup.seeds, 0)
        for seed in setup.seeds:
            _scored(setup, runs, courses[seed], converge.score(*found[seed]), 0, folder, progress)

    with Watch(progress.interrupted) as watch:
        while round < setup.rounds and not watch.number:
            alive = [seed for seed, course in courses.items() if course.goes_on(rl.stop)]
            if not alive:
                break
            first, step = setup.steps(round), setup.steps(round + 1)
            with progress.working():
                reports = runs.advance(alive, (step - first) // setup.steps_an_iteration)
                found = runs.score(alive, round + 1)
            round, taken = round + 1, taken + len(alive) * (step - first)
            for seed in alive:
                course = courses[seed]
                course.failed = _trouble(setup, reports[seed])
                if course.failed:
                    progress.message(f"seed {seed}: {course.failed}; it goes no further")
                    folder.log({"kind": "failed", "step": step, "seed": seed, "why": course.failed})
                    continue
                folder.log({"kind": "train", "step": step, "seed": seed} | told(reports[seed]))
                _scored(setup, runs, course, converge.score(*found[seed]), step, folder, progress)
            progress.round(step, courses)
            last = round == setup.rounds or not any(course.goes_on(rl.stop) for course in courses.values())
            if round % every == 0 or last or watch.number:
                folder.sync_metrics()
                store.save(_snapshot(setup, runs, courses, identity, step))
                _tell_failure(store, progress)

    store.wait()
    _tell_failure(store, progress)
    if watch.number:
        done = setup.steps(round)
        message = f"interrupted after {done:,} steps of each seed; saved in {folder.path}: the same command goes on"
        raise Interrupted(message, watch.number)
    if all(course.failed for course in courses.values()):
        raise UserError(f"seed {setup.seeds[0]}", next(iter(courses.values())).failed, FIX)
    states = {seed: runs.to_host(seed) for seed in setup.seeds}
    return Learned(courses, states, setup.steps(round), taken, runs.compile_s, progress.worked_s, runs.mesh.size)


FIX = "lower optim.learning_rate or rl.reward_scale; if it is the environment's, mend that"


def told(report: Report) -> dict[str, float]:
    """What a stretch of a seed tells, as metrics.jsonl has it."""
    sums, acted = report.told, float(report.told.acted)
    episodes = float(sums.episodes)
    tree = {
        "episodes": episodes,
        "mean_return": float(sums.returns) / episodes if episodes else float("nan"),
        "mean_length": float(sums.lengths) / episodes if episodes else float("nan"),
        "entropy": float(sums.entropy) / acted,
        "greedy_share": float(sums.greedy) / acted,
        "level": float(report.level),
        "updates": int(report.updates),
    }
    return tree | {name: float(value) / max(int(report.updates), 1) for name, value in report.learned.items()}


def _scored(
    setup: Setup, runs: Any, course: Course, score: Score, step: int, folder: RunFolder, progress: Progress
) -> None:
    params = crowd.host_params(runs.to_host(course.seed)) if course.is_better(score) else {}
    was = course.converged
    course.observe(score, step, setup.threshold, params)
    folder.log({"kind": "eval", "step": step, "seed": course.seed} | score._asdict())
    if course.converged is not None and was is None:
        progress.message(
            f"seed {course.seed}: converged after {step:,} steps: "
            f"mean {converge.shown(score.mean)}, at least {converge.shown(score.low)}"
        )


def _trouble(setup: Setup, report: Report) -> str:
    """Why a seed can't go on; empty if it can."""
    if report.told.bad != NOT_BAD:
        step = int(report.told.bad) * setup.recipe.rl.num_envs
        return f"{setup.recipe.rl.env} gave a reward or an observation that is not a number, at about step {step:,}"
    bad = [name for name, value in report.learned.items() if not np.isfinite(value)]
    return f"{', '.join(bad)} became not a number" if bad else ""


def _tell_failure(store: Store, progress: Progress) -> None:
    failure = store.failure()
    if failure is not None:
        progress.message(f"warning: a checkpoint could not be written: {failure}; training goes on")


# --- checkpoints -----------------------------------------------------------------------------------------------------


def identify(setup: Setup) -> dict[str, Any]:
    """What must agree before a checkpoint is taken up; see train/resume.py."""
    trainable, frozen = setup.parameters(setup.seeds[0])
    return {
        "recipe": recipe.to_tree(setup.recipe),
        "labels": list(getattr(setup.env, "labels", ())),
        "data": _data(setup),
        "model": params_sha256(nest(trainable | frozen)),
        "place": resume.place(),
    }


def _data(setup: Setup) -> dict[str, str]:
    """Hashes of the arrays that environments hold, where they are made of data."""
    found = {}
    for name, env in (("train", setup.env), ("dev", setup.judge)):
        arrays = {key: value for key, value in vars(env).items() if isinstance(value, (np.ndarray, jax.Array))}
        if arrays:
            found[name] = params_sha256(arrays)
    return found


def _snapshot(setup: Setup, runs: Any, courses: dict[int, Course], identity: dict[str, Any], step: int) -> Snapshot:
    arrays: dict[str, np.ndarray] = {}
    for seed, course in courses.items():
        arrays |= {f"{seed}/state/{name}": leaf for name, leaf in resume.named(runs.to_host(seed)).items()}
        arrays |= {f"{seed}/best/{'/'.join(path)}": np.asarray(leaf) for path, leaf in course.params.items()}
    facts = [_plain(course) for course in courses.values()]
    return Snapshot(step, arrays, {"format": resume.FORMAT, "identity": identity, "courses": facts})


def _plain(course: Course) -> dict[str, Any]:
    """All but the parameters. Numbers of scores as text: JSON has no infinity."""
    tree = {f.name: getattr(course, f.name) for f in dataclasses.fields(Course) if f.name != "params"}
    return {key: [str(float(x)) for x in value] if isinstance(value, Score) else value for key, value in tree.items()}


def _restore(
    setup: Setup, runs: Any, store: Store, identity: dict[str, Any], folder: RunFolder, progress: Progress
) -> tuple[int, dict[int, Course]]:
    """(rounds done, seed -> course) of the newest whole checkpoint; its states are put in place."""
    store.clean()
    for step in reversed(store.steps()):
        try:
            saved = store.load(step)
        except Damaged as damaged:
            progress.message(f"warning: the checkpoint of step {step} is passed over: {damaged}")
            continue
        resume.check_format(saved, str(store.folder))
        for note in resume.check_identity(saved.facts["identity"], identity, str(store.folder)):
            progress.message(f"warning: {note}")
        courses = {}
        for facts in saved.facts["courses"]:
            seed = facts["seed"]
            courses[seed] = _course(facts, saved.arrays)
            runs.put(seed, _state_of(saved, seed, runs.to_host(seed), str(store.folder)))
        store.drop_after(step)
        folder.rewind(step)
        rounds = next(round for round in range(setup.rounds + 1) if setup.steps(round) == step)
        return rounds, courses
    folder.rewind(-1)
    return 0, {seed: Course(seed) for seed in setup.seeds}


def _course(facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> Course:
    """The inverse of `_plain`, with the best parameters."""
    begin = f"{facts['seed']}/best/"
    params = {
        tuple(name.removeprefix(begin).split("/")): leaf for name, leaf in arrays.items() if name.startswith(begin)
    }
    course = Course(facts["seed"], params=params)
    for name, value in facts.items():
        if isinstance(value, list):
            mean, low, high, length, episodes = map(float, value)
            value = Score(mean, low, high, length, int(episodes))
        setattr(course, name, value)
    return course


def _state_of(saved: Snapshot, seed: int, like: State, where: str) -> State:
    begin = f"{seed}/state/"
    own = {name.removeprefix(begin): leaf for name, leaf in saved.arrays.items() if name.startswith(begin)}
    return resume.restored(Snapshot(saved.step, own, {}), like, where)  # type: ignore[arg-type]


def nested(params: Flat) -> dict[str, Any]:
    """Parameters as a tree, for hashes and export."""
    return nest(jax.tree.map(np.asarray, params))


def learned_sha256(states: dict[int, State]) -> str:
    """Of the last parameters and optimiser states of all seeds."""
    trees = {}
    for seed, state in states.items():
        leaves = jax.tree.leaves(state.learner.optimiser)
        named = {f"optimiser_{at}": np.asarray(leaf) for at, leaf in enumerate(leaves)}
        trees[str(seed)] = {"params": nested(state.learner.trainable), **named}
    return params_sha256(trees)
