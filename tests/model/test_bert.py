from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft.model import bert
from jaxft.model.bert import Rates, join_layers, split_layers
from jaxft.model.heads import Bert

KEY = jnp.asarray([3, 4], jnp.uint32)
EPOCH = jnp.uint32(0)
RATES = Rates(0.1, 0.1, 0.1)


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


@pytest.mark.parametrize("key", [None, KEY], ids=["no dropout", "dropout"])
def test_packed_rows_give_what_padded_rows_give(small, draw, both, key):
    params = draw(small, "none")
    model = Bert(small, "none", rates=RATES)
    padded, packed = (
        (model.apply({"params": params}, batch, key, EPOCH), batch) for batch in both
    )
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
    apply = lambda *rest: np.asarray(model.apply({"params": params}, both[1], *rest)[0])  # noqa: E731
    first = apply(KEY, EPOCH)
    np.testing.assert_array_equal(first, apply(KEY, EPOCH))
    for other in (apply(), apply(KEY, EPOCH + 1), apply(KEY + 1, EPOCH)):
        assert np.abs(first - other).max() > 0.01


def test_a_key_without_rates_or_epoch_is_refused(small, draw, both):
    params = {"params": draw(small, "none")}
    with pytest.raises(ValueError, match="rates"):
        Bert(small, "none").apply(params, both[0], KEY, EPOCH)
    with pytest.raises(ValueError, match="epoch"):
        Bert(small, "none", rates=RATES).apply(params, both[0], KEY)


def test_sites_are_fixed_numbers(small, both, monkeypatch):
    """Another number of layers moves no site; scanned or not."""
    seen: list = []

    def attention(q, k, v, segments, *, site, rate, **_):
        jax.debug.callback(lambda s: seen.append((int(s), rate)), site)
        return v.astype(jnp.float32)

    def dropout(x, address, *, site, rate, **_):
        jax.debug.callback(lambda s: seen.append((int(s), rate)), jnp.asarray(site))
        return x

    monkeypatch.setattr(bert, "attention", attention)
    monkeypatch.setattr(bert, "dropout", dropout)
    monkeypatch.setattr("jaxft.model.heads.dropout", dropout)
    rates = Rates(hidden=0.1, attention=0.2, head=0.3)
    model = Bert(small, "classify", 2, rates=rates, frozen_layers=1)
    params = jax.eval_shape(model.init, jax.random.key(0), both[1])["params"]
    seen.clear()
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), params)
    model.apply({"params": zeros}, both[1], KEY, EPOCH)
    jax.effects_barrier()
    layers = [(16 + 4 * i + j, 0.2 if j == 0 else 0.1) for i in range(3) for j in range(3)]
    assert sorted(seen) == [(0, 0.1), (1, 0.3), *layers]


@pytest.mark.parametrize("options", [{"unroll": 3}, {"remat": "full"}, {"remat": "dots"}])
def test_remat_and_unroll_change_no_result(small, draw, both, options):
    params, batch = draw(small, "tag", 4), both[1]

    def gradient(model):
        def loss(params):
            return jnp.square(model.apply({"params": params}, batch, KEY, EPOCH)).sum()

        return jax.jit(jax.grad(loss))(params)

    plain = gradient(Bert(small, "tag", 4, rates=RATES))
    other = gradient(Bert(small, "tag", 4, rates=RATES, **options))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(a).max()), plain, other)


def test_remat_saves_memory_unrolled_or_not(small, pack, ragged):
    """Bytes that the compiled gradient needs beside its arguments and results."""
    batch = pack(ragged * 8, [[row] for row in range(40)], 12)
    model = Bert(small, "tag", 4)
    params = jax.eval_shape(model.init, jax.random.key(0), batch)

    def bytes_of(remat):
        model = Bert(small, "tag", 4, remat=remat, unroll=3 if remat != "none" else 1)
        compiled = jax.jit(jax.grad(lambda p: jnp.square(model.apply(p, batch)).sum())).lower(params).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    full, dots, none = (bytes_of(remat) for remat in ("full", "dots", "none"))
    assert full < 0.8 * dots and dots < 0.8 * none


@pytest.mark.parametrize("frozen", [1, 3])
def test_frozen_layers_have_no_gradient_and_the_others_the_same(small, draw, both, frozen):
    params, batch = draw(small, "tag", 4), both[1]

    def gradient(frozen):
        model = Bert(small, "tag", 4, rates=RATES, frozen_layers=frozen)
        loss = lambda p: jnp.square(model.apply({"params": p}, batch, KEY, EPOCH)).sum()  # noqa: E731
        return jax.jit(jax.value_and_grad(loss))(split_layers(params, frozen))

    loss, full = gradient(0)
    cut_loss, cut = gradient(frozen)
    np.testing.assert_allclose(loss, cut_loss, rtol=1e-5)
    for leaf in jax.tree.leaves((cut["encoder"]["frozen"], cut["encoder"]["embeddings"])):
        assert not np.asarray(leaf).any()
    top = jax.tree.map(lambda leaf: leaf[frozen:], full["encoder"]["layers"]) if frozen < 3 else {}
    pairs = (cut["encoder"].get("layers", {}), top), (cut["classifier"], full["classifier"])
    for came, expected in pairs:
        assert jax.tree.structure(came) == jax.tree.structure(expected)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * np.abs(b).max()), came, expected)


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
    hidden, _ = Bert(small, "none").apply({"params": draw(small, "none")}, batch)
    bad = np.isnan(np.asarray(hidden)).all(-1).any(-1)
    assert bad.tolist() == [False, False, False, True, False]


def test_all_layers_come_out_in_order(small, draw, both):
    model, params = Bert(small, "none"), {"params": draw(small, "none")}
    last, every = model.apply(params, both[0], all_layers=True, method="hidden")
    assert every.shape == (4, *last.shape)
    np.testing.assert_array_equal(every[-1], last)
    shorter = Bert(dataclasses.replace(small, num_hidden_layers=2), "none")
    cut = jax.tree.map(lambda leaf: leaf, params)
    cut["params"]["encoder"]["layers"] = jax.tree.map(lambda leaf: leaf[:2], params["params"]["encoder"]["layers"])
    np.testing.assert_allclose(shorter.apply(cut, both[0], method="hidden"), every[2], atol=1e-6)


def test_bf16_operands_keep_f32_results(small, draw, both):
    params = {"params": draw(small, "tag", 4)}
    wide, narrow = (Bert(small, "tag", 4, dtype=dtype).apply(params, both[0]) for dtype in (jnp.float32, jnp.bfloat16))
    assert narrow.dtype == jnp.float32
    gap = np.abs(np.asarray(wide - narrow)).max()
    assert 1e-4 < gap < 0.2
    gradient = jax.grad(lambda p: Bert(small, "tag", 4, dtype=jnp.bfloat16).apply(p, both[0]).sum())(params)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(gradient))


def test_rates_of_a_config(small):
    assert Rates.of(small) == Rates(0.1, 0.1, 0.1)
    assert Rates.of(dataclasses.replace(small, classifier_dropout=0.4)).head == 0.4
