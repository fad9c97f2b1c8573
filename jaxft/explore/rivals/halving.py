"""Rivals that train many schedules a little and the better ones further: one epoch and top K, successive halving, ASHA.

Rungs lie after 1, 2, 4, ... segments and at the end; half of the schedules go on from each (eta = 2). A look that
chooses nothing isn't paid for, and when the budget is too short for new schedules, its rest finishes the best of those
that were dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import NamedTuple

from jaxft import prng
from jaxft.explore import draws
from jaxft.explore.account import Account, Path
from jaxft.explore.rivals.store import Price, Store, most

KEPT_OF = 4
"""`one_epoch_top_k` finishes one in this many schedules."""


class Standing(NamedTuple):
    """A schedule at a rung; sorted: the most promising first."""

    segments_left: int
    loss: float  # minus its score there
    number: int
    schedule: Path


def one_epoch_top_k(account: Account, words: prng.Words) -> None:
    """The first segment of all schedules, then the best whole.

    Schedules that begin alike train that first segment once, however many they are.
    """
    world, store = account.world, Store(account, shared=1)
    total = world.num_actions**world.depth

    def fits(drawn: int, kept: int) -> bool:
        first = min(drawn, world.num_actions)
        looks = kept * (world.depth > 1)
        return store.affords(Price(first + kept * (world.depth - 1), first + looks))

    kept = max(1, most(lambda number: fits(min(KEPT_OF * number, total), number), total))
    drawn = most(lambda number: fits(number, kept), min(KEPT_OF * kept, total))
    chosen = list(islice(draws.schedules(words, world.num_actions, world.depth), max(1, drawn)))
    if len(chosen) > 1:
        scores = {schedule: store.score(schedule, 1) for schedule in chosen}
        chosen.sort(key=lambda schedule: -scores[schedule])
    store.finish(chosen)


def successive_halving(account: Account, words: prng.Words) -> None:
    """As many schedules as the budget pays for, each with checkpoints of its own."""
    _brackets(Store(account, shared=0), words, lambda alive, length: alive)


def halving_shared(account: Account, words: prng.Words) -> None:
    """The same over a tree of checkpoints: what two schedules share is trained and scored once.

    What a bracket costs depends on whom it keeps; it is sized for the worst case, and further ones use what was saved.
    """
    num_actions = account.world.num_actions
    _brackets(Store(account, shared=None), words, lambda alive, length: min(alive, num_actions**length))


def rungs(depth: int) -> list[int]:
    """Segments after which schedules are compared: 1, 2, 4, ... and depth."""
    return [2**power for power in range((depth - 1).bit_length())] + [depth]


def bracket_price(size: int, depth: int, width: Callable[[int, int], int]) -> Price:
    """Of a bracket of `size` schedules. width: (schedules alive, length) -> how many different states that may be."""
    segments, scores, alive, done = 0, 0, size, 0
    for rung in rungs(depth):
        segments += sum(width(alive, length) for length in range(done + 1, rung + 1))
        if alive > 1 or rung == depth:
            scores += width(alive, rung)
        alive, done = max(1, alive // 2), rung
    return Price(segments, scores)


def _brackets(store: Store, words: prng.Words, width: Callable[[int, int], int]) -> None:
    world = store.world
    fresh = draws.schedules(words, world.num_actions, world.depth)
    dropped: list[Standing] = []
    left = world.num_actions**world.depth
    while left:
        size = most(lambda number: store.affords(bracket_price(number, world.depth, width)), left)
        if not size or (size < 2 and dropped):  # one schedule alone has less to say for it than one that was dropped
            break
        dropped += _bracket(store, list(islice(fresh, size)), len(dropped))
        left -= size
    store.finish(one.schedule for one in sorted(dropped))


def _bracket(store: Store, alive: list[Path], number: int) -> list[Standing]:
    """Plays one; returns who was dropped, numbered from `number` on."""
    depth, dropped = store.world.depth, []
    for rung in rungs(depth):
        if len(alive) == 1 and rung < depth:
            continue
        scores = {schedule: store.score(schedule, rung) for schedule in alive}
        if rung == depth:
            break
        ranked = sorted(alive, key=lambda schedule: -scores[schedule])
        kept = len(ranked) // 2
        for schedule in ranked[kept:]:
            dropped.append(Standing(depth - rung, -scores[schedule], number + len(dropped), schedule))
        alive = ranked[:kept]
    return dropped


def asha(account: Account, words: prng.Words) -> None:
    """One worker: promotes a schedule that is among the better half of its rung, from the highest rung down, and where
    there is none begins another.

    A budget ends, which Li et al. leave open: whatever is done, enough is kept back to finish the most promising one.
    """
    world, store = account.world, Store(account, shared=0)
    fresh = draws.schedules(words, world.num_actions, world.depth)
    ladder: dict[int, list[Standing]] = {rung: [] for rung in rungs(world.depth)}
    promoted: set[Standing] = set()
    while True:
        waiting = sorted(one for rung in ladder.values() for one in rung if one.segments_left and one not in promoted)
        going = _promotable(ladder, promoted)
        schedule, done = (going.schedule, world.depth - going.segments_left) if going else (next(fresh, None), 0)
        if schedule is None:
            break
        target = next(rung for rung in ladder if rung > done)
        ahead = waiting[0].schedule if waiting else schedule
        rest = store.price(ahead) if ahead != schedule else Price(world.depth - target, target < world.depth)
        if not store.affords(store.price(schedule, target).plus(rest)):
            waiting += [Standing(world.depth, 0.0, 0, schedule)] * (going is None)
            break
        promoted |= {going} if going else set()
        number = sum(map(len, ladder.values()))
        ladder[target].append(Standing(world.depth - target, -store.score(schedule, target), number, schedule))
    store.finish(one.schedule for one in waiting)


def _promotable(ladder: dict[int, list[Standing]], promoted: set[Standing]) -> Standing | None:
    """Who is next to go on: among the better half of a rung, the highest rung first."""
    for rung in sorted(ladder)[-2::-1]:
        for one in sorted(ladder[rung])[: len(ladder[rung]) // 2]:
            if one not in promoted:
                return one
    return None
