"""Stacked kernels taken apart and put together: the same bits, the same digest, and only where layers are straight."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft.recipe import Optim
from jaxft.train import layers, optim, step
from jaxft.train.compiled import Compiled
from jaxft.train.layers import Layers
from jaxft.train.partition import LAYERS

pytestmark = pytest.mark.usefixtures("promotion_for_optax")


def pair(setup: Any) -> tuple[step.State, Compiled, Compiled]:
    """An initial state, and programs whose layers are a loop and straight-line code."""
    optimiser = optim.make(setup.recipe.optim, setup.num_steps)
    model = setup.model(training=True)
    looped, straight = (
        Compiled(step.make(model.clone(unroll=unroll), setup.task, optimiser, setup.partition, 0.0))
        for unroll in (1, model.config.num_hidden_layers)
    )
    return step.init(setup.split()[0], optimiser), looped, straight


@pytest.mark.parametrize("rule", [Optim(), Optim(name="sgd", momentum=0.9)], ids=["adamw", "sgd"])
def test_a_state_is_taken_apart_and_put_together_bit_by_bit(set_up_on, rule):
    state, looped, straight = pair(set_up_on(optim=rule))
    stacked, parted = looped.place(state), straight.place(state)
    assert jax.tree.structure(stacked) == jax.tree.structure(state)
    assert len(jax.tree.leaves(parted)) > len(jax.tree.leaves(stacked))
    again = straight.place(parted)
    assert jax.tree.structure(again) == jax.tree.structure(parted)
    for found in (parted, again, layers.together(parted), layers.to_host(parted)):
        assert straight.digest(found) == looped.digest(stacked)
    back = layers.to_host(parted)
    assert jax.tree.structure(back) == jax.tree.structure(state)
    for one, other in zip(jax.tree.leaves(back), jax.tree.leaves(state), strict=True):
        np.testing.assert_array_equal(one, other)


def test_kernels_of_the_layers_alone_are_taken_apart(set_up_on):
    state, _, straight = pair(set_up_on(freeze="layers:1"))
    for path, leaf in straight.place(state).trainable.items():
        assert layers.is_layers(leaf) == (path[:2] == LAYERS and path[-1] == "kernel"), path
        if layers.is_layers(leaf):
            assert [part.shape for part in leaf.parts] == [state.trainable[path].shape[1:]]


def test_one_bit_in_one_layer_moves_the_digest():
    kernel = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    changed = kernel.copy()
    changed[1, 0, 0] = np.nextafter(changed[1, 0, 0], np.float32(9))

    def digest(leaf: np.ndarray) -> int:
        return int(step.digest({"kernel": Layers(map(jnp.asarray, leaf)), "bias": jnp.ones(3)}))

    assert digest(kernel) != digest(changed)
