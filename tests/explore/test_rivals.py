"""Rivals: each spends what its definition says, within its budget, and is a function of its words."""

from __future__ import annotations

import sys
from collections import Counter

import numpy as np
import pytest
from scipy import stats

from jaxft import prng
from jaxft.errors import Problems, UserError
from jaxft.explore import draws
from jaxft.explore.account import Account, Spent
from jaxft.explore.rivals import RIVALS, halving, lookahead, population
from jaxft.explore.rivals.store import Price, Store, most
from jaxft.explore.searchers import check, play
from tests.explore.worlds import Noise, Table

WORDS = [prng.stream("explore", seed) for seed in range(3)]
FIXED = {"default", "grid"}
"""Draw nothing."""
FINDS = {
    "random_schedule",
    "random_shared",
    "one_epoch_top_k",
    "successive_halving",
    "halving_shared",
    "asha",
    "pbt",
    "tpe",
    "greedy",
    "beam",
}
"""See all schedules, if the budget lets them."""
CONSTANT = {"grid", "random_constant", "tpe_constant"}
HUGE = 1e9


def told(account: Account) -> tuple:
    return account.segments, account.scores, account.sightings


def played(name: str, world: Table, segments: int, scores: int, words=WORDS[0]) -> Account:
    return play(name, Account(world, world.budget(segments, scores)), words)


# --- all of them -----------------------------------------------------------------------------------------------------


def test_all_rivals_are_here():
    assert len(RIVALS) == 14
    assert set(RIVALS) == FIXED | FINDS | CONSTANT
    assert all(rival.what and "\n" not in rival.what for rival in RIVALS.values())
    problems = Problems()
    check("bean", "explore.searcher", problems)
    assert str(problems.errors[0]) == "explore.searcher: there is no searcher 'bean' — did you mean `beam`?"


@pytest.mark.parametrize("name", RIVALS)
@pytest.mark.parametrize("score_steps", [0.0, 0.7, 15.0])
def test_no_rival_exceeds_a_budget_or_lets_spent_out(name, score_steps):
    world = Table(score_steps=score_steps)
    for budget in [0, 5, 10, 39, 41, 44, 60, 83, 130, 207, 333.3]:
        account = play(name, Account(world, budget), WORDS[1])
        assert account.spent <= budget + 1e-9
        assert bool(account.sightings) == (budget >= world.budget(4, 1) or bool(account.best()))
        assert len({one.path for one in account.sightings}) == len(account.sightings)
        assert all(len(one.path) == 4 for one in account.sightings)


@pytest.mark.parametrize("name", RIVALS)
def test_every_rival_sees_a_schedule_where_the_budget_pays_for_one_and_its_looks(name):
    """Those that cut off the worse need some more."""
    account = played(name, Table(), 4, 4)
    assert account.best() is not None


@pytest.mark.parametrize("name", sorted(set(RIVALS) - {"default"} - CONSTANT))
@pytest.mark.parametrize("segments", [30, 64, 101])
def test_rivals_use_their_budget(name, segments):
    """Less than a schedule is left, with its looks."""
    world = Table(score_steps=0.5)
    account = Account(world, world.budget(segments, 0))
    play(name, account, WORDS[0])
    assert account.left < world.budget(4, 3)


@pytest.mark.parametrize("name", RIVALS)
@pytest.mark.parametrize(("num_actions", "depth"), [(4, 4), (3, 6), (1, 2), (5, 1), (40, 16)])
def test_a_rival_is_a_function_of_its_words(name, num_actions, depth):
    world = Table(num_actions, depth)
    runs = [played(name, world, 70, 20, words) for words in (WORDS[0], WORDS[0], WORDS[1])]
    assert told(runs[0]) == told(runs[1])
    assert runs[0].best() is not None
    if name in FIXED:
        assert told(runs[0]) == told(runs[2])
    elif num_actions == 40:
        assert runs[0].sightings != runs[2].sightings


@pytest.mark.parametrize("name", sorted(FINDS))
def test_with_a_huge_budget_all_schedules_are_seen_once(name):
    world = Table(3, 3)
    account = play(name, Account(world, HUGE), WORDS[0])
    assert Counter(one.path for one in account.sightings) == Counter(world.whole)
    best = account.best()
    assert best is not None and best.score == world.optimum


@pytest.mark.parametrize("name", sorted(set(RIVALS) - FINDS))
def test_with_a_huge_budget_the_others_end(name):
    account = play(name, Account(Table(), HUGE), WORDS[0])
    seen = {one.path for one in account.sightings}
    assert seen == ({(action,) * 4 for action in range(4)} if name in CONSTANT else {(0, 0, 0, 0)})


@pytest.mark.parametrize("name", RIVALS)
def test_a_diverged_run_is_only_a_bad_one(name):
    class Diverges(Table):
        def score(self, path):
            return -np.inf if path[0] == 0 else super().score(path)

    account = played(name, Diverges(), 60, 40)
    best = account.best()
    assert best is not None and (best.path[0] or name == "default")


def test_what_a_rival_draws_is_its_own():
    first, second = (played(name, Table(40, 6), 60, 20).sightings for name in ("random_schedule", "random_shared"))
    assert not {one.path for one in first} & {one.path for one in second}


# --- what they charge ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "segments", "scores", "sightings"),
    [
        ("default", 4, 1, 1),
        ("grid", 16, 4, 4),
        ("random_constant", 16, 4, 4),
        ("random_schedule", 40, 10, 10),  # 10 schedules, 4 segments each
        # 16 schedules for 1 segment, 8 to 2, 4 to 4; looks at 16, 8, 4
        ("successive_halving", 16 + 8 + 4 * 2, 16 + 8 + 4, 4),
        # first segments: 4; 5 of 20 schedules for 3 more
        ("one_epoch_top_k", 4 + 5 * 3, 4 + 5, 5),
        # 4 + 8 + 8 + 8 states at the most for 8 members, before some copy others' places
        ("greedy", 4 * 4, 4 * 4, 4),
        # all 4; all 16; the children of 7 in the two segments after
        ("beam", 4 + 16 + 28 + 28, 4 + 16 + 28 + 28, 28),
    ],
)
def test_what_they_charge(name, segments, scores, sightings):
    budget = {"default": (400, 0), "grid": (400, 0), "random_constant": (400, 0)}.get(name, (segments, scores))
    account = played(name, Table(), *budget)
    assert (account.segments, account.scores, len(account.sightings)) == (segments, scores, sightings)


def test_shared_random_schedules_pay_for_new_states_alone():
    account = played("random_shared", Table(), 40, 0)
    states = {one.path[:length] for one in account.sightings for length in range(1, 5)}
    assert account.segments == len(states) < 4 * len(account.sightings)


def test_constant_trials_are_in_turn_or_in_random_order():
    paths = [one.path[0] for one in played("grid", Table(), 16, 4).sightings]
    assert paths == [0, 1, 2, 3]
    orders = {
        tuple(one.path[0] for one in played("random_constant", Table(), 16, 4, words).sightings) for words in WORDS
    }
    assert len(orders) > 1


def test_rungs_and_the_price_of_a_bracket():
    assert [halving.rungs(depth) for depth in (1, 2, 4, 6, 16)] == [
        [1],
        [1, 2],
        [1, 2, 4],
        [1, 2, 4, 6],
        [1, 2, 4, 8, 16],
    ]

    def own(alive, length):
        return alive

    assert halving.bracket_price(1, 4, own) == Price(4, 1)  # nothing to choose
    assert halving.bracket_price(2, 4, own) == Price(2 + 1 + 2, 2 + 1)
    assert halving.bracket_price(16, 4, own) == Price(16 + 8 + 4 * 2, 16 + 8 + 4)

    def shared(alive, length):
        return min(alive, 4**length)

    assert halving.bracket_price(88, 4, shared) == Price(4 + 16 + 22 + 22, 4 + 16 + 22)


def test_successive_halving_keeps_the_better_half_at_each_rung_and_then_finishes_who_was_dropped():
    world = Table(segment_steps=10, score_steps=0.0)
    account = played("successive_halving", world, 15 + 7 + 3 * 2 + 2, 0)  # 16 would take 32
    asked, world.asked = world.asked, []
    first, second, third, rest = asked[:15], asked[15:22], asked[22:25], asked[25:]
    assert [len(path) for path in first + second + third] == [1] * 15 + [2] * 7 + [4] * 3
    ranked = sorted(first, key=lambda path: -world.score(path))
    assert sorted(ranked[:7]) == sorted(path[:1] for path in second)
    ranked = sorted(second, key=lambda path: -world.score(path))
    assert sorted(path[:2] for path in third) == sorted(ranked[:3])
    assert [path[:2] for path in rest] == [ranked[3]] and account.left == 0


def test_shared_halving_trains_no_state_twice_and_sees_more():
    world = Table(score_steps=0.0)
    apart, shared = (played(name, world, 64, 0) for name in ("successive_halving", "halving_shared"))
    assert len(shared.sightings) > 2 * len(apart.sightings)


def test_asha_promotes_the_better_half_of_a_rung_and_begins_another_where_there_is_none():
    world = Noise(10**6, 4)  # no two schedules begin alike
    played("asha", world, 200, 0)
    asked, world.asked = world.asked, []
    at = {1: [], 2: [], 4: []}
    for path in asked[:-5]:  # the last ones use up the budget
        ready = {
            length: [one for one in sorted(at[length], key=world.score)[::-1][: len(at[length]) // 2]]
            for length in (1, 2)
        }
        gone = {one[:length] for length, later in ((1, 2), (2, 4)) for one in at[later]}
        expected = 4 if set(ready[2]) - gone else 2 if set(ready[1]) - gone else 1
        assert len(path) == expected
        assert len(path) == 1 or path[: len(path) // 2] in ready[len(path) // 2]
        at[len(path)].append(path)
    assert all(len(paths) > 5 for paths in at.values())


def test_asha_keeps_enough_back_to_finish_one():
    world = Table(score_steps=0.0)
    for segments in range(4, 30):
        account = played("asha", world, segments, 0)
        assert account.sightings and account.left < 40


def test_one_epoch_finishes_schedules_that_begin_with_the_better_actions():
    world = Table(8, 3)
    account = played("one_epoch_top_k", world, 8 + 2 * 6, 8 + 6)
    begun = [path for path in world.asked if len(path) == 1]
    scores = [world.score(one.path[:1]) for one in account.sightings]
    assert scores == sorted(scores, reverse=True) and len(scores) == 6
    assert len(set(begun)) == len(begun) and scores[0] == max(map(world.score, begun))


def test_a_population_copies_the_better_and_pays_for_each_place_once():
    price = population.population_price(8, 4, 4)
    assert price == Price(4 + 8 + 8 + 8, 4 + 8 + 8 + 8)
    assert population.population_price(1, 4, 4) == Price(4, 1)
    world = Table()
    account = played("pbt", world, *price)
    assert account.segments <= price.segments
    by_length = [[path for path in world.asked if len(path) == length] for length in range(1, 5)]
    assert sorted(by_length[0]) == [(0,), (1,), (2,), (3,)]
    for before, after in zip(by_length, by_length[1:], strict=False):
        assert len(set(after)) == len(after) <= 8
        assert {path[:-1] for path in after} <= set(before)
    worst = min(by_length[1], key=world.score)
    assert worst not in {path[:-1] for path in by_length[2]}
    best = max(by_length[1], key=world.score)
    assert (*best, best[-1]) in by_length[2]  # who is good goes on with its action


def test_greedy_takes_the_best_next_state():
    world = Table()
    played("greedy", world, 16, 16)
    asked, world.asked = world.asked, []
    path = ()
    for at in range(4):
        children = [(*path, action) for action in range(4)]
        assert asked[4 * at : 4 * at + 4] == children
        path = max(children, key=world.score)


def test_greedy_goes_on_with_one_runner_up_at_the_top():
    world = Table()
    played("greedy", world, 16 + 12, 16 + 12)
    asked, world.asked = world.asked, []
    second = sorted(asked[:4], key=world.score)[-2]
    assert {path[:1] for path in asked[16:]} == {second}


def test_greedy_with_little_tries_equally_many_at_each_segment():
    world = Table()
    account = played("greedy", world, 8, 8)
    assert [len(path) for path in world.asked] == [1, 1, 2, 2, 3, 3, 4, 4] and len(account.sightings) == 2
    account = played("greedy", world, 4, 1)
    assert (account.segments, account.scores) == (4, 1)


def test_ranks_of_limited_discrepancy_search():
    assert list(lookahead.spread(0, 3, 4)) == [(0, 0, 0)]
    assert list(lookahead.spread(1, 3, 4)) == [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
    assert list(lookahead.spread(2, 2, 2)) == [(1, 1)]
    every = [ranks for total in range(3 * 3 + 1) for ranks in lookahead.spread(total, 3, 4)]
    assert len(every) == len(set(every)) == 4**3
    assert not list(lookahead.spread(10, 3, 4))


def test_a_beam_goes_on_from_the_best_states():
    world = Table()
    assert lookahead.beam_price(2, 4, 4) == Price(4 + 8 * 3, 4 + 8 * 3)
    played("beam", world, 28, 28)
    asked, world.asked = world.asked, []
    for length in (2, 3, 4):
        before = [path for path in asked if len(path) == length - 1]
        parents = {path[:-1] for path in asked if len(path) == length}
        assert parents == set(sorted(before, key=world.score)[-2:])


def test_what_is_left_widens_the_last_segment_of_a_beam():
    world = Table()
    account = played("beam", world, 28 + 3, 28 + 3)
    assert len(account.sightings) == 8 + 3


# --- Optuna ----------------------------------------------------------------------------------------------------------


def test_tpe_pays_for_each_trial_from_scratch_and_for_its_looks():
    world = Table()
    account = played("tpe", world, 64, 30)
    lengths = [len(path) for path in world.asked]
    assert set(lengths) == {1, 2, 4} and account.scores == len(lengths)
    finished = lengths.count(4)
    assert finished == len(account.sightings) and 0 < finished < lengths.count(1)


def test_tpe_is_better_than_random():
    better = 0
    for seed in range(5):
        world = Table(seed=seed, score_steps=0.0)
        best = [played(name, world, 80, 0, WORDS[seed % 3]).best() for name in ("tpe", "random_schedule")]
        assert best[0] is not None and best[1] is not None
        better += np.sign(best[0].score - best[1].score)
    assert better > 0


def test_optuna_is_silent_and_its_level_stays(capfd):
    optuna = pytest.importorskip("optuna")
    before = optuna.logging.get_verbosity()
    played("tpe", Table(), 40, 20)
    assert optuna.logging.get_verbosity() == before and capfd.readouterr() == ("", "")


def test_without_optuna_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r'Optuna is not installed — pip install "jaxft\[explore\]"'):
        played("tpe", Table(), 40, 20)


# --- what they are made of -------------------------------------------------------------------------------------------


def test_a_store_charges_for_what_is_missing():
    world = Table()
    account = Account(world, HUGE)
    own, first, tree = (Store(account, shared=shared) for shared in (0, 1, None))
    for store in (own, first, tree):
        store.score((0, 1, 2, 3), 2)
        assert store.price((0, 1, 2, 3), 2) == Price(0, 0)
        assert store.price((0, 1, 2, 3)) == Price(2, 1)
    assert [store.price((0, 1, 2, 2)) for store in (own, first, tree)] == [(4, 1), (3, 1), (2, 1)]
    assert (account.segments, account.scores) == (6, 3)


def test_a_store_begins_nothing_that_the_budget_does_not_pay_for():
    account = Account(Table(), 40.5)
    store = Store(account, shared=0)
    with pytest.raises(Spent):
        store.score((0, 0, 0, 0))
    store.finish([(0, 0, 0, 0), (1, 1, 1, 1)])
    assert account.spent == 0


@pytest.mark.parametrize("largest", [0, 1, 2, 7, 8, 1000])
def test_the_most_that_fits(largest):
    assert most(lambda number: number <= largest, 10**30) == largest
    assert most(lambda number: number <= largest, 5) == min(largest, 5)


def test_draws_are_functions_of_words_and_place():
    words = draws.fold(WORDS[0], np.arange(400))
    for draw in (draws.bits, draws.uniform, lambda words, count: draws.integers(words, count, 7)):
        many = draw(words, 9)
        assert many.shape == (400, 9)
        np.testing.assert_array_equal(many[:, :4], draw(words, 4))
        np.testing.assert_array_equal(many[17], draw(draws.fold(WORDS[0], 17), 9))
    assert draws.fold(WORDS[0], 3, 5) == prng.fold_in(prng.fold_in(WORDS[0], 3), 5)


def test_draws_have_their_distributions():
    words = draws.fold(WORDS[0], np.arange(2000))
    numbers = draws.uniform(words, 10)
    assert numbers.min() >= 0 and numbers.max() < 1 and stats.kstest(numbers.ravel(), "uniform").pvalue > 1e-4
    for below in (1, 6, 2**32):
        whole = draws.integers(words, 10, below)
        assert whole.min() >= 0 and whole.max() < below
    assert stats.chisquare(np.bincount(draws.integers(words, 10, 6).ravel())).pvalue > 1e-4
    wide = [int(word) for word in draws.bits(words, 3).ravel()]
    assert draws.integers(words, 3, 1000).ravel().tolist() == [word * 1000 >> 64 for word in wide]
    orders = Counter(map(tuple, draws.permutation(words, 3).tolist()))
    assert len(orders) == 6 and stats.chisquare(list(orders.values())).pvalue > 1e-4
    with pytest.raises(ValueError, match="below must lie"):
        draws.integers(words, 1, 0)


def test_schedules_are_drawn_uniformly_and_never_twice():
    assert sorted(draws.schedules(WORDS[0], 3, 4)) == sorted(Table(3, 4).whole)
    firsts = Counter(next(draws.schedules(draws.fold(WORDS[0], at), 2, 3)) for at in range(400))
    assert len(firsts) == 8 and stats.chisquare(list(firsts.values())).pvalue > 1e-4
