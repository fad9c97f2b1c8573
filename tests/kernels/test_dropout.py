"""Addressed dropout: its bits are pinned, random, the same forward and backward, and go by the address alone."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft import prng
from jaxft.kernels.dropout import api
from jaxft.kernels.dropout.cases import CASES, make, make_address
from jaxft.kernels.dropout.reference import (
    Address,
    Words,
    feature_bits,
    features,
    keep,
    site_words,
    threefry2x32,
    threefry_loop,
    threshold,
    token_words,
)

IMPLEMENTATIONS = ("xla",)
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "dropout_statistics.json"


def words(*numbers: int) -> tuple[np.ndarray, ...]:
    return tuple(np.asarray([number], np.uint32) for number in numbers)


def mask(address: Address, site: int, width: int, rate: float) -> np.ndarray:
    """What is kept, bool [B, L, D], by the definition."""
    return np.asarray(_mask(address, jnp.uint32(site), width, rate))


@partial(jax.jit, static_argnums=(2, 3))
def _mask(address: Address, site: jax.Array, width: int, rate: float) -> jax.Array:
    word_0, word_1 = token_words(address, site)
    return keep((word_0[..., None], word_1[..., None]), features(width)[None, None], rate)


# --- Threefry --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "counter", "expected"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((2**32 - 1, 2**32 - 1), (2**32 - 1, 2**32 - 1), (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_threefry_gives_the_known_answers_of_random123(key, counter, expected):
    assert tuple(int(word[0]) for word in threefry2x32(words(*key), words(*counter))) == expected


def test_threefry_is_that_of_jax_on_host_and_device():
    key, counters = np.array([7, 2**32 - 3], np.uint32), np.random.default_rng(0).integers(0, 2**32, 200, np.uint32)
    expected = np.asarray(jax.extend.random.threefry_2x32(jnp.asarray(key), jnp.asarray(counters)))
    on_host = threefry2x32((key[:1], key[1:]), (counters[:100], counters[100:]))  # halves are the two words
    on_device = jax.jit(threefry2x32)(
        (jnp.asarray(key[:1]), jnp.asarray(key[1:])), (jnp.asarray(counters[:100]), jnp.asarray(counters[100:]))
    )
    np.testing.assert_array_equal(np.concatenate(on_host), expected)
    np.testing.assert_array_equal(np.concatenate(on_device), expected)


def test_the_loop_gives_what_the_written_out_rounds_give():
    parts = [jnp.asarray(part) for part in np.random.default_rng(1).integers(0, 2**32, (4, 3, 50), np.uint32)]
    expected = threefry2x32((parts[0], parts[1]), (parts[2], parts[3]))
    np.testing.assert_array_equal(jax.jit(threefry_loop)((parts[0], parts[1]), (parts[2], parts[3])), expected)


@pytest.mark.slow
def test_many_sites_at_once_are_each_by_itself():
    address, sites = make_address(3, 5), (0, 1, 16, 17, 99)
    numbers: Any = np.asarray(sites, np.uint32)
    together = token_words(address, numbers)
    for number, site in enumerate(sites):
        np.testing.assert_array_equal([word[number] for word in together], token_words(address, site))


@pytest.mark.slow
def test_no_consumer_computes_the_rounds_again():
    """Each of 2 sites, forward and backward, hashes features (3 shifts); 20 rounds would be 20 shifts more."""
    x, address = make(CASES[1])
    sites: Any = np.arange(2, dtype=np.uint32)

    def loss(x, address):
        first, second = (Words(*pair) for pair in zip(*token_words(address, sites), strict=True))
        return jnp.square(api.dropout(jnp.tanh(api.dropout(x, first, rate=0.1)), second, rate=0.1)).sum()

    text = jax.jit(jax.grad(loss)).lower(x, address).compile().as_text()
    assert text is not None
    fused = [part.count("shift-right-logical(") for part in text.split("\n\n") if "while" not in part.split("(")[0]]
    assert text.count(" while(") >= 1 and 3 <= max(fused) <= 8


def test_a_site_has_the_key_that_fold_in_gives():
    stream = prng.stream("dropout", 5)
    address = make_address(1, 1)._replace(key=prng.device_words(stream), epoch=jnp.uint32(9))
    expected = jax.random.key_data(jax.random.fold_in(jax.random.fold_in(prng.key(stream), 21), 9))
    np.testing.assert_array_equal(np.stack(site_words(address, 21)), expected)


def test_a_token_has_the_threefry_block_of_its_address():
    address = Address(*(jnp.asarray(n, jnp.uint32) for n in ([11, 12], 2, [[40]], [[3]], [[17]])))
    key = site_words(address, 6)
    expected = threefry2x32(tuple(np.asarray(word)[None] for word in key), words(40, 3 * 2**16 + 17))
    np.testing.assert_array_equal(np.concatenate(token_words(address, 6)).ravel(), np.concatenate(expected))


# --- golden bits: a change here changes every run --------------------------------------------------------------------

GOLDEN_WORDS = {
    0: ("d04ecef9", "2e37a638"),
    1: ("a6a7008f", "4bd63e95"),
    16: ("f3457aa1", "ca06b7a7"),
    17: ("ef312da0", "93d1f1fc"),
    18: ("88f56e90", "e935c5b5"),
    39: ("a76a0e5a", "25fcdfd2"),
}
"""Site -> the two words of example 3, occurrence 1, position 5, epoch 2 of the dropout stream of seed 0."""
GOLDEN_BITS = ["ca99210d", "a60299f3", "72780708", "2073c318", "fad774b4", "6f15d076", "39dd510f", "89724dae"]
"""Features 0 .. 7 of site 18 there."""
GOLDEN_MASKS = {
    0: "fffff7fb5fffff7e",
    1: "ff2efffff9ffefff",
    16: "fff7fffffdffedd5",
    17: "fbff7fbedfff7f7f",
    18: "fffffffefdffff7e",
    39: "f3ffffbfdfbfbfdf",
}
"""Site -> features 0 .. 63 there at rate 0.1, kept = 1, as bytes."""


@pytest.fixture(scope="module")
def golden_address() -> Address:
    key = prng.device_words(prng.stream("dropout", 0))
    return Address(key, *(jnp.asarray(n, jnp.uint32) for n in (2, [[3]], [[1]], [[5]])))


@pytest.mark.slow
def test_token_words_are_golden(golden_address):
    for site, expected in GOLDEN_WORDS.items():
        assert tuple(f"{int(word[0, 0]):08x}" for word in token_words(golden_address, site)) == expected


def test_feature_bits_are_golden(golden_address):
    word_0, word_1 = token_words(golden_address, 18)
    assert [f"{int(bits):08x}" for bits in feature_bits(word_0[0], word_1[0], features(8))] == GOLDEN_BITS


def test_masks_are_golden(golden_address):
    found = {site: np.packbits(mask(golden_address, site, 64, 0.1)).tobytes().hex() for site in GOLDEN_MASKS}
    assert found == GOLDEN_MASKS


# --- randomness ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_statistical_battery_passes(battery):
    """97 tests on up to 3 million bits each; a perfect generator fails with probability 0.001 at most."""
    checks = battery.battery(4)
    assert len({check.name for check in checks}) == len(checks) > 90
    assert battery.failed(checks) == []


def test_the_battery_catches_a_weak_hash(battery, monkeypatch):
    """A multiplication alone in place of the hash: neighbouring features then hang together."""

    def weak(word_0, word_1, feature):
        return word_0 + feature * np.uint32(0x9E3779B9)

    monkeypatch.setattr(battery, "feature_bits", weak)
    battery.bits_of.clear_cache()
    try:
        names = {check.name for check in battery.failed([*battery.pairs("feature", 2), battery.drops_a_token(2)])}
    finally:
        battery.bits_of.clear_cache()
    assert {"feature: all pair correlations", "dropped features a token"} <= names


def test_the_committed_table_is_of_a_battery_that_passed():
    record = json.loads(RESULTS.read_text("utf-8"))
    assert record["failed"] == []
    assert min(check["p_value"] for check in record["checks"]) >= record["limit"]


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_the_threshold_is_the_rate_to_32_bits(rate):
    assert abs(threshold(rate) / 2**32 - rate) <= 2**-33


# --- addresses -------------------------------------------------------------------------------------------------------


def test_mask_bits_hang_on_the_address_alone():
    """Tokens shuffled over other rows, in rows of another width, keep their bits."""
    address, rng = make_address(6, 20, seed=3), np.random.default_rng(0)
    before = mask(address, 17, 48, 0.1).reshape(120, 48)
    order = rng.permutation(120)
    moved = address._replace(
        **{name: jnp.asarray(np.asarray(getattr(address, name)).reshape(-1)[order].reshape(3, 40)) for name in PARTS}
    )
    np.testing.assert_array_equal(mask(moved, 17, 48, 0.1).reshape(120, 48), before[order])


PARTS = ("example", "occurrence", "position")


@pytest.mark.parametrize("part", [*PARTS, "key", "epoch", "site"])
def test_every_part_of_the_address_matters(part):
    address = make_address(4, 32, seed=1)
    moved, site = address, 17
    if part == "site":
        site = 18
    else:
        moved = address._replace(**{part: getattr(address, part) + jnp.uint32(1)})
    same = (mask(address, 17, 64, 0.5) == mask(moved, site, 64, 0.5)).mean()
    assert 0.45 < same < 0.55  # 8,192 bits


def test_a_wider_vector_keeps_the_bits_of_a_narrower_one():
    address = make_address(2, 8)
    np.testing.assert_array_equal(mask(address, 1, 96, 0.1)[..., :64], mask(address, 1, 64, 0.1))


def test_a_higher_rate_drops_what_a_lower_one_drops_and_more():
    address = make_address(2, 8)
    low, high = mask(address, 1, 96, 0.1), mask(address, 1, 96, 0.3)
    assert not (high & ~low).any() and high.sum() < low.sum()


# --- the operation ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_values_are_kept_and_scaled_or_zero(case, implementation):
    x, address = make(case)
    apply = jax.jit(lambda x: api.dropout(x, token_words(address, 3), rate=case.rate, implementation=implementation))
    kept = mask(address, 3, case.width, case.rate)
    expected = np.where(kept, x * np.float32(1 / (1 - case.rate)), 0)
    np.testing.assert_array_equal(apply(jnp.asarray(x)), expected)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_gradient_has_the_mask_of_the_value(case, implementation):
    x, address = make(case)
    apply = jax.jit(lambda x: api.dropout(x, token_words(address, 3), rate=case.rate, implementation=implementation))
    result, pull = jax.vjp(apply, jnp.asarray(x))
    (gradient,) = pull(jnp.ones_like(result))
    kept = mask(address, 3, case.width, case.rate)
    np.testing.assert_array_equal(gradient, np.where(kept, np.float32(1 / (1 - case.rate)), np.float32(0)))
    np.testing.assert_array_equal(np.asarray(gradient) != 0, np.asarray(result) != 0)


def test_no_address_and_rate_0_leave_x_as_it_is():
    x, address = make(CASES[0])
    assert api.dropout(jnp.asarray(x), None, rate=0.5) is not None
    np.testing.assert_array_equal(api.dropout(jnp.asarray(x), None, rate=0.5), x)
    np.testing.assert_array_equal(api.dropout(jnp.asarray(x), token_words(address, 0), rate=0.0), x)


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_the_expectation_stays(rate):
    """Mean over 786,432 ones: within 5 standard errors of 1."""
    ones, address = jnp.ones((16, 128, 384), jnp.float32), make_address(16, 128, seed=2)
    result = np.asarray(api.dropout(ones, token_words(address, 2), rate=rate), np.float64)
    assert abs(result.mean() - 1) < 5 * (rate / (1 - rate) / ones.size) ** 0.5


@pytest.mark.slow
def test_a_site_may_be_traced():
    x, address = make(CASES[0])
    traced = jax.jit(lambda site: api.dropout(jnp.asarray(x), token_words(address, site), rate=0.5))
    for site in (0, 40):
        np.testing.assert_array_equal(
            traced(jnp.uint32(site)), api.dropout(jnp.asarray(x), token_words(address, site), rate=0.5)
        )


def test_bfloat16_has_the_same_mask():
    x, address = make(CASES[0])
    result = api.dropout(jnp.asarray(x, jnp.bfloat16), token_words(address, 3), rate=0.5)
    assert result.dtype == jnp.bfloat16
    np.testing.assert_array_equal(np.asarray(result, np.float32) != 0, mask(address, 3, x.shape[-1], 0.5))


@pytest.mark.parametrize("rate", [1.0, -0.1, 1.5])
def test_a_rate_out_of_range_is_refused(rate):
    x, address = make(CASES[0])
    with pytest.raises(ValueError, match="rate"):
        api.dropout(jnp.asarray(x), token_words(address, 0), rate=rate)


def test_an_implementation_that_does_not_exist_is_refused():
    assert api.choose() in IMPLEMENTATIONS
    with pytest.raises(NotImplementedError, match="there is xla"):
        api.choose("pallas")
