"""The searchers that the explorer has to beat, each as strong as its design allows, in one ledger.

A rival is a function (account, words) -> None that trains and looks at scores through the account until it has
finished or `Spent` is raised; its answer is `account.best()`. It is a pure function of its words, the world and the
budget. What it charges: module `store`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jaxft import prng
from jaxft.explore.account import Account
from jaxft.explore.rivals import halving, lookahead, population, tpe, trials


@dataclass(frozen=True)
class Rival:
    """what: one line. source: its paper; empty if it has none."""

    search: Callable[[Account, prng.Words], None]
    what: str
    source: str = ""


RIVALS = {
    "default": Rival(trials.default, "the recipe as it is"),
    "grid": Rival(trials.grid, "each action throughout, in turn"),
    "random_constant": Rival(
        trials.random_constant, "each action throughout, in random order", "Bergstra and Bengio 2012"
    ),
    "random_schedule": Rival(
        trials.random_schedule, "random actions, each schedule from scratch", "Bergstra and Bengio 2012"
    ),
    "random_shared": Rival(
        trials.random_shared, "random actions from a tree of checkpoints", "Bergstra and Bengio 2012"
    ),
    "one_epoch_top_k": Rival(
        halving.one_epoch_top_k, "the first segment of random schedules, the best of them whole", "Egele et al. 2023"
    ),
    "successive_halving": Rival(
        halving.successive_halving, "half of the random schedules go on from each rung", "Jamieson and Talwalkar 2016"
    ),
    "halving_shared": Rival(
        halving.halving_shared, "successive halving over a tree of checkpoints", "Jamieson and Talwalkar 2016"
    ),
    "asha": Rival(halving.asha, "asynchronous successive halving with one worker", "Li et al. 2018"),
    "pbt": Rival(population.pbt, "population based training: the worse copy the better", "Jaderberg et al. 2017"),
    "tpe": Rival(tpe.tpe, "Optuna's TPE with a pruner, one parameter a segment", "Bergstra et al. 2011"),
    "tpe_constant": Rival(
        tpe.tpe_constant, "Optuna's TPE with a pruner, one action throughout", "Bergstra et al. 2011"
    ),
    "greedy": Rival(
        lookahead.greedy, "the best next action, then with more and more runners-up", "Harvey and Ginsberg 1995"
    ),
    "beam": Rival(lookahead.beam, "the best states of each segment, all actions from each", "Lowerre 1976"),
}
