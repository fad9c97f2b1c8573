"""The world on the device: the paths and scores of the one on the host, states that are computed again to the bit."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft import prng
from jaxft.errors import UserError
from jaxft.explore import on_device, space
from jaxft.explore.account import Account
from jaxft.explore.explorer import Explorer, Settings, turns
from jaxft.explore.on_device import OnDevice
from jaxft.explore.plan import plan
from jaxft.explore.progress import Progress
from jaxft.explore.run import search, world
from jaxft.explore.searchers import MCTS
from jaxft.explore.setup import set_up
from jaxft.search import Full, Puct, Root, Slots, tree_search
from jaxft.search.asked import path_of
from jaxft.train.setup import Setup

pytestmark = [pytest.mark.usefixtures("as_users_do"), pytest.mark.slow]

TURNS = 8
SHAPE: dict[str, Any] = {"depth": 2, "segment_steps": 10, "metric": "loss"}
WORDS = prng.path_words(prng.stream("explore", 0), MCTS)


@pytest.fixture(scope="module")
def chosen(recipe_on, as_users_do):
    strategies = [
        {"learning_rate": 3.0},
        {"freeze": "encoder", "learning_rate": 10.0, "dropout": 0.3},
        {"learning_rate": 1e6},  # diverges
    ]
    return recipe_on("nowhere", explore={"strategies": strategies, "place": "device"}, data={"max_tokens": 16})


@pytest.fixture(scope="module")
def setup(chosen) -> Setup:
    return set_up(chosen)


@pytest.fixture(scope="module")
def there(chosen, setup) -> OnDevice:
    return OnDevice(setup, space.strategies(chosen), **SHAPE)


@pytest.fixture(scope="module")
def found(there) -> tuple[Any, np.ndarray]:
    """A search of some segments on the device."""
    return on_device.search(there, prng.device_words(WORDS), TURNS, Settings())


def test_the_search_is_that_of_the_host(chosen, setup, found):
    searched = world(chosen, setup, journal=None)
    explorer = Explorer(Account(searched, TURNS * 10 + (TURNS + 1) * searched.score_steps), WORDS)
    explorer.grown()
    tree, scores = found
    paths = [path_of(tree.tree, node) for node in range(TURNS + 1)]
    assert paths == explorer.paths and len(set(paths)) == TURNS + 1
    here = np.array([searched.score(path) for path in paths])
    assert np.isneginf(scores).tolist() == np.isneginf(here).tolist() and np.isfinite(scores).sum() >= 5
    np.testing.assert_allclose(scores[np.isfinite(here)], here[np.isfinite(here)], rtol=2e-4)


def test_states_that_were_let_go_come_back_to_the_bit(there):
    def plays(store: Any) -> Any:
        runs = jax.tree.map(lambda leaf: leaf[None], there.initial())
        root = Root((runs, jax.vmap(there.look)(runs)), jnp.zeros((1, there.num_actions)), jnp.zeros(1))
        return tree_search(jax.random.key(0), root, there, Puct(), 16, max_depth=2, store=store)

    with jax.numpy_rank_promotion("allow"):
        full, few = (jax.jit(plays, static_argnums=0)(store) for store in (Full(), Slots(2)))
    assert int(few.cost.replays[0]) > 0 == int(full.cost.replays[0])
    for name in ("visits", "values", "rewards", "actions", "parents"):
        a, b = (np.asarray(getattr(one.tree.nodes, name)) for one in (full, few))
        assert a.tobytes() == b.tobytes(), name


def test_frozen_layers_stay_as_they_are(there):
    before = there.initial()
    after = jax.jit(there.segment)(before, jnp.int32(2))
    moved = {path for path, leaf in after.state.trainable.items() if (leaf != before.state.trainable[path]).any()}
    assert moved and all(path[0] in ("pooler", "classifier") for path in moved)
    assert float(after.decay) == 1.0 and int(after.depth) == 1
    assert float(jax.jit(there.segment)(before, jnp.int32(0)).decay) < 1.0


def test_the_command_takes_what_the_device_has_seen(chosen, setup, monkeypatch):
    """However little room the host would have."""
    monkeypatch.setattr("jaxft.explore.run.ROOM_MB", 0.5)
    searched = world(chosen, setup, journal=None)
    accounts = search(chosen, setup, searched, Progress("loss", quiet=True))
    assert accounts[MCTS].best() is not None and accounts[MCTS].segments == len(accounts[MCTS].states)
    assert searched.trained < accounts[MCTS].segments + accounts["random_schedule"].segments
    on_host = world(chosen, setup, journal=None)
    host = dataclasses.replace(chosen, explore=dataclasses.replace(chosen.explore, place="host"))
    again = search(host, setup, on_host, Progress("loss", quiet=True))
    assert [one.path for one in again[MCTS].sightings] == [one.path for one in accounts[MCTS].sightings]
    assert on_host.trained > searched.trained


def test_what_has_no_place_on_the_device_is_named(chosen, setup, there):
    with pytest.raises(UserError, match="explore.place: on the device the metric is accuracy or loss, not mcc"):
        OnDevice(setup, space.strategies(chosen), **{**SHAPE, "metric": "mcc"})
    sizes = plan(chosen, setup)
    state = sum(leaf.nbytes for leaf in jax.tree.leaves(there.initial().state))
    needed = (1 + turns(sizes, sizes.budget)) * state / 2**20
    with pytest.raises(UserError, match="explore.keep_mb: the states of a search on the device take"):
        on_device.check_room(setup, sizes, keep_mb=needed - 0.01)
    for room in (needed + 0.01, None):
        on_device.check_room(setup, sizes, keep_mb=room)
    large = sizes._replace(budget=1e9, depth=30)
    with pytest.raises(
        UserError, match="explore.place: the states .* MB, and this machine has .* — host, or a smaller"
    ):
        on_device.check_room(setup, large, keep_mb=None)
