"""The optimiser whose numbers are data: against optax, against its formula in NumPy, f64, and which part it moves."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxft import prng
from jaxft.model.bert import split_layers
from jaxft.model.config import BertConfig
from jaxft.model.initial import initialise
from jaxft.recipe import Optim, Recipe, Train
from jaxft.strategy import Strategy
from jaxft.train import optim
from jaxft.train.parametric import LAYERS, Hyper, Moments, Parametric, Window, hyper
from jaxft.train.partition import flatten, partition

pytestmark = pytest.mark.usefixtures("promotion_for_optax")

STEPS = 10
KERNEL, BIAS, SCALE = (*LAYERS, "up", "kernel"), (*LAYERS, "up", "bias"), (*LAYERS, "norm", "scale")
WORD, HEAD = ("encoder", "embeddings", "word"), ("classifier", "kernel")
PATHS = {KERNEL: (2, 4, 3), BIAS: (2, 3), SCALE: (2, 3), WORD: (5, 4), HEAD: (4, 2)}
DECAYING = {KERNEL, WORD, HEAD}
BASE = Optim(learning_rate=0.1, warmup=0.2, weight_decay=0.1, clip_norm=1.0)
ADAMW, SGD = Strategy(), Strategy(optimizer="sgd")


def draw(seed: int, scale: float = 1.0) -> dict:
    rng = np.random.default_rng(seed)
    return {path: (scale * rng.standard_normal(shape)).astype(np.float32) for path, shape in PATHS.items()}


def gradients() -> list[dict]:
    """Norms on both sides of 1, so that clipping sometimes happens."""
    return [draw(100 + step, scale=0.02 * 2**step) for step in range(STEPS)]


def take_steps(chosen: Optim, strategies: Sequence[Strategy]) -> tuple[dict, Moments]:
    """Parameters and moments after a step with each strategy, all by one program."""
    rule, recipe = Parametric(chosen, STEPS), Recipe(optim=chosen)
    params: Any = jax.tree.map(jnp.asarray, draw(0))
    moments, update = rule.init(params), jax.jit(rule.update)
    for number, (grads, strategy) in enumerate(zip(gradients(), strategies, strict=False)):
        numbers = hyper(recipe, strategy)
        params, moments = update(jax.tree.map(jnp.asarray, grads), moments, params, jnp.int32(number), numbers)
    assert update._cache_size() == 1  # type: ignore[attr-defined]  # nothing that a strategy sets compiles anything
    return params, moments


def by_formula(chosen: Optim, strategies: Sequence[Strategy]) -> dict:
    """m and v of all gradients so far, whoever used them; u = m / (sqrt(v) + eps) or m; θ ← θ − ηu − ηλθ."""
    theta = {path: values.astype(np.float64) for path, values in draw(0).items()}
    first, second = ({path: np.zeros(shape) for path, shape in PATHS.items()} for _ in range(2))
    schedule: Any = optim.schedule(chosen, STEPS)
    for step, (grads, strategy) in enumerate(zip(gradients(), strategies, strict=False)):
        grads = {path: values.astype(np.float64) for path, values in grads.items()}
        norm = np.sqrt(sum((values**2).sum() for values in grads.values()))
        clip = 1.0 if chosen.clip_norm is None else min(1.0, chosen.clip_norm / norm)
        rate = float(schedule(step)) * strategy.learning_rate
        decay = chosen.weight_decay if strategy.weight_decay is None else strategy.weight_decay
        for path in PATHS:
            g = clip * grads[path]
            first[path] = chosen.b1 * first[path] + (1 - chosen.b1) * g
            second[path] = chosen.b2 * second[path] + (1 - chosen.b2) * g**2
            m, v = first[path] / correction(chosen.b1, step), second[path] / correction(chosen.b2, step)
            u = m if (strategy.optimizer or chosen.name) == "sgd" else m / (np.sqrt(v) + chosen.eps)
            theta[path] = theta[path] - rate * u - rate * (decay if path in DECAYING else 0.0) * theta[path]
    return theta


def correction(decay: float, step: int) -> float:
    """1 - decay^(step + 1) in f32, as optax has it too."""
    return float(np.float32(1) - np.float32(decay) ** np.float32(step + 1))


def assert_close(found: dict, expected: dict, rtol: float, atol: float) -> None:
    assert found.keys() == expected.keys()
    for path, values in expected.items():
        np.testing.assert_allclose(found[path], values, rtol=rtol, atol=atol, err_msg=str(path))


# --- the update ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [{}, {"clip_norm": None}, {"weight_decay": 0.0}, {"schedule": "cosine"}, {"b1": 0.8, "b2": 0.95, "eps": 1e-6}],
    ids=str,
)
def test_where_a_strategy_says_nothing_adamw_is_that_of_runs_without_segments(change):
    chosen = dataclasses.replace(BASE, **change)
    theirs = optim.make(chosen, STEPS)
    params: Any = jax.tree.map(jnp.asarray, draw(0))
    state, update = theirs.init(params), jax.jit(theirs.update)
    for grads in gradients():
        updates, state = update(jax.tree.map(jnp.asarray, grads), state, params)
        params = optax.apply_updates(params, updates)
    assert_close(take_steps(chosen, [ADAMW] * STEPS)[0], params, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("change", "strategies"),
    [
        ({}, [SGD] * STEPS),
        ({"name": "sgd"}, [Strategy()] * STEPS),
        ({"b1": 0.0, "clip_norm": None}, [SGD] * STEPS),
        ({}, [ADAMW] * 3 + [SGD] * 4 + [ADAMW] * 3),
        ({"name": "sgd"}, [Strategy(optimizer="adamw")] * 5 + [Strategy()] * 5),
        ({}, [Strategy(weight_decay=0.0)] * 5 + [Strategy(weight_decay=0.5, learning_rate=0.3)] * 5),
        ({}, [Strategy(learning_rate=0.0)] * 5 + [Strategy(learning_rate=2.0)] * 5),
    ],
    ids=["sgd", "sgd by recipe", "plain sgd", "there and back", "adamw, then the recipe's", "decay", "rate"],
)
def test_the_update_is_the_formula(change, strategies):
    chosen = dataclasses.replace(BASE, **change)
    found, _ = take_steps(chosen, strategies)
    assert_close(found, by_formula(chosen, strategies), rtol=2e-6, atol=1e-6)


def test_moments_are_those_of_all_gradients_whoever_used_them():
    """To the bit, so going there and back is as if one had stayed; and bias correction goes on."""
    stayed, went = (take_steps(BASE, way)[1] for way in ([ADAMW] * STEPS, [ADAMW] * 3 + [SGD] * 4 + [ADAMW] * 3))
    for one, other in zip(jax.tree.leaves(stayed), jax.tree.leaves(went), strict=True):
        np.testing.assert_array_equal(one, other)
    assert {path: np.asarray(count).tolist() for path, count in went.updates.items()} == {
        path: [STEPS] * 2 if path[:2] == LAYERS else STEPS for path in PATHS
    }


def test_bias_correction_goes_by_a_leafs_own_updates_layer_by_layer():
    """So what was frozen for a while takes its next step as it would have taken it then."""
    chosen = Optim(learning_rate=0.1, schedule="constant", warmup=0.0, clip_norm=None)
    rule, params, gradient = Parametric(chosen, STEPS), jax.tree.map(jnp.asarray, draw(0)), draw(1)
    numbers, moments = hyper(Recipe(optim=chosen), ADAMW), Moments(draw(2), jax.tree.map(np.abs, draw(3)), {})

    def kernel(step: int, counts: list[int]) -> Any:
        updates = {path: jnp.asarray(counts if path[:2] == LAYERS else counts[0], jnp.int32) for path in PATHS}
        return rule.update(gradient, moments._replace(updates=updates), params, jnp.int32(step), numbers)[0][KERNEL]

    np.testing.assert_array_equal(kernel(0, [2, 2]), kernel(7, [2, 2]))
    np.testing.assert_array_equal(kernel(0, [2, 5])[0], kernel(0, [2, 2])[0])
    np.testing.assert_array_equal(kernel(0, [2, 5])[1], kernel(0, [5, 5])[1])
    assert not np.isclose(kernel(0, [2, 2]), kernel(0, [5, 5])).any()


def test_decay_is_of_kernels_and_embeddings_alone():
    """Without a gradient, and with the largest decay: nothing else moves."""
    chosen = dataclasses.replace(BASE, schedule="constant", warmup=0.0)
    rule, params = Parametric(chosen, STEPS), jax.tree.map(jnp.asarray, draw(0))
    zeros = jax.tree.map(jnp.zeros_like, params)
    numbers = hyper(Recipe(optim=chosen), Strategy(weight_decay=2.0))
    new, _ = rule.update(zeros, rule.init(params), params, jnp.int32(0), numbers)
    for path, values in new.items():
        np.testing.assert_allclose(values, params[path] * (0.8 if path in DECAYING else 1.0), rtol=1e-6)


@pytest.mark.parametrize("strategy", [ADAMW, SGD], ids=["adamw", "sgd"])
def test_gradients_beyond_the_limit_come_to_the_same(strategy):
    """By sgd a step is as long as the limit allows; what lies below stays as it is."""
    chosen = Optim(learning_rate=0.1, schedule="constant", warmup=0.0, weight_decay=0.0, clip_norm=1.0)
    rule, params = Parametric(chosen, STEPS), jax.tree.map(jnp.asarray, draw(0))
    numbers, moments = hyper(Recipe(optim=chosen), strategy), rule.init(params)

    def change(norm: float) -> dict:
        gradient = jax.tree.map(lambda g: g * (norm / float(optax.tree.norm(draw(1)))), draw(1))
        new, _ = rule.update(gradient, moments, params, jnp.int32(0), numbers)
        return {path: np.asarray(leaf - params[path]) for path, leaf in new.items()}

    assert_close(change(2.0), change(5.0), rtol=1e-4, atol=1e-6)
    if strategy == SGD:
        lengths = [float(optax.tree.norm(change(norm))) for norm in (0.5, 1.0, 3.0)]
        np.testing.assert_allclose(lengths, [0.05, 0.1, 0.1], rtol=1e-4)


# --- the numbers -----------------------------------------------------------------------------------------------------


def test_a_strategy_sets_what_the_recipe_would():
    recipe = Recipe(train=Train(label_smoothing=0.05), optim=BASE)
    assert hyper(recipe, Strategy()) == Hyper(*(np.asarray(x, np.float32) for x in (1.0, 1.0, 0.1, 0.05)))
    for strategy, changed in [
        (Strategy(optimizer="sgd"), {"optim": dataclasses.replace(BASE, name="sgd")}),
        (Strategy(weight_decay=0.0), {"optim": dataclasses.replace(BASE, weight_decay=0.0)}),
        (Strategy(weight_decay=0.3), {"optim": dataclasses.replace(BASE, weight_decay=0.3)}),
        (Strategy(label_smoothing=0.0), {"train": Train(label_smoothing=0.0)}),
        (Strategy(label_smoothing=0.2), {"train": Train(label_smoothing=0.2)}),
    ]:
        found, expected = hyper(recipe, strategy), hyper(dataclasses.replace(recipe, **changed), Strategy())
        assert found == expected != hyper(recipe, Strategy())
    assert all(number.dtype == np.float32 and number.shape == () for number in hyper(recipe, Strategy()))


# --- which part moves ------------------------------------------------------------------------------------------------

NUM_LAYERS = 3


@pytest.fixture(scope="module")
def params() -> dict:
    return initialise(BertConfig(11, 8, NUM_LAYERS, 2, 12, max_position_embeddings=16), "classify", 3, stream())


def stream() -> Any:
    return prng.stream("init", 0)


@pytest.fixture(scope="module")
def window_of(params) -> Callable[[str, str], Window]:
    def make(whole: str, within: str) -> Window:
        return Window(partition(whole, params, NUM_LAYERS), partition(within, params, NUM_LAYERS))

    return make


DEPTHS = {"none": -1, "layers:0": 0, "layers:1": 1, "layers:2": 2, "layers:3": 3, "encoder": 3}
"""Embeddings and so many layers are frozen."""
PAIRS = [(whole, within) for whole in DEPTHS for within in DEPTHS if DEPTHS[whole] <= DEPTHS[within]]


@pytest.mark.parametrize(("whole", "within"), PAIRS)
def test_a_window_cuts_off_the_bottom_and_puts_it_back(params, window_of, whole, within):
    window, depth = window_of(whole, within), DEPTHS[within]
    trainable, frozen = partition(whole, params, NUM_LAYERS).split(params)
    moving, flat = window.moving(trainable), flatten(params)
    for path, leaf in flat.items():
        if path[:2] == LAYERS:
            assert (path in moving) == (depth < NUM_LAYERS)
            if path in moving:
                np.testing.assert_array_equal(moving[path], leaf[max(depth, 0) :])
        else:
            assert (path in moving) == (depth < 0 or path[0] != "encoder")
            assert path not in moving or moving[path] is leaf
    tree = window.params(moving, trainable, frozen)
    expected = split_layers(params, max(depth, 0))
    assert flatten(tree).keys() == flatten(expected).keys()
    jax.tree.map(np.testing.assert_array_equal, tree, expected)
    other = {path: leaf + 1 for path, leaf in moving.items()}
    back = window.back(trainable, other)
    assert back.keys() == trainable.keys()
    for path, leaf in trainable.items():
        still = NUM_LAYERS if path not in moving else len(leaf) - len(other[path])  # so many of its layers
        if path[:2] == LAYERS or path not in moving:
            np.testing.assert_array_equal(back[path][:still], leaf[:still])
        if path in moving:
            np.testing.assert_array_equal(window.moving(back)[path], other[path])


def test_counts_of_updates_are_cut_as_their_leaves_are(params, window_of):
    trainable, _ = partition("layers:1", params, NUM_LAYERS).split(params)
    updates = Parametric(BASE, STEPS).init(trainable).updates
    assert {count.shape for path, count in updates.items() if path[:2] == LAYERS} == {(2,)}
    assert {count.shape for path, count in updates.items() if path[:2] != LAYERS} == {()}
    for within, layers in (("layers:1", 2), ("layers:2", 1), ("encoder", 0)):
        window = window_of("layers:1", within)
        moving = window.moving(updates)
        assert moving.keys() == window.moving(trainable).keys()
        assert {len(count) for path, count in moving.items() if path[:2] == LAYERS} == ({layers} - {0})
        back = window.back(updates, jax.tree.map(lambda count: count + 1, moving))
        assert back[KERNEL].tolist() == [0] * (2 - layers) + [1] * layers and int(back[HEAD]) == 1
