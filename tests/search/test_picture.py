"""Trees to look at: every number shown is one of the search."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from matplotlib.image import imread

from jaxft.search import Found, Puct, picture, tree_search
from tests.search.worlds import Hashed

MOVES = ("left", "right", 'up "here"')


@pytest.fixture(scope="module")
def found() -> Found:
    world = Hashed(3, ends=4)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return jax.jit(lambda root: tree_search(jax.random.key(0), root, world, Puct(), 40))(world.root(2))


def test_nodes_come_after_their_parents_with_their_numbers(found):
    shown = picture.nodes_of(found, 1, max_nodes=1000)
    assert len(shown) == int(found.tree.used[1]) and shown[0].visits == int(found.tree.nodes.visits[1])
    seen = {-1}
    for one in shown:
        assert one.parent in seen
        seen.add(one.number)
    children = [one for one in shown if one.depth == 1]
    assert {one.action: one.visits for one in children} == {
        action: count for action, count in enumerate(np.asarray(found.visits)[1].tolist()) if count
    }
    for one in children:
        assert one.q == pytest.approx(float(found.q[1, one.action]))


def test_text_has_a_line_a_node_and_tells_what_is_left_out(found):
    lines = picture.text(found, name=MOVES.__getitem__, max_nodes=6).splitlines()
    used = int(found.tree.used[0])
    assert lines[0] == f"{used} nodes; plays {MOVES[int(found.action[0])]}"
    assert lines[1].split()[:2] == ["root", str(int(found.tree.nodes.visits[0]))]
    assert len(lines) == 8 and lines[-1] == f"and {used - 6} more"
    assert max(map(len, lines)) <= 80


def test_dot_names_every_node_once_and_escapes_names(found):
    text = picture.dot(found, name=MOVES.__getitem__, max_nodes=20)
    shown = picture.nodes_of(found, max_nodes=20)
    assert text.startswith("digraph tree {") and text.endswith("}\n")
    assert text.count("visits\\n") == len(shown) and text.count(" -> ") == len(shown) - 1
    assert 'up \\"here\\"' in text


def test_a_picture_is_drawn(found, tmp_path):
    picture.png(found, tmp_path / "tree.png", max_nodes=12)
    pixels = imread(tmp_path / "tree.png")
    assert pixels.shape[0] > 200 and pixels.shape[1] > 400 and pixels.std() > 0.02
