"""The explorer in worlds whose scores are a table: what it trains, what it finds, and what can't break it."""

from __future__ import annotations

import contextlib
import functools
import itertools
from typing import Any

import numpy as np
import pytest

from jaxft import prng
from jaxft.explore.account import Account, Path, Spent
from jaxft.explore.explorer import Checkpoints, Explorer, made_up
from jaxft.explore.searchers import MCTS, play
from jaxft.search.asked import path_of
from tests.explore.worlds import Table

ACTIONS, DEPTH, SEGMENTS = 3, 3, 39
"""One shape of worlds and one room of trees, so that one program does for most tests: 39 states are all there are."""
WHOLE = SEGMENTS * 10 + 40 * 1.0
"""What all states and looks cost."""


class Small(Table):
    def __init__(self, seed: int = 0, room: int = 10**6, **how: Any) -> None:
        super().__init__(ACTIONS, DEPTH, seed=seed, **how)
        self.room = room


class Diverging(Small):
    """Where a segment's action is in `bad`, training diverges for good."""

    def __init__(self, *bad: int, root: float | None = None, seed: int = 0) -> None:
        super().__init__(seed)
        self.bad, self.root = bad, root

    def score(self, path: Path) -> float:
        score = super().score(path)
        if not path and self.root is not None:
            return self.root
        return -np.inf if set(path) & set(self.bad) else score


@functools.cache
def words(seed: int) -> prng.Words:
    return prng.stream("explore", seed)


def searched(world: Table, budget: float = WHOLE, seed: int = 0, **how: Any) -> Explorer:
    """The room is that of a budget for everything, which changes nothing but how often something compiles."""
    explorer = Explorer(Account(world, max(budget, WHOLE)), words(seed), **how)
    explorer.account.budget = budget
    with contextlib.suppress(Spent):
        explorer.search()
    return explorer


# --- what it trains --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_first_run_is_the_default_schedule():
    for seed in range(5):
        world = Small(seed)
        explorer = searched(world, 3 * 10 + 4, seed)
        assert explorer.paths == [(), (0,), (0, 0), (0, 0, 0)] == world.asked
        assert [one.path for one in explorer.account.sightings] == [(0, 0, 0)]
        assert explorer.account.left == 0


@pytest.mark.parametrize("score_steps", [0.0, 1.0, 0.37])
def test_the_budget_is_not_exceeded_and_is_used(score_steps):
    for budget in (0, 0.3, 1, 9, 11, 33, 34, 35, 101, 222.2):
        account = searched(Small(score_steps=score_steps), budget).account
        assert account.spent <= budget + 1e-9
        assert account.left < 10 + score_steps
        assert account.scores <= account.segments + 1


def test_less_than_a_run_is_spent_and_finds_nothing():
    explorer = searched(Small(), 25)
    assert explorer.paths == [(), (0,), (0, 0)] and explorer.account.best() is None


def test_with_room_each_segment_is_trained_once_and_all_schedules_are_seen_in_the_end():
    for seed in range(4):
        world = Small(seed)
        explorer = searched(world, 1e6, seed)
        account = explorer.account
        assert account.segments == len(account.states) == len(set(explorer.paths)) - 1 == SEGMENTS
        assert account.scores == SEGMENTS + 1 and len(world.asked) == len(set(world.asked))
        assert sorted(one.path for one in account.sightings) == sorted(world.whole)
        best = account.best()
        assert best is not None and best.score == world.optimum


def test_the_same_words_give_the_same_search_and_others_another():
    runs = [searched(Small(), 250, seed) for seed in (0, 0, 1)]
    trees = [one.found.tree for one in runs]
    assert runs[0].paths == runs[1].paths != runs[2].paths
    for name in ("values", "child_q", "children", "visits", "logits"):
        one, other = (np.asarray(getattr(tree.nodes, name)) for tree in trees[:2])
        assert one.tobytes() == other.tobytes(), name
    for number, path in enumerate(runs[0].paths):
        assert path_of(trees[0], number) == path


def test_a_budget_is_a_prefix_of_a_greater_one():
    """But for its last segments, which end what is begun."""
    long = searched(Small(), 400).paths
    for budget in (60, 130, 222, 399):
        short = searched(Small(), budget).paths[: 1 - DEPTH]
        assert short == long[: len(short)]


def test_the_unit_of_the_scores_does_not_matter():
    class Thousands(Small):
        def score(self, path: Path) -> float:
            return 1000 * super().score(path)

    for seed in range(3):
        one, other = (searched(kind(seed), 180, seed) for kind in (Small, Thousands))
        assert one.paths == other.paths


# --- with room for few states ----------------------------------------------------------------------------------------


def test_checkpoints_let_go_of_what_was_used_longest_ago():
    states = Checkpoints(2)
    assert states.missing((0, 0, 0)) == [(0,), (0, 0), (0, 0, 0)]
    assert states.missing((0, 0, 1)) == [(0, 0, 1)]  # (0, 0) is at hand; (0, 0, 0) goes
    assert states.missing((0, 0, 0)) == [(0, 0, 0)]
    assert states.missing((0, 0)) == []
    assert states.missing((1,)) == [(1,)]  # (0, 0, 0) goes, which was used before (0, 0)
    assert states.missing((0, 0, 0)) == [(0, 0, 0)]
    assert Checkpoints(10).missing(()) == []


@pytest.mark.parametrize("room", [1, 2, 5])
def test_states_that_were_let_go_are_paid_for_again_and_the_search_is_the_same(room):
    plenty, little = (searched(Small(room=room), 1e6) for room in (10**6, room))
    assert little.paths == plenty.paths
    assert little.account.segments > plenty.account.segments == SEGMENTS == len(little.account.states)
    held, trained = Checkpoints(room), 0
    for path in little.paths[1:]:
        trained += len(held.missing(path))
    assert little.account.segments == trained
    assert little.account.best() is not None
    assert little.account.best().path == plenty.account.best().path  # type: ignore[union-attr]


class Watched(Small):
    """Remembers what an account had left when a path was asked for."""

    account: Account

    def __init__(self, seed: int, room: int) -> None:
        super().__init__(seed, room)
        self.left: list[tuple[float, Path]] = []

    def ready(self, paths):
        self.left += [(self.account.left, path) for path in paths]


@pytest.mark.parametrize("room", [1, 10**6])
def test_nothing_is_begun_that_the_budget_left_does_not_end(room):
    """Budgets that segments which were trained again eat into."""
    for seed, budget in itertools.product(range(3), (100, 137, 190)):
        world = Watched(seed, room=room)
        world.account = Account(world, WHOLE)
        explorer = Explorer(world.account, words(seed))
        world.account.budget = budget
        with contextlib.suppress(Spent):
            explorer.search()
        assert len(world.left) > DEPTH
        assert all(left >= 11 * (DEPTH - len(path) + 1) for left, path in world.left)


def test_the_first_run_pays_for_no_state_twice_however_little_room():
    assert searched(Small(room=1), 3 * 10 + 4).account.segments == 3


# --- where training diverges -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [(0,), (1,), (0, 2), (0, 1, 2)])
def test_what_diverged_is_left_and_the_best_of_the_rest_is_found(bad):
    world = Diverging(*bad)
    explorer = searched(world, 1e6)
    assert not [path for path in explorer.paths if set(path[:-1]) & set(bad)], "nobody goes on from there"
    rest = [path for path in world.whole if not set(path) & set(bad)]
    best = explorer.account.best()
    assert np.isfinite(np.asarray(explorer.found.tree.nodes.values)).all()
    if rest:
        assert best is not None and best.score == max(map(world.score, rest))
    else:
        assert best is not None and best.score == -np.inf and sorted(explorer.paths[1:]) == [(0,), (1,), (2,)]


@pytest.mark.parametrize("root", [-np.inf, 0.0])
def test_a_root_without_a_score_is_no_matter(root):
    world = Diverging(1, root=root)
    best = searched(world, 1e6).account.best()
    assert best is not None and best.score == max(world.score(path) for path in world.whole if 1 not in path)


def test_what_a_diverged_run_counts_as_does_not_run_away():
    """However many diverge, the scale of what others bring stays: as far below the worst as the best is above."""
    explorer = searched(Diverging(1), 1e6)
    gained = np.asarray(explorer.found.gained)[: len(explorer.paths)]
    finite = [gain for path, gain in zip(explorer.paths, gained, strict=True) if 1 not in path]
    spread = max(finite) - min(finite)
    assert gained.min() >= min(finite) - spread - 1e-4
    assert made_up(2.0, 5.0) == -1.0 and made_up(2.0, 2.0) == 0.0 and made_up(0.0, 0.0) == -1.0


# --- what it finds ---------------------------------------------------------------------------------------------------


def test_it_beats_random_schedules_by_far():
    """Mean regret over 60 worlds: 0.46 against 1.52, six standard errors of the difference apart."""
    regret: dict[str, list[float]] = {MCTS: [], "random_schedule": []}
    for seed in range(60):
        optimum = Small(seed).optimum
        for name in regret:
            account = searched(Small(seed), 160, seed).account if name == MCTS else None
            account = account or play(name, Account(Small(seed), 160), words(seed))
            best = account.best()
            assert best is not None
            regret[name].append(optimum - best.score)
    ours, theirs = (np.mean(values) for values in regret.values())
    difference = np.array(regret["random_schedule"]) - np.array(regret[MCTS])
    assert ours < 0.5 * theirs
    assert difference.mean() > 3 * difference.std() / np.sqrt(len(difference))


# --- settling one segment after the other -----------------------------------------------------------------------------


@pytest.mark.parametrize("budget", [120, 200, 300])
def test_what_is_settled_is_searched_no_more(budget):
    """With room for all states the n-th node is seen when 1 + 11 n steps are spent."""
    for seed in range(5):
        explorer = searched(Small(seed), budget, seed, settles=True)
        settled, best = explorer.settled, explorer.account.best()
        assert best is not None and settled and best.path[: len(settled)] == settled
        for number, path in enumerate(explorer.paths):
            before = DEPTH * (1 + 11 * (number - 1)) / budget
            if number > DEPTH:  # there is a whole run to settle by
                due = min(int(before), len(settled), len(path))
                assert path[:due] == settled[:due], (path, settled)


@pytest.mark.parametrize("budget", [60, 80, 120])
def test_what_diverged_is_not_settled_on(budget):
    """Though it is all that was seen when the first share of the budget is spent."""
    for seed in range(3):
        best = searched(Diverging(0, seed=seed), budget, seed, settles=True).account.best()
        assert best is not None and np.isfinite(best.score)


def test_settling_keeps_what_was_seen_and_ends_where_nothing_is_left():
    explorer, free = (searched(Small(), 300, settles=settles) for settles in (True, False))
    assert explorer.paths[:8] == free.paths[:8], "until the first share of the budget is spent"
    assert explorer.paths == searched(Small(), 300, settles=True).paths
    below = {path for path in explorer.paths if path[: len(explorer.settled)] == explorer.settled}
    assert len(below) == sum(ACTIONS**more for more in range(DEPTH - len(explorer.settled) + 1))
    assert explorer.account.left > 11, "there was nothing left to be seen"


# --- actions that were drawn ------------------------------------------------------------------------------------------


class Drawn(Small):
    """Its first action is listed, the others were drawn."""

    def __init__(self, seed: int = 0) -> None:
        Table.__init__(self, 6, DEPTH, seed=seed)
        self.num_listed = 1


@pytest.mark.slow
def test_a_place_is_worth_more_of_the_actions_that_were_drawn_the_oftener_it_is_come_to():
    """As many as the root of the visits: the listed one and three more at 9 visits, and so on."""
    for seed in range(3):
        explorer = searched(Drawn(seed), 450, seed)
        visits: dict[Path, int] = {(): 1}
        tried: dict[Path, set[int]] = {}
        for path in explorer.paths[1:]:
            parent = path[:-1]
            tried.setdefault(parent, set()).add(path[-1])
            assert len(tried[parent] - {0}) <= np.ceil(np.sqrt(visits[parent])), path
            for length in range(len(path)):
                visits[path[:length]] += 1
            visits[path] = 1
        orders = {tuple(sorted(actions)) for actions in tried.values() if len(actions) == 3}
        assert len(orders) > 1, "each place draws an order of its own"


@pytest.mark.slow
def test_in_the_end_all_that_were_drawn_are_tried():
    explorer = searched(Drawn(), 1e6)
    assert len(explorer.paths) == 1 + 6 + 36 + 216 == len(set(explorer.paths))


# --- several leaves at once -------------------------------------------------------------------------------------------


class Wide(Small):
    """Likes to be asked for four paths at once."""

    leaves = 4


@pytest.mark.slow
def test_leaves_of_a_round_are_told_beforehand_and_are_different():
    world = Wide()
    explorer = searched(world, 300)
    assert world.told[0][0] == (0,) and len(world.told[0]) == 3, "the root has three actions, all of them asked for"
    assert [path for together in world.told for path in together][: len(explorer.paths) - 1] == explorer.paths[1:]
    for together in world.told:
        assert len(set(together)) == len(together) <= 4
        assert not [path for path in together if path[:-1] in together], "no path whose parent is still to come"
    assert any(len(together) == 4 for together in world.told)
    assert {(0,), (0, 0), (0, 0, 0)} <= {together[0] for together in world.told[:DEPTH]}, "the first run is the default"
    assert explorer.paths == searched(Wide(), 300).paths


@pytest.mark.parametrize("world", [Wide(1), Wide(2, room=3)])
def test_with_several_at_once_all_schedules_are_seen_in_the_end_too(world):
    explorer = searched(world, 1e6)
    account = explorer.account
    assert len(account.states) == len(set(explorer.paths)) - 1 == SEGMENTS and account.scores == SEGMENTS + 1
    best = account.best()
    assert best is not None and best.score == world.optimum


@pytest.mark.slow
def test_a_budget_that_ends_within_a_round_is_used_and_the_tree_has_what_was_seen():
    for budget in range(100, 150, 7):
        explorer = Explorer(Account(Wide(3), WHOLE), words(0))
        explorer.account.budget = budget
        tree = explorer.grown()
        assert explorer.account.left < 11 and tree.used.tolist() == [len(explorer.paths)]
        assert [path_of(tree, number) for number in range(len(explorer.paths))] == explorer.paths


def test_several_at_once_that_diverge_are_left():
    class WideDiverging(Diverging):
        leaves = 4

    explorer = searched(WideDiverging(0, 2), 1e6)
    assert not [path for path in explorer.paths if set(path[:-1]) & {0, 2}]
    best = explorer.account.best()
    assert best is not None and best.path == (1, 1, 1)


# --- the tree to look at ---------------------------------------------------------------------------------------------


def test_the_tree_to_look_at_has_what_was_seen_alone():
    """A node's value is the best score of the leaves below it, less the root's; the leaf that the budget did not pay
    for is left out."""
    for world, budget in ((Small(3), 200), (Small(4), 1e6), (Diverging(1), 300)):
        explorer = Explorer(Account(world, WHOLE), words(7))
        explorer.account.budget = budget
        tree = explorer.grown()
        paths = explorer.paths
        assert tree.used.tolist() == [len(paths)]
        values = np.asarray(tree.nodes.values)
        inside = {path[:-1] for path in paths if path}
        for number, path in enumerate(paths):
            assert path_of(tree, number) == path
            ends = [world.score(one) for one in paths if one[: len(path)] == path and one not in inside]
            best = max(ends) - world.score(())
            if np.isfinite(best):
                assert values[number] == pytest.approx(best, abs=1e-5)


def test_a_tree_of_a_budget_for_nothing_is_its_root():
    for budget in (0.0, 5.0):
        explorer = Explorer(Account(Small(), WHOLE), words(0))
        explorer.account.budget = budget
        tree = explorer.grown()
        assert tree.used.tolist() == [1] and float(tree.nodes.values[0]) == 0.0
