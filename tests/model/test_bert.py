from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft.kernels.dropout.api import Words
from jaxft.model import bert, heads
from jaxft.model.bert import Rates, join_layers, split_layers
from jaxft.model.heads import Bert

KEY = jnp.asarray([3, 4], jnp.uint32)
EPOCH = jnp.uint32(0)
RATES = Rates(0.1, 0.1, 0.1)
QUICK = {"xla_backend_optimization_level": 0}
"""Compiles these small models in a third of the time."""


@functools.cache
def compiled(model: Any, **how: Any) -> Any:
    apply: Any = model.apply
    return jax.jit(lambda params, *rest: apply({"params": params}, *rest, **how), compiler_options=QUICK)


def run(model: Any, params: Any, *rest: Any, **how: Any) -> Any:
    """model.apply, compiled whole and kept: faster than operation by operation."""
    return compiled(model, **how)(params, *rest)


def example_states(hidden, batch) -> dict[int, np.ndarray]:
    """Example number -> its hidden states [tokens, D]."""
    out = {}
    for row, states in enumerate(np.asarray(hidden)):
        for segment in range(1, batch["segments"][row].max() + 1):
            place = batch["segments"][row] == segment
            out[int(batch["example"][row][place][0])] = states[place]
    return out


@pytest.fixture(scope="module")
def both(pack, ragged):
    """The same examples one a row, and packed in another order."""
    padded = pack(ragged, [[0], [1], [2], [3], [4]], 12, pairs=3)
    packed = pack(ragged, [[3, 2], [4, 0, 1]], 20, pairs=3)
    return padded, packed


@pytest.mark.slow
@pytest.mark.parametrize("key", [None, KEY], ids=["no dropout", "dropout"])
def test_packed_rows_give_what_padded_rows_give(small, draw, both, key):
    params = draw(small, "none")
    model = Bert(small, "none", rates=RATES)
    padded, packed = ((run(model, params, batch, key, EPOCH), batch) for batch in both)
    one, other = (example_states(result[0], batch) for result, batch in (padded, packed))
    assert sorted(one) == sorted(other) == [0, 1, 2, 3, 4]
    for number in one:
        np.testing.assert_allclose(one[number], other[number], atol=1e-5, err_msg=str(number))
    # pooled: example e is row e when padded; packed rows are [3, 2], [4, 0, 1]
    pooled, packed_pooled = np.asarray(padded[0][1]), np.asarray(packed[0][1])
    for number, place in {3: (0, 0), 2: (0, 1), 4: (1, 0), 0: (1, 1), 1: (1, 2)}.items():
        np.testing.assert_allclose(pooled[number, 0], packed_pooled[place], atol=1e-5)


def test_dropout_does_something_and_hangs_on_key_and_epoch(small, draw, both):
    params, model = draw(small, "none"), Bert(small, "none", rates=RATES)
    first = run(model, params, both[1], KEY, EPOCH)[0]
    np.testing.assert_array_equal(first, run(model, params, both[1], KEY, EPOCH)[0])
    for rest in ((None, EPOCH), (KEY, EPOCH + 1), (KEY + 1, EPOCH)):
        assert np.abs(np.asarray(first - run(model, params, both[1], *rest)[0])).max() > 0.01


def test_a_key_without_rates_or_epoch_is_refused(small, draw, both):
    params = draw(small, "none")
    with pytest.raises(ValueError, match="rates"):
        run(Bert(small, "none"), params, both[0], KEY, EPOCH)
    with pytest.raises(ValueError, match="epoch"):
        run(Bert(small, "none", rates=RATES), params, both[0], KEY)


def test_sites_are_fixed_numbers(small, both, monkeypatch):
    """Another number of layers moves no site; scanned or not."""
    seen: list = []

    def token_words(address, site):  # in place of the words, the number of their site
        shape = jnp.shape(site) + address.position.shape
        return Words(*[jnp.broadcast_to(jnp.expand_dims(jnp.asarray(site, jnp.uint32), (-2, -1)), shape)] * 2)

    def noted(x, words, rate):
        def note(site, x):
            seen.append((int(site), rate))
            return x

        return x if words is None else jax.pure_callback(note, x, words.first.reshape(-1)[0], x)

    def attention(q, k, v, segments, *, words, rate, **_):
        return noted(v.astype(jnp.float32), words, rate)

    def dropout(x, words, *, rate, **_):
        return noted(x, words, rate)

    for module in (bert, heads):
        monkeypatch.setattr(module, "token_words", token_words)
        monkeypatch.setattr(module, "dropout", dropout)
    monkeypatch.setattr(bert, "attention", attention)
    rates = Rates(hidden=0.1, attention=0.2, head=0.3)
    model = Bert(small, "classify", 2, rates=rates, frozen_layers=1)
    params = jax.eval_shape(model.init, jax.random.key(0), both[1])["params"]
    seen.clear()
    jax.block_until_ready(run(model, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), params), both[1], KEY, EPOCH))
    layers = [(16 + 4 * i + j, 0.2 if j == 0 else 0.1) for i in range(3) for j in range(3)]
    assert sorted(seen) == [(0, 0.1), (1, 0.3), *layers]


def gradient(small, params, batch, *rest, **options):
    """The tag head's loss and its gradient, compiled."""
    apply: Any = Bert(small, "tag", 4, rates=RATES, **options).apply
    loss = jax.value_and_grad(lambda p: jnp.square(apply({"params": p}, batch, *rest)).sum())
    return jax.jit(loss, compiler_options=QUICK)(params)


def assert_close(came, expected):
    assert jax.tree.structure(came) == jax.tree.structure(expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max()), came, expected)


@pytest.fixture(scope="module")
def full(small, draw, both):
    """Loss and gradient, nothing frozen, nothing recomputed, no dropout."""
    return gradient(small, draw(small, "tag", 4), both[1])


@pytest.mark.slow
def test_remat_changes_no_result(small, draw, both, full):
    assert_close(gradient(small, draw(small, "tag", 4), both[1], remat="dots"), full)


@pytest.mark.slow
def test_remat_draws_the_same_masks_again(small, draw, both):
    params, rest = draw(small, "tag", 4), (both[1], KEY, EPOCH)
    assert_close(gradient(small, params, *rest, remat="full"), gradient(small, params, *rest))


def test_unrolling_changes_no_result(small, draw, both):
    params, model = draw(small, "tag", 4), Bert(small, "tag", 4)
    assert_close(run(Bert(small, "tag", 4, unroll=3), params, both[1]), run(model, params, both[1]))


@pytest.mark.slow
def test_remat_saves_memory_unrolled_or_not(small, pack, ragged):
    """Bytes that the compiled gradient needs beside its arguments and results."""
    batch = pack(ragged * 8, [[row] for row in range(40)], 12)
    params = jax.eval_shape(Bert(small, "tag", 4).init, jax.random.key(0), batch)

    def bytes_of(remat):
        apply: Any = Bert(small, "tag", 4, remat=remat, unroll=3 if remat != "none" else 1).apply
        loss = jax.grad(lambda p: jnp.square(apply(p, batch)).sum())
        analysis: Any = jax.jit(loss, compiler_options=QUICK).lower(params).compile().memory_analysis()
        return analysis.temp_size_in_bytes

    full, dots, none = (bytes_of(remat) for remat in ("full", "dots", "none"))
    assert full < 0.8 * dots and dots < 0.8 * none


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [1, 3])
def test_frozen_layers_have_no_gradient_and_the_others_the_same(small, draw, both, full, frozen):
    params = split_layers(draw(small, "tag", 4), frozen)
    loss, cut = gradient(small, params, both[1], frozen_layers=frozen)
    np.testing.assert_allclose(loss, full[0], rtol=1e-5)
    for leaf in jax.tree.leaves((cut["encoder"]["frozen"], cut["encoder"]["embeddings"])):
        assert not np.asarray(leaf).any()
    expected = split_layers(full[1], frozen)
    assert_close(cut["classifier"], expected["classifier"])
    assert_close(cut["encoder"].get("layers"), expected["encoder"].get("layers"))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_split_and_join(small, draw, count):
    params = draw(small, "tag", 4)
    split = split_layers(params, count)
    assert ("frozen" in split["encoder"]) == (count > 0) and ("layers" in split["encoder"]) == (count < 3)
    joined = join_layers(split)
    assert jax.tree.structure(joined) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, joined, params)


def test_more_frozen_layers_than_layers_is_refused(small, both):
    with pytest.raises(ValueError, match="4 frozen layers of 3"):
        jax.eval_shape(Bert(small, "tag", 4, frozen_layers=4).init, jax.random.key(0), both[0])


@pytest.mark.parametrize(("name", "value"), [("tokens", 50), ("positions", 20), ("types", 2), ("types", -1)])
def test_an_index_out_of_range_gives_nan_not_another_row(small, draw, both, name, value):
    batch = {key: array.copy() for key, array in both[0].items()}
    batch[name][3, 5] = value
    hidden, _ = run(Bert(small, "none", rates=RATES), draw(small, "none"), batch, None, EPOCH)
    bad = np.isnan(np.asarray(hidden)).all(-1).any(-1)
    assert bad.tolist() == [False, False, False, True, False]


def test_the_gradient_of_chosen_rows_is_that_of_a_gather():
    rng = np.random.default_rng(0)
    table, indexes = rng.normal(size=(7, 3)).astype(np.float32), np.array([[0, 3, 3, 6], [3, 0, 2, 2]])
    dy = rng.normal(size=(2, 4, 3)).astype(np.float32)
    expected = np.zeros_like(table)
    np.add.at(expected, indexes, dy)
    for choose in (bert._rows, bert._few_rows):
        rows, back = jax.vjp(lambda table, choose=choose: choose(table, jnp.asarray(indexes)), table)
        np.testing.assert_array_equal(rows, table[indexes])
        np.testing.assert_allclose(back(dy)[0], expected, rtol=1e-6)


def test_all_layers_come_out_in_order(small, draw, both):
    params = draw(small, "none")
    last, every = run(Bert(small, "none"), params, both[0], all_layers=True, method="hidden")
    assert every.shape == (4, *last.shape)
    np.testing.assert_array_equal(every[-1], last)
    shorter = Bert(dataclasses.replace(small, num_hidden_layers=2), "none")
    params["encoder"]["layers"] = jax.tree.map(lambda leaf: leaf[:2], params["encoder"]["layers"])
    np.testing.assert_allclose(run(shorter, params, both[0], method="hidden"), every[2], atol=1e-6)


def test_bf16_operands_keep_f32_results(small, draw, both):
    params, batch = draw(small, "tag", 4), both[0]
    wide, narrow = (run(Bert(small, "tag", 4, dtype=dtype), params, batch) for dtype in (jnp.float32, jnp.bfloat16))
    assert narrow.dtype == jnp.float32
    gap = np.abs(np.asarray(wide - narrow)).max()
    assert 1e-4 < gap < 0.2
    apply: Any = Bert(small, "tag", 4, dtype=jnp.bfloat16).apply
    gradient = jax.eval_shape(jax.grad(lambda p: apply({"params": p}, batch).sum()), params)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(gradient))


def test_rates_of_a_config(small):
    assert Rates.of(small) == Rates(0.1, 0.1, 0.1)
    assert Rates.of(dataclasses.replace(small, classifier_dropout=0.4)).head == 0.4
