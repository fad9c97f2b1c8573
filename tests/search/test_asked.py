"""Asking for one leaf after the other grows the tree that a search on the device grows."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft.search.asked import Asking, no_root, outcome, path_of
from jaxft.search.env import Step
from jaxft.search.grown import Grown
from jaxft.search.policies import Gumbel, Puct, Uct
from jaxft.search.tree import NONE
from jaxft.search.tree_search import tree_search
from tests.search.worlds import Hashed, mixed

KEY = jax.random.key(5)
BATCH = 3


class Host:
    """Outcomes from a world that is not on the device: of the path from the root, for each element."""

    def __init__(self, world: Hashed) -> None:
        self.world, self.roots = world, np.asarray(world.root(BATCH).state)
        self.told: list[list[tuple[int, ...]]] = [[] for _ in range(BATCH)]
        self._facts = jax.jit(lambda state: world.facts(state, jnp))

    def outcome(self, tree: Grown, asked: Any) -> Step:
        """NaN of leaves that are not fresh."""
        states = self.roots.copy()
        fresh = np.asarray(asked.fresh)
        signs = np.ones(BATCH, np.float32)
        for element in range(BATCH):
            path = path_of(tree, int(asked.node[element]), element)
            if fresh[element]:
                assert path[-1] == int(asked.action[element])
                assert path[:-1] == path_of(tree, int(asked.parent[element]), element)
                self.told[element].append(path)
            for action in path:
                before = states[element : element + 1].copy()
                states[element : element + 1] = mixed(before, np.asarray([action]))
                if hasattr(self.world, "player"):
                    after = states[element : element + 1]
                    signs[element] = 1 if self.world.player(before)[0] == self.world.player(after)[0] else -1
        reward, discount, logits, value, done, valid = self._facts(states)
        facts = (reward, discount * signs, value)
        spoilt = [jnp.where(fresh, jnp.asarray(x, jnp.float32), jnp.nan) for x in facts]
        return Step((), spoilt[0], spoilt[1], logits, spoilt[2], done, valid)


def asked_tree(world: Hashed, policy: Any, simulations: int, **settings: Any) -> tuple[Grown, Host]:
    """The tree after so many questions."""
    host, capacity = Host(world), settings.pop("capacity", simulations + 1)
    asking = Asking(policy, capacity, num_simulations=simulations, **settings)
    ask, tell = jax.jit(asking.ask), jax.jit(asking.tell)
    tree, extra = jax.jit(asking.plant)(KEY, world.root(BATCH))
    for _ in range(simulations):
        tree, asked = ask(tree, extra)
        tree = tell(tree, asked, host.outcome(tree, asked))
    return tree, host


def differing(one: Grown, other: Grown) -> list[str]:
    """Fields in which two trees differ in a bit."""
    names = [field.name for field in dataclasses.fields(one.nodes) if field.name not in ("batch", "states")]
    pairs = {name: (getattr(one.nodes, name), getattr(other.nodes, name)) for name in names}
    pairs |= {"used": (one.used, other.used)}
    pairs |= {
        field.name: tuple(getattr(x.cost, field.name) for x in (one, other)) for field in dataclasses.fields(one.cost)
    }
    return [name for name, (x, y) in pairs.items() if np.asarray(x).tobytes() != np.asarray(y).tobytes()]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("world", "policy", "settings"),
    [
        (Hashed(3, turns=True, allowed=3, ends=19), Puct(), {"capacity": 15}),
        (Hashed(2, ends=2), Gumbel(considered=2), {"max_depth": 2}),
    ],
    ids=["full", "solved"],
)
def test_asking_grows_the_tree_of_a_search_to_the_bit(world, policy, settings):
    simulations = 32
    asked, host = asked_tree(world, policy, simulations, **settings)
    searched = jax.jit(lambda root: tree_search(KEY, root, world, policy, simulations, **settings))(world.root(BATCH))
    assert differing(searched.tree, asked) == []
    for element, paths in enumerate(host.told):
        assert len(set(paths)) == len(paths) == int(asked.used[element]) - 1, "each is asked for once"
        assert [path_of(asked, node + 1, element) for node in range(len(paths))] == paths
        assert path_of(asked, 0, element) == ()
    invalid = np.asarray(asked.nodes.children != NONE) & ~np.asarray(asked.nodes.valid)
    assert not invalid.any()
    if "capacity" in settings:
        assert asked.used.tolist() == [15] * BATCH and np.asarray(asked.cost.refused).all()
    if "max_depth" in settings:
        assert np.asarray(asked.nodes.solved[:BATCH]).any() and not np.asarray(asked.nodes.solved[:BATCH]).all()
        assert int(asked.nodes.depths.max()) == 2


@pytest.mark.slow
def test_what_is_solved_is_not_asked_for_any_more():
    asking = Asking(Uct(c=10.0), 20, max_depth=6)
    ask, tell = jax.jit(asking.ask), jax.jit(asking.tell)
    tree, extra = jax.jit(asking.plant)(KEY, no_root(1, 2))
    seen = []
    for _ in range(10):
        tree, asked = ask(tree, extra)
        path = path_of(tree, int(asked.node[0]))
        if not bool(asked.fresh[0]):
            assert path == ()
            continue
        seen.append(path)
        done = jnp.asarray([len(path) == 2])
        tree = tell(tree, asked, outcome(jnp.ones(1) * sum(path), jnp.zeros(1), jnp.zeros((1, 2)), done))
    assert sorted(seen) == [(0,), (0, 0), (0, 1), (1,), (1, 0), (1, 1)]
    assert bool(tree.nodes.solved[0]) and float(tree.nodes.values[0]) == 1 + 2
    assert int(tree.nodes.visits[0]) == 7, "nothing is counted after that"


@pytest.mark.parametrize(("capacity", "max_depth", "told"), [(1, None, "capacity"), (8, 0, "max_depth")])
def test_settings_that_make_no_sense_are_refused(capacity, max_depth, told):
    with pytest.raises(ValueError, match=f"{told}: expected at least"):
        Asking(Puct(), capacity, max_depth=max_depth)
