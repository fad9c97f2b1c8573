"""Networks of agents: shapes, initial values that are functions of stream and path, and orthogonal ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft import prng
from jaxft.rl.networks import SMALL, Mlp
from jaxft.rl.recipe import Network

INIT = prng.stream("init", 0)
OBSERVATION = (6,)


def mlp(head: str, **settings: Any) -> Mlp:
    return Mlp(replace(Network(width=8), **settings), OBSERVATION, 3, head)


def observations(count: int, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=(count, *OBSERVATION)), jnp.float32)


@pytest.mark.parametrize("head", ["values", "policy", "gaussian"])
def test_outputs_have_the_shapes_of_their_head(head):
    network = mlp(head)
    trainable, frozen = network.init(INIT)
    assert not frozen and all(leaf.dtype == np.float32 for leaf in trainable.values())
    assert {path[0] for path in trainable} == ({"values"} if head == "values" else {"policy", "value"})
    out = network.apply(trainable, frozen, observations(5))
    assert out.values.shape == (5, 3) and out.state_value.shape == (5,)
    assert (out.log_std is not None) == (head == "gaussian")
    if head == "gaussian":
        np.testing.assert_array_equal(out.log_std, np.zeros(3))
    if head == "values":
        np.testing.assert_array_equal(out.state_value, 0)


def test_kernels_are_orthogonal_with_the_gain_of_their_layer():
    trainable, _ = mlp("policy").init(INIT)
    gains = {"hidden_0": np.sqrt(2), "hidden_1": np.sqrt(2), "out": SMALL}
    for (tower, layer, kind), leaf in trainable.items():
        if kind == "bias":
            np.testing.assert_array_equal(leaf, 0)
            continue
        gain = 1.0 if (tower, layer) == ("value", "out") else gains[layer]
        short = leaf if leaf.shape[0] >= leaf.shape[1] else leaf.T
        np.testing.assert_allclose(short.T @ short, gain**2 * np.eye(short.shape[1]), atol=1e-5 * gain**2 + 1e-7)


def test_a_policy_begins_with_all_actions_about_alike():
    network = mlp("policy")
    logits = network.apply(*network.init(INIT), observations(200)).values
    assert np.ptp(np.asarray(jax.nn.softmax(logits)), axis=-1).max() < 0.03


def test_initial_values_are_functions_of_stream_and_path():
    first, second = (mlp(head).init(INIT)[0] for head in ("policy", "gaussian"))
    other = mlp("policy").init(prng.stream("init", 1))[0]
    for path, leaf in first.items():
        np.testing.assert_array_equal(leaf, second[path])
        assert path[-1] == "bias" or not np.array_equal(leaf, other[path])
    assert not np.array_equal(first[("policy", "hidden_1", "kernel")], first[("value", "hidden_1", "kernel")])


def test_depth_width_and_activation_are_those_of_the_recipe():
    trainable, _ = mlp("values", width=5, depth=3).init(INIT)
    assert {path[1] for path in trainable} == {"hidden_0", "hidden_1", "hidden_2", "out"}
    assert trainable[("values", "hidden_1", "kernel")].shape == (5, 5)
    x = observations(4)
    for activation, function in (("tanh", np.tanh), ("relu", lambda x: np.maximum(x, 0))):
        network = mlp("values", depth=1, activation=activation)
        trainable, frozen = network.init(INIT)
        hidden = function(np.asarray(x) @ trainable[("values", "hidden_0", "kernel")])
        expected = hidden @ trainable[("values", "out", "kernel")]
        np.testing.assert_allclose(network.apply(trainable, frozen, x).values, expected, atol=1e-5)


def test_observations_of_any_rank_are_flattened():
    network = Mlp(Network(width=4, depth=1), (2, 3), 3, "values")
    trainable, frozen = network.init(INIT)
    x = observations(5)
    flat = mlp("values", width=4, depth=1).apply(trainable, frozen, x).values
    np.testing.assert_array_equal(network.apply(trainable, frozen, x.reshape(5, 2, 3)).values, flat)
