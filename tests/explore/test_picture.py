"""The tree of an exploration to look at."""

from __future__ import annotations

import pytest
from matplotlib.image import imread

from jaxft.explore import picture
from jaxft.explore.account import Account
from jaxft.explore.explorer import Explorer
from tests.explore.test_explorer import WHOLE, Diverging, Small, words

NAMES = ["as the recipe says", "learning_rate 3", "a label with $signs$ and_no TeX " * 9]


def grown(world: Small, budget: float = 300) -> Explorer:
    explorer = Explorer(Account(world, WHOLE), words(2))
    explorer.account.budget = budget
    explorer.tree = explorer.grown()  # type: ignore[attr-defined]
    return explorer


@pytest.mark.slow
@pytest.mark.parametrize("max_nodes", [4, 12, 1000])
def test_it_shows_the_schedule_found_and_what_was_visited_most(max_nodes):
    world = Small(5)
    explorer = grown(world)
    tree, best = explorer.tree, explorer.account.best()  # type: ignore[attr-defined]
    assert best is not None
    states = picture.shown(tree, best.path, max_nodes)
    paths = [one.path for one in states]
    assert len(paths) == len(set(paths)) == min(max_nodes, len(explorer.paths))
    assert set(paths) >= {best.path[:length] for length in range(4)}
    for number, path in enumerate(paths):
        assert path in explorer.paths and (not path or path[:-1] in paths[:number]), "parents first"
    assert states[0].value == pytest.approx(best.score - world.score(()), abs=1e-5)
    leaves = [one for one in states if not any(path[:-1] == one.path for path in paths if path)]
    assert sorted(one.row for one in leaves) == list(range(len(leaves))), "each has a row of its own"
    assert min(leaves, key=lambda one: one.row).path == best.path, "the schedule found is at the top"
    for one in states:
        below = [other.row for other in states if other.path and other.path[:-1] == one.path]
        assert not below or one.row == (min(below) + max(below)) / 2
        assert sum(other.share for other in states if other.path and other.path[:-1] == one.path) <= 1


def test_what_diverged_is_named_so():
    explorer = grown(Diverging(1), WHOLE)
    lost = [one.path for one in explorer.account.sightings if one.score == -float("inf")]
    states = picture.shown(explorer.tree, (0, 0, 0), 100, lost)  # type: ignore[attr-defined]
    diverged = {one.path for one in states if one.value is None}
    assert diverged == {path for path in explorer.paths if 1 in path}
    assert {len(path) for path in diverged} == {1, 2, 3}
    assert {picture._label(one)[4:] for one in states if one.path in diverged} == {"diverged"}


def test_it_is_drawn(tmp_path):
    explorer = grown(Small(5), WHOLE)
    best = explorer.account.best()
    assert best is not None
    heights = []
    for name, max_nodes in (("few", 6), ("many", 40)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(picture, "MAX_NODES", max_nodes)
            picture.png(explorer.tree, tmp_path / name, best.path, NAMES, "accuracy")  # type: ignore[attr-defined]
        pixels = imread(tmp_path / name, format="png")
        assert pixels.std() > 0.02 and pixels.shape[1] < 1500
        heights.append(pixels.shape[0])
    assert heights[0] < heights[1]
