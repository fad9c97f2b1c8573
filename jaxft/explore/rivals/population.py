"""Population based training (Jaderberg et al. 2017): members train side by side, and the worse copy the better.

A member keeps its action until it copies another: then it takes the other's state with its schedule so far, and an
action of its own. In a world where the same path always gives the same state, members at one place are one and are
paid for once; so a member whose next step another has taken draws an action that nobody has taken from there. None
goes where all schedules have been seen.
"""

from __future__ import annotations

from itertools import count

from jaxft import prng
from jaxft.explore import draws
from jaxft.explore.account import Account, Path
from jaxft.explore.rivals.store import Price, Store, most

_COPY, _ACTION = 0, 1
"""What is drawn: whom to copy; an action."""


def pbt(account: Account, words: prng.Words) -> None:
    """The largest population that the budget pays for; then more of them with what is left."""
    world, store = account.world, Store(account, shared=None)
    closed: set[Path] = set()
    for number in count():
        size = most(
            lambda size: store.affords(population_price(size, world.num_actions, world.depth)),
            world.num_actions**world.depth,
        )
        if not size or () in closed:
            return
        for path in _population(store, size, closed, draws.fold(words, number)):
            _close(closed, path, world.num_actions)


def population_price(size: int, num_actions: int, depth: int) -> Price:
    """At the most: there are no more states than paths."""
    states = sum(min(size, num_actions**length) for length in range(1, depth + 1))
    return Price(states, states if size > 1 else 1)


def _population(store: Store, size: int, closed: set[Path], words: prng.Words) -> list[Path]:
    """Plays one; returns its members' schedules. closed: states below which all schedules have been seen."""
    world = store.world
    first = draws.permutation(draws.fold(words, _ACTION, 0), world.num_actions).tolist()
    members: list[Path] = [(action,) for action in first if (action,) not in closed]
    members = [members[at % len(members)] for at in range(size)]
    for length in range(1, world.depth):
        order, copied = [0], set()
        if size > 1:
            scores = [store.score(path) for path in members]
            order = sorted(range(size), key=lambda at: -scores[at])
            copied = _exploit(members, scores, order, draws.fold(words, _COPY, length))
        members = _explore(store, members, order, copied, closed, draws.fold(words, _ACTION, length))
    for path in members:
        store.score(path)
    return members


def _close(closed: set[Path], path: Path, num_actions: int) -> None:
    """Closes a whole schedule, and what is above it and has nothing open."""
    closed.add(path)
    while path and all((*path[:-1], action) in closed for action in range(num_actions)):
        path = path[:-1]
        closed.add(path)


def _exploit(members: list[Path], scores: list[float], order: list[int], words: prng.Words) -> set[int]:
    """The bottom quarter copies members of the top quarter, in place. order: members by rank. Returns who copied."""
    quarter = max(1, len(members) // 4)
    chosen = draws.integers(words, quarter, quarter).tolist()
    copied = set()
    for loser, rank in zip(order[-quarter:], chosen, strict=True):
        if scores[loser] < scores[order[rank]]:
            members[loser] = members[order[rank]]
            copied.add(loser)
    return copied


def _explore(
    store: Store, members: list[Path], order: list[int], copied: set[int], closed: set[Path], words: prng.Words
) -> list[Path]:
    """The members' paths with another action each: its last one, or one that is free for who copied or is not alone."""
    num_actions, moved = store.world.num_actions, list(members)
    taken: set[Path] = set()
    for at in [at for at in order if at not in copied] + [at for at in order if at in copied]:
        path = members[at]
        actions = draws.permutation(draws.fold(words, at), num_actions).tolist()
        if at not in copied:
            actions.insert(0, path[-1])
        steps = [(*path, action) for action in actions if (*path, action) not in closed]
        apart = [step for step in steps if step not in taken]
        fresh = [step for step in apart if store.price(step).scores]  # not where an earlier population has been
        moved[at] = (fresh or apart or steps)[0]
        taken.add(moved[at])
    return moved
