"""The native search: against a plain one, in pieces, with states evicted, with a subtree kept."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft.search.env import Root
from jaxft.search.grown import Grown
from jaxft.search.policies import Gumbel, Puct, Uct
from jaxft.search.reuse import reroot
from jaxft.search.store import Full, Part, Slots
from jaxft.search.tree_search import Found, tree_search
from tests.search import plain
from tests.search.worlds import Hashed, mixed

KEY = jax.random.key(5)


def run(world: Hashed, policy: Any, num_simulations: int, batch: int = 3, **settings: Any) -> Found:
    tree = settings.pop("tree", None)
    return jax.jit(lambda root, tree: tree_search(KEY, root, world, policy, num_simulations, tree=tree, **settings))(
        world.root(batch), tree
    )


def table(x: Any, tree: Grown) -> np.ndarray:
    """Rows as [N, B, ...]."""
    return np.asarray(x).reshape(-1, tree.nodes.batch, *x.shape[1:])


def columns(tree: Grown, *names: str) -> dict[str, np.ndarray]:
    """Fields of the nodes [N, B, ...]."""
    return {name: table(getattr(tree.nodes, name), tree) for name in names}


def same_nodes(one: Grown, other: Grown) -> list[str]:
    """Fields in which two trees differ in a bit."""
    fields = [f.name for f in dataclasses.fields(one.nodes) if f.name not in ("batch", "states")]
    return [f for f in fields if not np.array_equal(getattr(one.nodes, f), getattr(other.nodes, f))]


# --- against a plain search ------------------------------------------------------------------------------------------

WORLDS = {
    "endless": Hashed(4),
    "ends": Hashed(3, ends=3),
    "masks": Hashed(5, allowed=2, ends=9),
    "turns": Hashed(3, turns=True, allowed=3, ends=5),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("world", "name", "policy", "max_depth"),
    [
        ("endless", "puct", Puct(), None),
        ("ends", "puct", Puct(), 3),
        ("masks", "puct", Puct(), None),
        ("turns", "puct", Puct(), None),
        ("endless", "uct", Uct(), 3),
        ("turns", "uct", Uct(), None),
    ],
)
def test_trees_are_those_of_a_plain_search(world, name, policy, max_depth):
    found = run(WORLDS[world], policy, 40, max_depth=max_depth)
    nodes = found.tree.nodes
    for element, state in enumerate(np.asarray(WORLDS[world].root(3).state)):
        search = plain.Search(WORLDS[world], state, name, max_depth)
        for _ in range(40):
            search.simulate()
        expected, number = search.nodes, {id(node): i for i, node in enumerate(search.nodes)}
        assert int(found.tree.used[element]) == len(expected)
        column = {name: x[: len(expected), element] for name, x in columns(found.tree, "parents", "actions").items()}
        assert column["parents"].tolist() == [
            -1 if node.parent is None else number[id(node.parent)] for node in expected
        ]
        assert column["actions"].tolist() == [node.action for node in expected]
        for field in ("visits", "solved"):
            got = table(getattr(nodes, field), found.tree)[: len(expected), element]
            assert got.tolist() == [getattr(node, field) for node in expected]
        values = table(nodes.values, found.tree)[: len(expected), element]
        np.testing.assert_allclose(values, [node.value for node in expected], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_nothing_is_evaluated_twice():
    """Expansions are the nodes, whether the tree is cut, has ends, or is solved before the search is over."""
    for world, depth in ((Hashed(2, ends=3), None), (Hashed(2), 3), (Hashed(4), None)):
        found = run(world, Puct(), 64, max_depth=depth)
        assert np.array_equal(found.cost.expansions, found.tree.used - 1)
        simulations = found.cost.expansions + found.cost.revisits + found.cost.refused
        solved = np.asarray(found.tree.nodes.solved[:3])
        assert np.array_equal(np.asarray(simulations)[~solved], np.full(3 - solved.sum(), 64))
    assert run(Hashed(2), Uct(c=100.0), 64, max_depth=3).cost.expansions.tolist() == [14, 14, 14]


# --- in pieces, with less memory, after a move -----------------------------------------------------------------------

SEVERAL = {
    "puct": Puct(dirichlet_fraction=0.25),
    "uct": Uct(),
    "gumbel": Gumbel(considered=4, planned=32),
}


@pytest.mark.slow
@pytest.mark.parametrize("policy", SEVERAL)
def test_a_search_in_pieces_grows_the_same_tree(policy):
    world = Hashed(4, ends=11, noise=True)
    whole = run(world, SEVERAL[policy], 32)
    part = run(world, SEVERAL[policy], 20, capacity=33)
    part = run(world, SEVERAL[policy], 12, tree=part.tree, capacity=33)
    assert same_nodes(whole.tree, part.tree) == []
    assert np.array_equal(whole.action, part.action) and np.array_equal(whole.weights, part.weights)
    grown = run(world, SEVERAL[policy], 12, tree=run(world, SEVERAL[policy], 20).tree)
    assert same_nodes(whole.tree, grown.tree) == [], "room is made where there is none"


@pytest.mark.slow
@pytest.mark.parametrize(("policy", "slots"), [("puct", 2), ("uct", 3), ("gumbel", 3), ("puct", 33)])
def test_evicted_states_come_back_to_the_bit(policy, slots):
    world = Hashed(4, ends=11, noise=True)
    full, few = (run(world, SEVERAL[policy], 32, max_depth=5, store=store) for store in (Full(), Slots(slots)))
    assert same_nodes(full.tree, few.tree) == []
    assert (np.asarray(few.cost.replays) > 0).all() == (slots < 33) and not np.asarray(full.cost.replays).any()
    assert jax.tree.leaves(few.tree.kept.states)[0].shape == (slots * 3,)


@pytest.mark.slow
def test_a_part_of_the_state_may_be_kept():
    class Two(Hashed):
        """A state with a part that never changes."""

        def root(self, batch: int, seed: int = 0):
            root = super().root(batch, seed)
            return root._replace(state={"moves": root.state, "stays": jnp.ones((batch, 1000))})

        def expand(self, state: Any, action: Any, key: Any):
            step = super().expand(state["moves"], action, key)
            return step._replace(
                state={"moves": step.state, "stays": state["stays"]}, reward=step.reward + state["stays"][:, 0]
            )

    part = Part(lambda state: state["moves"], lambda root, moves: {**root, "moves": moves})
    whole = run(Two(3), Puct(), 24)
    for store in (Full(part), Slots(3, part)):
        found = run(Two(3), Puct(), 24, store=store)
        assert same_nodes(whole.tree, found.tree) == []
        assert sum(x.size for x in jax.tree.leaves(found.tree.kept.states)) <= 25 * 3


@pytest.mark.slow
def test_a_subtree_is_kept_with_all_it_knows():
    world = Hashed(3, ends=13, noise=True)
    found = run(world, Puct(), 48)
    kept, there = jax.jit(reroot)(found.tree, found.action)
    assert there.all()
    old, new = paths(found.tree), paths(kept)
    for element, action in enumerate(np.asarray(found.action)):
        expected = {path[1:]: facts for path, facts in old[element].items() if path[:1] == (action,)}
        assert new[element] == expected and len(expected) > 3
        assert int(kept.used[element]) == len(expected)


@pytest.mark.slow
def test_a_kept_subtree_goes_on_as_if_it_had_been_searched_alone():
    """Moves into an element whose subtree is missing keep the tree as it was, and say so."""
    world = Hashed(3, noise=True)
    found = run(world, Puct(), 48)
    unseen = jnp.argmin(found.visits, axis=-1)
    unseen = jnp.where(found.visits[jnp.arange(3), unseen] == 0, unseen, found.action)
    kept, there = reroot(found.tree, unseen)
    assert there.tolist() == (np.asarray(found.visits)[np.arange(3), unseen] > 0).tolist()
    kept, _ = reroot(found.tree, found.action)
    more = searched_on(world, found, Full())
    assert (np.asarray(more.tree.used) == np.asarray(kept.used) + 16).all()
    before, after = paths(kept), paths(more.tree)
    assert all(set(old) <= set(new) for old, new in zip(before, after, strict=True))


def searched_on(world: Hashed, found: Found, store: Full | Slots) -> Found:
    """After the move that was found best, with the subtree."""
    kept, _ = reroot(found.tree, found.action)
    states = mixed(world.root(3).state, found.action)
    _, _, logits, value, _, valid = world.facts(states, jnp)
    root = Root(states, logits, value, valid)
    return jax.jit(lambda root, tree: tree_search(KEY, root, world, Puct(), 16, tree=tree, store=store))(root, kept)


@pytest.mark.slow
@pytest.mark.parametrize("slots", [2, 4])
def test_a_kept_subtree_whose_states_were_evicted_goes_on_the_same(slots):
    world = Hashed(3, noise=True)
    full, few = (run(world, Puct(), 48, store=store) for store in (Full(), Slots(slots)))
    assert same_nodes(searched_on(world, full, Full()).tree, searched_on(world, few, Slots(slots)).tree) == []


def paths(tree: Grown) -> list[dict[tuple[int, ...], tuple[Any, ...]]]:
    """Of each element: path of actions -> what its node knows."""
    f, found = columns(tree, "parents", "actions", "visits", "values", "keys", "child_q"), []
    for element in range(tree.nodes.batch):
        names: dict[int, tuple[int, ...]] = {0: ()}
        facts = {}
        for node in range(int(tree.used[element])):
            if node:
                names[node] = (*names[f["parents"][node, element]], int(f["actions"][node, element]))
            rest = (f[name][node, element].tolist() for name in ("visits", "values", "keys", "child_q"))
            facts[names[node]] = tuple(map(str, rest))
        found.append(facts)
    return found


# --- several leaves at once ------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("policy", "store"), [("puct", Full()), ("puct", Slots(3)), ("gumbel", Full())])
def test_leaves_at_once_are_counted_like_leaves_in_turn(policy, store):
    """Nothing is left under way, and every value is the mean of the returns below it."""
    found = run(Hashed(4, noise=True), SEVERAL[policy], 32, leaf_batch=4, store=store)
    tree = found.tree
    assert found.visits.sum(-1).tolist() == [32] * 3
    names = ("visits", "values", "raw_values", "parents", "rewards", "discounts", "child_visits")
    f = columns(tree, *names)
    for element in range(3):
        used = int(tree.used[element])
        total = f["raw_values"][:used, element].astype(np.float64) * own_visits(f, used, element)
        for node in range(used - 1, 0, -1):
            count, parent = f["visits"][node, element], f["parents"][node, element]
            seen = f["rewards"][node, element] * count + f["discounts"][node, element] * total[node]
            total[parent] += seen
        np.testing.assert_allclose(
            total / f["visits"][:used, element], f["values"][:used, element], rtol=1e-4, atol=1e-5
        )


def own_visits(f: dict[str, np.ndarray], used: int, element: int) -> np.ndarray:
    """Visits that ended at each node: its evaluation, and simulations that met it while it had no value yet."""
    return f["visits"][:used, element] - f["child_visits"][:used, element].sum(-1)


@pytest.mark.slow
def test_one_leaf_at_a_time_is_the_default_and_more_are_close_to_it():
    one, four = (run(Hashed(4), Puct(), 64, leaf_batch=k) for k in (1, 4))
    assert same_nodes(one.tree, run(Hashed(4), Puct(), 64).tree) == []
    shares = [np.asarray(found.weights) for found in (one, four)]
    assert np.abs(shares[0] - shares[1]).sum(-1).max() < 0.5


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_no_room_is_told_and_does_no_harm():
    found = run(Hashed(4), Puct(), 32, capacity=9)
    assert found.cost.refused.tolist() == [24] * 3 and found.tree.used.tolist() == [9] * 3
    assert np.isfinite(found.value).all()


@pytest.mark.parametrize("settings", [{"leaf_batch": 3}, {"num_simulations": 0}])
def test_settings_that_make_no_sense_are_refused(settings):
    count = settings.pop("num_simulations", 8)
    with pytest.raises(ValueError, match="simulations cannot be done"):
        run(Hashed(2), Puct(), count, **settings)
    with pytest.raises(ValueError, match="max_depth: expected at least 1"):
        run(Hashed(2), Puct(), 8, max_depth=0)
    with pytest.raises(ValueError, match="at least 2"):
        Slots(1)
