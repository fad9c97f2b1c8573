"""Are the bits of addressed dropout as random as a training run can tell? Statistical tests with stated error rates.

    python benchmarks/dropout_statistics.py              # about 15 minutes on two cores
    python benchmarks/dropout_statistics.py --blocks 4   # a quick look

A test takes one axis of the address (feature, position, ..., seed) and lets the other parts of the address vary.
Under the null hypothesis the bits are independent and uniform, so every statistic below has a known distribution; a
test gives a p-value, small where the statistic is too far out on either side. The battery fails if any p-value is
below ALPHA / number of tests (Bonferroni), so a perfect generator would fail with probability ALPHA at most. The bits
are fixed by their addresses: a second run gives the same p-values. tests/kernels runs the same battery on fewer bits.

Writes results/dropout_statistics.json and results/dropout_statistics.md. Left out: tests of more than four bits at a
time other than counts a token, and attacks: this is no cryptographic generator.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from jaxft import prng
from jaxft.kernels.attention.reference import MAX_POSITIONS
from jaxft.kernels.dropout.reference import Address, feature_bits, threshold, token_words

ALPHA = 1e-3
"""Chance that a perfect generator fails the whole battery, at most."""
RATE = 0.1
"""Drop rate of the tests that need one and do not say otherwise."""
RATES = (0.01, 0.1, 0.25, 0.5, 0.9)
WIDTH, KEYS, HEADS = 384, 32, 12
"""Features of a hidden vector; key positions and heads of an attention row."""
ROWS = {name: 32 for name in ("position", "example", "occurrence", "epoch", "site", "seed")} | {
    "feature": WIDTH,
    "key position": KEYS,
    "head": HEADS,
}
"""Axis -> how many neighbouring values of it are compared."""
LAGS = (1, 2, 3, 4, 8)
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Check:
    """One test. samples: what its statistic is taken over. effect: what was seen, in words."""

    name: str
    samples: int
    p_value: float
    effect: str = ""


# --- bits by address -------------------------------------------------------------------------------------------------


@jax.jit
def bits_of(key, epoch, site, example, occurrence, position, feature):
    """key [2]; epoch, site []; example, occurrence, position [T]; feature [F]; all uint32. Returns uint32 [T, F]."""
    words = token_words(Address(key, epoch, example, occurrence, position), site)
    return feature_bits(words[0][:, None], words[1][:, None], feature[None, :])


_row_by_row = jax.jit(lambda parts: jax.lax.map(lambda part: bits_of(*part).reshape(-1), parts))


def tokens(first: int, count: int, length: int = 32) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Example, occurrence, position of `count` tokens in examples of `length`, from example `first` on; uint32."""
    number = np.arange(count, dtype=np.uint32)
    return np.uint32(first) + number // np.uint32(length), np.zeros_like(number), number % np.uint32(length)


@cache
def stream_words(seed: int) -> np.ndarray:
    """Words of the dropout stream, uint32 [2]."""
    return np.stack(prng.stream("dropout", seed))


def along(axis: str, block: int, *, width: int = WIDTH) -> np.ndarray:
    """uint32 [A, N]: bits for A neighbouring values of one axis, N other addresses each; blocks share no address."""
    seed, zero, feature = stream_words(0), np.uint32(0), np.arange(width, dtype=np.uint32)
    if axis == "feature":
        return np.asarray(bits_of(seed, zero, zero, *tokens(block * 64, 2048), feature)).T
    if axis in ("key position", "head"):
        pairs = np.arange(HEADS, dtype=np.uint32)[:, None] * np.uint32(MAX_POSITIONS) + np.arange(KEYS, dtype=np.uint32)
        bits = np.asarray(bits_of(seed, zero, np.uint32(16), *tokens(block * 64, 2048), pairs.reshape(-1)))
        bits = bits.reshape(-1, HEADS, KEYS)
        return np.moveaxis(bits, 1 if axis == "head" else 2, 0).reshape(ROWS[axis], -1)
    return np.asarray(_row_by_row(_rows(axis, block, feature)))


def _rows(axis: str, block: int, feature: np.ndarray) -> tuple[np.ndarray, ...]:
    """The arguments of `bits_of` for each of A values of an axis that is no feature, stacked."""
    rows, parts = ROWS[axis], []
    for value in range(rows):
        example, occurrence, position = tokens(block * 4, 64, length=16)
        seed = epoch = site = 0
        if axis == "position":
            example, position = np.uint32(block * 64) + np.arange(64, dtype=np.uint32), np.full_like(position, value)
        elif axis == "example":
            example, position, epoch = np.full_like(example, value), np.arange(64, dtype=np.uint32), block
        elif axis == "occurrence":
            occurrence = np.full_like(occurrence, value)
        else:
            seed, epoch, site = (value if axis == name else 0 for name in ("seed", "epoch", "site"))
        words = (stream_words(seed), np.uint32(epoch), np.uint32(site))
        parts.append((*words, example, occurrence, position, feature))
    return tuple(np.stack(part) for part in zip(*parts, strict=True))


# --- tests -----------------------------------------------------------------------------------------------------------


def two_sided(distribution, statistic: float) -> float:
    """Chance of a statistic as far out on either side."""
    return float(min(1.0, 2 * min(distribution.sf(statistic), distribution.cdf(statistic))))


def keep_rates(blocks: int) -> Iterator[Check]:
    """How many bits lie below the threshold: exact binomial test."""
    for rate in RATES:
        limit, dropped, total = np.uint32(threshold(rate)), 0, 0
        for block in range(blocks):
            bits = along("feature", block)
            dropped, total = dropped + int((bits < limit).sum()), total + bits.size
        found = stats.binomtest(dropped, total, threshold(rate) / 2**32)
        yield Check(f"keep rate {1 - rate:g}", total, float(found.pvalue), f"{1 - dropped / total:.6f} kept")


def pairs(axis: str, blocks: int) -> Iterator[Check]:
    """All pairs of values along an axis: their correlations, each alone and all together; the rate of each value."""
    chance, rows, total = threshold(RATE) / 2**32, ROWS[axis], 0
    products, sums = np.zeros((rows, rows)), np.zeros(rows)
    for block in range(blocks):
        dropped = (along(axis, block) < np.uint32(threshold(RATE))).astype(np.float32)
        products, sums, total = products + dropped @ dropped.T, sums + dropped.sum(1), total + dropped.shape[1]
    deviation = chance * (1 - chance)
    each = (sums - total * chance) / math.sqrt(total * deviation)
    covariance = products - chance * (sums[:, None] + sums[None, :]) + total * chance**2
    z = (covariance / (math.sqrt(total) * deviation))[np.triu_indices(rows, 1)]
    worst = float(np.abs(z).max())
    p_worst = -math.expm1(len(z) * math.log1p(-2 * stats.norm.sf(worst)))  # of the largest of len(z)
    yield Check(f"{axis}: rate of each", total * rows, two_sided(stats.chi2(rows), float((each**2).sum())))
    told = f"largest of {len(z):,} correlations {worst / math.sqrt(total):.1e}"
    yield Check(f"{axis}: largest pair correlation", total, min(1.0, p_worst), told)
    size = math.sqrt(max(0.0, float((z**2).mean()) - 1) / total)
    told = f"root mean square correlation beyond chance {size:.1e}"
    yield Check(
        f"{axis}: all pair correlations", total * len(z), two_sided(stats.chi2(len(z)), float((z**2).sum())), told
    )


def tables_of_two(axis: str, blocks: int) -> Iterator[Check]:
    """Joint 2x2 tables of neighbours, pairs that share no bit: chi-square with 3 degrees of freedom."""
    chance, rows = threshold(RATE) / 2**32, ROWS[axis]
    for lag in (lag for lag in LAGS if 2 * lag <= rows):
        counts = np.zeros(4)
        first = np.array([at for at in range(rows - lag) if at // lag % 2 == 0])
        for block in range(blocks):
            dropped = along(axis, block) < np.uint32(threshold(RATE))
            joint = 2 * dropped[first].astype(np.int8) + dropped[first + lag]
            counts += np.bincount(joint.reshape(-1), minlength=4)
        expected = counts.sum() * np.outer([1 - chance, chance], [1 - chance, chance]).reshape(-1)
        statistic = float(((counts - expected) ** 2 / expected).sum())
        yield Check(f"{axis}: 2x2 table at lag {lag}", int(counts.sum()), two_sided(stats.chi2(3), statistic))


def runs(axis: str, blocks: int) -> Check:
    """Changes between neighbours along an axis (Wald and Wolfowitz 1940), with known rate p and q = 1 - p."""
    p, changes, sequences, length = threshold(RATE) / 2**32, 0, 0, ROWS[axis]
    for block in range(blocks):
        dropped = along(axis, block) < np.uint32(threshold(RATE))
        changes, sequences = changes + int((dropped[1:] != dropped[:-1]).sum()), sequences + dropped.shape[1]
    change, both = 2 * p * (1 - p), p * (1 - p)  # P(change), P(two changes in a row) = pqp + qpq
    variance = (length - 1) * change * (1 - change) + 2 * (length - 2) * (both - change**2)
    z = (changes - sequences * (length - 1) * change) / math.sqrt(sequences * variance)
    return Check(f"{axis}: runs", sequences * length, two_sided(stats.norm(), z))


def serial(axis: str, blocks: int) -> Check:
    """Eight neighbours at rate 1/2 as a byte: all 256 patterns alike often."""
    counts = np.zeros(256)
    for block in range(blocks):
        dropped = (along(axis, block) < np.uint32(threshold(0.5))).astype(np.uint8)
        counts += np.bincount(np.packbits(dropped, axis=0).reshape(-1), minlength=256)
    return Check(f"{axis}: serial test, 8 neighbours", int(counts.sum()), _uniform(counts))


def gaps(axis: str, blocks: int) -> Check:
    """Distances from one dropped bit to the next along an axis: geometric, cut at 24."""
    p, most = threshold(RATE) / 2**32, 24
    counts = np.zeros(most + 1)
    for block in range(blocks):
        dropped = along(axis, block) < np.uint32(threshold(RATE))
        start = dropped[:-most]  # so that each gap up to the cut has room
        gap = np.full(start.shape, most)
        for distance in reversed(range(most)):
            gap = np.where(dropped[distance + 1 : distance + 1 + len(start)], distance, gap)
        counts += np.bincount(gap[start], minlength=most + 1)
    chances = np.append(p * (1 - p) ** np.arange(most), (1 - p) ** most)
    expected = counts.sum() * chances
    # Gaps that begin at different bits share none of what decides them up to the next dropped one.
    return Check(
        f"{axis}: gaps",
        int(counts.sum()),
        two_sided(stats.chi2(most), float(((counts - expected) ** 2 / expected).sum())),
    )


def drops_a_token(blocks: int) -> Check:
    """Dropped features of a token: binomial. Sees any dependence that the features of a token share."""
    counts = np.zeros(WIDTH + 1)
    for block in range(blocks):
        dropped = (along("feature", block) < np.uint32(threshold(RATE))).sum(0)
        counts += np.bincount(dropped, minlength=WIDTH + 1)
    expected = counts.sum() * stats.binom.pmf(np.arange(WIDTH + 1), WIDTH, threshold(RATE) / 2**32)
    low, high = np.flatnonzero(expected >= 10)[[0, -1]]
    seen = np.array([counts[: low + 1].sum(), *counts[low + 1 : high], counts[high:].sum()])
    wanted = np.array([expected[: low + 1].sum(), *expected[low + 1 : high], expected[high:].sum()])
    statistic = float(((seen - wanted) ** 2 / wanted).sum())
    return Check("dropped features a token", int(counts.sum()), two_sided(stats.chi2(len(seen) - 1), statistic))


def uniform_bits(blocks: int) -> Iterator[Check]:
    """The 32 bits of a value: each one, each pair of them, and each byte."""
    ones, products, bytes_seen, total = np.zeros(32), np.zeros((32, 32)), np.zeros((4, 256)), 0
    for block in range(blocks):
        values = along("feature", block)[:, :256].reshape(-1)
        signs = 2.0 * ((values[None] >> np.arange(32, dtype=np.uint32)[:, None]) & np.uint32(1)).astype(np.float32) - 1
        ones, products, total = ones + signs.sum(1), products + signs @ signs.T, total + len(values)
        for number in range(4):
            bytes_seen[number] += np.bincount(values >> np.uint32(8 * number) & np.uint32(255), minlength=256)
    yield Check("bits 0 .. 31: each 1/2", total * 32, two_sided(stats.chi2(32), float((ones**2).sum() / total)))
    z2 = (products**2 / total)[np.triu_indices(32, 1)]
    yield Check("bits 0 .. 31: pairs", total * 496, two_sided(stats.chi2(496), float(z2.sum())))
    for number in range(4):
        yield Check(f"byte {number}: uniform", total, _uniform(bytes_seen[number]))


def _uniform(counts: np.ndarray) -> float:
    expected = counts.sum() / len(counts)
    return two_sided(stats.chi2(len(counts) - 1), float(((counts - expected) ** 2 / expected).sum()))


FIELDS = {"key": 64, "epoch": 16, "site": 8, "example": 32, "occurrence": 16, "position": 16, "feature": 13}
"""Part of the address -> how many of its bits are flipped."""


@jax.jit
def _flips(numbers: jax.Array, masks: jax.Array) -> jax.Array:
    """numbers uint32 [T, 8], masks uint32 [I, 8] -> how often each of the 32 result bits flips, f32 [I, 32]."""
    limits = jnp.asarray([2**32 - 1, 2**32 - 1, 2**16 - 1, 255, 2**32 - 1, 2**16 - 1, 2**16 - 1, 2**13 - 1], jnp.uint32)

    def bits(key_0, key_1, epoch, site, example, occurrence, position, feature):
        one = (jnp.atleast_1d(part) for part in (example, occurrence, position, feature))
        return bits_of(jnp.stack([key_0, key_1]), epoch, site, *one)[0, 0]

    base = numbers & limits[None, :]
    plain = jax.vmap(bits)(*base.T)

    def flip(mask):
        changed = jax.vmap(bits)(*(base ^ mask[None, :]).T) ^ plain
        return (
            ((changed[:, None] >> jnp.arange(32, dtype=jnp.uint32)[None, :]) & jnp.uint32(1)).astype(jnp.float32).sum(0)
        )

    return jax.lax.map(flip, masks)


def avalanche(field: str, blocks: int) -> Check:
    """Flips each bit of one part of the address: every bit of the result flips half the time."""
    column = {"key": 0, "epoch": 2, "site": 3, "example": 4, "occurrence": 5, "position": 6, "feature": 7}[field]
    masks = np.zeros((FIELDS[field], 8), np.uint32)
    for number in range(FIELDS[field]):
        masks[number, column + number // 32] = 1 << number % 32
    flipped, count = np.zeros((FIELDS[field], 32)), 8192
    for block in range(blocks):
        numbers = np.random.default_rng((2024, column, block)).integers(0, 2**32, (count, 8), dtype=np.uint32)
        flipped += np.asarray(_flips(numbers, masks), np.float64)
    total = blocks * count
    z = (flipped - total / 2) / math.sqrt(total / 4)
    p_value = two_sided(stats.chi2(z.size), float((z**2).sum()))
    told = f"{32 * flipped.mean() / total:.4f} of 32 bits flip"
    return Check(f"avalanche: {field} ({FIELDS[field]} bits)", total * FIELDS[field], p_value, told)


def battery(blocks: int, say: Callable[[str], None] = lambda text: None) -> list[Check]:
    """All tests. blocks: how much of each axis; one block is 24,576 to 2,048 x 384 bits by axis and value."""
    checks: list[Check] = []

    def took(*found: Check) -> None:
        checks.extend(found)
        for check in found:
            say(f"{check.name:45} p = {check.p_value:.4f}  {check.effect}")

    took(*keep_rates(blocks))
    for axis in ROWS:
        took(*pairs(axis, blocks), *tables_of_two(axis, blocks))
    for axis in ("feature", "position", "key position"):
        took(runs(axis, blocks), serial(axis, blocks))
    took(gaps("feature", max(1, blocks // 8)), drops_a_token(blocks), *uniform_bits(blocks))
    for field in FIELDS:
        took(avalanche(field, blocks))
    return checks


def failed(checks: list[Check]) -> list[Check]:
    """The tests below the Bonferroni limit."""
    return [check for check in checks if check.p_value < ALPHA / len(checks)]


# --- the table -------------------------------------------------------------------------------------------------------


def markdown(checks: list[Check]) -> str:
    """The result as a page."""
    limit = ALPHA / len(checks)
    rows = [f"| {c.name} | {c.samples:,} | {c.p_value:.4f} | {c.effect} |" for c in checks]
    verdict = f"{len(failed(checks))} of {len(checks)} tests fall below {ALPHA:g} / {len(checks)} = {limit:.1e}"
    head = ["# Addressed dropout: statistical tests", "", (__doc__ or "").split("\n\n")[2], "", f"{verdict}.", ""]
    return "\n".join([*head, "| test | samples | p-value | seen |", "| --- | ---: | ---: | --- |", *rows, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=1024)
    options = parser.parse_args()
    start = time.perf_counter()
    checks = battery(options.blocks, print)
    bad = failed(checks)
    record = {
        "command": f"python benchmarks/dropout_statistics.py --blocks {options.blocks}",
        "alpha": ALPHA,
        "limit": ALPHA / len(checks),
        "failed": [check.name for check in bad],
        "seconds": round(time.perf_counter() - start),
        "device": f"{jax.devices()[0].device_kind}, {os.cpu_count()} cores",
        "jax": jax.__version__,
        "checks": [asdict(check) for check in checks],
    }
    (RESULTS / "dropout_statistics.json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    (RESULTS / "dropout_statistics.md").write_text(markdown(checks), "utf-8")
    raise SystemExit(f"failed: {', '.join(check.name for check in bad)}" if bad else 0)


if __name__ == "__main__":
    main()
