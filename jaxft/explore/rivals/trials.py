"""Rivals that look at whole schedules alone: the recipe as it is, constant strategies, random ones."""

from __future__ import annotations

from collections.abc import Iterable

from jaxft import prng
from jaxft.explore import draws
from jaxft.explore.account import Account
from jaxft.explore.rivals.store import Price, Store

_TRIES = 1000
"""Schedules that are drawn in a row, at most, for one that the last of the budget pays for."""


def default(account: Account, words: prng.Words) -> None:
    """Action 0 throughout."""
    Store(account, shared=0).score((0,) * account.world.depth)


def grid(account: Account, words: prng.Words) -> None:
    """Each action throughout, in turn."""
    _constant(account, range(account.world.num_actions))


def random_constant(account: Account, words: prng.Words) -> None:
    """Each action throughout, in random order."""
    _constant(account, draws.permutation(words, account.world.num_actions).tolist())


def _constant(account: Account, actions: Iterable[int]) -> None:
    store = Store(account, shared=0)
    for action in actions:
        store.score((action,) * account.world.depth)


def random_schedule(account: Account, words: prng.Words) -> None:
    """Independent uniform actions, from scratch, scored at the end."""
    store = Store(account, shared=0)
    for schedule in draws.schedules(words, account.world.num_actions, account.world.depth):
        store.score(schedule)


def random_shared(account: Account, words: prng.Words) -> None:
    """The same from a tree of checkpoints. Where the budget is too short for one, another that shares more is drawn."""
    store, tries = Store(account, shared=None), 0
    for schedule in draws.schedules(words, account.world.num_actions, account.world.depth):
        if store.affords(store.price(schedule)):
            store.score(schedule)
            tries = 0
        elif not store.affords(Price(1, 1)) or (tries := tries + 1) == _TRIES:
            return
