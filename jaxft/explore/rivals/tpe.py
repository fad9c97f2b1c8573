"""Optuna's tree-structured Parzen estimator with a pruner (Bergstra et al. 2011; Akiba et al. 2019), as a rival.

Optuna is used as it comes, through ask and tell. Left out: its storage and parallel workers. A schedule that it has
had before is not paid for again: the trial is told as failed, which its sampler leaves out, and another asked for.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from jaxft import prng
from jaxft.errors import UserError
from jaxft.explore import draws
from jaxft.explore.account import Account, Path
from jaxft.explore.rivals.halving import Standing, rungs
from jaxft.explore.rivals.store import Price, Store

STARTUP_TRIALS = 5
"""Random ones at first. Budgets here pay for few trials: in made-up worlds of 4 actions x 4 segments and 8 x 6, 5 did
as well as 3 and better than Optuna's 10; pruning by halves as well as by thirds, by quarters and by the median, and
better than none."""
REPEATS = 20
"""Schedules it has had that it may propose in a row; then it is given a random one."""
_SEED, _FRESH = 0, 1
"""What is drawn."""


def tpe(account: Account, words: prng.Words) -> None:
    """One categorical parameter a segment."""
    _optimise(account, words, account.world.depth, lambda actions: actions)


def tpe_constant(account: Account, words: prng.Words) -> None:
    """One categorical parameter: the action of all segments."""
    _optimise(account, words, 1, lambda actions: actions * account.world.depth)


def _optimise(account: Account, words: prng.Words, parameters: int, schedule_of: Callable[[Path], Path]) -> None:
    world, store = account.world, Store(account, shared=0)
    names = [f"action_{number}" for number in range(parameters)]
    choices = list(range(world.num_actions))
    fresh = draws.schedules(draws.fold(words, _FRESH), world.num_actions, parameters)
    seen: set[Path] = set()
    pruned: list[Standing] = []
    repeats = 0
    with _optuna() as optuna:
        study = _study(optuna, int(draws.integers(draws.fold(words, _SEED), 1, 2**32)[0]))
        while len(seen) < world.num_actions**parameters:
            trial = study.ask()
            actions = tuple(int(trial.suggest_categorical(name, choices)) for name in names)
            if actions in seen:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
                repeats += 1
                if repeats % REPEATS == 0:
                    given = next(one for one in fresh if one not in seen)
                    study.enqueue_trial(dict(zip(names, given, strict=True)))
                continue
            if not store.affords(Price(world.depth, len(rungs(world.depth)))):
                pruned.append(Standing(world.depth, 0.0, 0, schedule_of(actions)))  # perhaps without looks
                break
            seen.add(actions)
            repeats = 0
            stopped = _play(optuna, study, trial, store, schedule_of(actions), len(seen))
            pruned += [stopped] if stopped else []
    store.finish(one.schedule for one in sorted(pruned))


def _play(optuna: Any, study: Any, trial: Any, store: Store, schedule: Path, number: int) -> Standing | None:
    """Trains a schedule until it is pruned or ends, and tells the study."""
    depth = len(schedule)
    for rung in rungs(depth):
        score = store.score(schedule, rung)
        trial.report(score, rung)
        if rung < depth and trial.should_prune():
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            return Standing(depth - rung, -score, number, schedule)
    study.tell(trial, store.score(schedule))
    return None


def _study(optuna: Any, seed: int) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # `multivariate`, before version 5
        sampler = optuna.samplers.TPESampler(multivariate=True, n_startup_trials=STARTUP_TRIALS, seed=seed)
    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2)
    return optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)


@contextlib.contextmanager
def _optuna() -> Iterator[Any]:
    """The module, silent while in use. Raises UserError where it is not installed."""
    try:
        import optuna
    except ImportError:
        raise UserError("explore.rivals", "Optuna is not installed", 'pip install "jaxft[explore]"') from None
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield optuna
    finally:
        optuna.logging.set_verbosity(before)
