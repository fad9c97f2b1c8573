"""The model of what segments bring: its posterior is the closed form's, its plans are those of an exhaustive search."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxft import draws, prng
from jaxft.explore import outlook
from jaxft.explore.outlook import BEAM, CATCHES_UP, WEIGHT, Outlook, Seen, Shape

SHAPE = Shape(num_actions=3, depth=3)
WORDS = prng.device_words(prng.stream("explore", 0))
PRIOR, NOISE = 0.7, 0.15
ROOM = 16


def segments(count: int, scale: float = 1.0, seed: int = 0) -> list[tuple[int, int, int, float, float]]:
    """Segments as a search sees them: depth, action before, action, gained so far, gain."""
    draw = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        depth = int(draw.integers(SHAPE.depth))
        before = int(draw.integers(3)) if depth else 3
        gained = float(draw.normal()) * scale if depth else 0.0
        found.append((depth, before, int(draw.integers(3)), gained, float(draw.normal()) * scale))
    return found


def seen_of(rows: list[tuple[int, int, int, float, float]]) -> Seen:
    seen = outlook.nothing_seen(ROOM)
    for depth, before, action, gained, gain in rows:
        at, last, taken = map(jnp.int32, (depth, before, action))
        seen = outlook.add(seen, at, last, taken, jnp.float32(gained), jnp.float32(gain))
    return seen


def features(depth: int, before: int, action: int, ahead: float) -> np.ndarray:
    """The module's formula, written out: w1[depth, action] has three parts, which share what they learn."""
    parts = [np.zeros(size) for size in SHAPE.sizes.values()]
    places = (action, depth, depth * 3 + action, before * 3 + action, action, depth)
    for part, place, (name, weight) in zip(parts, places, WEIGHT.items(), strict=True):
        part[place] = weight * (ahead if name.startswith("slope") else 1.0)
    return np.concatenate(parts)


def posterior(rows: list[tuple[int, int, int, float, float]]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Mean, covariance, scales, centres: Bayesian linear regression in closed form."""
    scale, center = np.ones(SHAPE.depth), np.zeros(SHAPE.depth)
    for depth in range(SHAPE.depth):
        those = [row for row in rows if row[0] == depth]
        scale[depth] = np.sqrt(np.mean([row[4] ** 2 for row in those])) if those else scale[max(depth - 1, 0)]
        center[depth] = np.mean([row[3] for row in those]) if those else 0.0
    gains = np.array([row[4] / scale[row[0]] for row in rows])
    x = [features(*row[:3], (row[3] - center[row[0]]) / scale[row[0]]) for row in rows]
    x = np.array(x).reshape(len(rows), SHAPE.size)
    before = np.zeros(SHAPE.size)
    before[-SHAPE.depth :] = -CATCHES_UP / WEIGHT["slope_by_depth"]
    covariance = np.linalg.inv(x.T @ x / NOISE**2 + np.eye(SHAPE.size) / PRIOR**2)
    return covariance @ (x.T @ gains / NOISE**2 + before / PRIOR**2), covariance, scale, center


@pytest.fixture(scope="module")
def drawn():
    """seen -> 4,000 draws."""

    def many(seen: Seen) -> Outlook:
        words = draws.fold_in(WORDS, jnp.arange(4000))
        return jax.vmap(lambda one: outlook.draw(one, SHAPE, seen, prior=PRIOR, noise=NOISE))(words)

    return jax.jit(many)


@pytest.fixture(scope="module")
def plan():
    """(outlook, depth, before, gained) -> returns."""
    return jax.jit(lambda one, depth, before, gained: outlook.returns(one, SHAPE, depth, before, gained))


def test_every_kind_of_weight_has_its_place():
    assert list(SHAPE.sizes) == list(WEIGHT) and SHAPE.size == 3 + 3 + 9 + 12 + 3 + 3
    weights = jnp.arange(SHAPE.size)
    apart = SHAPE.apart(weights)
    assert np.array_equal(jnp.concatenate(list(apart.values())), weights)
    for row in segments(20):
        depth, before, action, gained, _ = row
        at, last, taken = map(jnp.int32, (depth, before, action))
        found = SHAPE.features(at, last, taken, jnp.float32(gained))
        np.testing.assert_allclose(found, features(depth, before, action, gained), rtol=1e-6)


@pytest.mark.parametrize("count", [0, 1, ROOM])
def test_draws_have_the_mean_and_the_covariance_of_the_posterior(drawn, count):
    """4,000 draws; the squared Mahalanobis distance of their mean, and that of each of them, are chi-square numbers.
    All three tests fail by chance once in 10,000 times."""
    rows = segments(count)
    mean, covariance, scale, center = posterior(rows)
    weights, scales, centers = (np.asarray(x, np.float64) for x in drawn(seen_of(rows)))
    np.testing.assert_allclose(scales, np.broadcast_to(scale, scales.shape), rtol=1e-5)
    np.testing.assert_allclose(centers, np.broadcast_to(center, centers.shape), rtol=1e-5, atol=1e-7)
    away = weights - mean
    inverse = np.linalg.inv(covariance)
    distance = len(weights) * away.mean(0) @ inverse @ away.mean(0)
    assert stats.chi2.sf(distance, SHAPE.size) > 1e-4
    whitened = away @ np.linalg.cholesky(inverse)
    assert stats.kstest(whitened.ravel(), "norm").pvalue > 1e-4
    found = np.cov(whitened.T)
    spread = np.sqrt(np.where(np.eye(SHAPE.size) > 0, 2.0, 1.0) / len(weights))
    worst = np.abs((found - np.eye(SHAPE.size)) / spread).max()
    assert 2 * stats.norm.sf(worst) * SHAPE.size**2 / 2 > 1e-4, "no entry of the covariance is another one"


def test_a_draw_is_a_function_of_its_words(drawn):
    one, other = (np.asarray(drawn(seen_of(segments(5))).weights) for _ in range(2))
    assert np.array_equal(one, other) and len(np.unique(one[:, 0])) > 3900


def test_rows_that_were_not_seen_do_not_count(drawn):
    rows = segments(6)
    seen = seen_of(rows)
    spoilt = seen._replace(
        **{name: getattr(seen, name).at[6:].set(2) for name in ("depth", "before", "action")},
        gained=seen.gained.at[6:].set(1e3),
        gain=seen.gain.at[6:].set(1e3),
    )
    assert np.array_equal(drawn(seen).weights, drawn(spoilt).weights)


@pytest.mark.parametrize("factor", [1000.0, 2.0**-20])
def test_the_unit_of_the_metric_does_not_matter(drawn, plan, factor):
    """Weights are those of the scale; what is expected grows with the unit, and the choices are the same."""
    one, other = (drawn(seen_of(segments(12, scale))) for scale in (1.0, factor))
    np.testing.assert_allclose(one.weights, other.weights, rtol=1e-2, atol=2e-3)
    np.testing.assert_allclose(one.scale * factor, other.scale, rtol=1e-5)
    np.testing.assert_allclose(one.center * factor, other.center, rtol=1e-4, atol=1e-6 * factor)
    depth, before = jnp.asarray([0, 1, 2]), jnp.asarray([3, 0, 2])
    gained = jnp.asarray([0.0, 0.4, -0.3])
    for number in range(20):
        units = one.scale[0], one.center[0]
        first = plan(Outlook(one.weights[number], *units), depth, before, gained)
        second = plan(Outlook(one.weights[number], *(unit * factor for unit in units)), depth, before, gained * factor)
        np.testing.assert_allclose(first * factor, second, rtol=1e-4, atol=1e-5 * factor)
        assert np.array_equal(jnp.argmax(first, -1), jnp.argmax(second, -1))


def best_return(one: Outlook, depth: int, before: int, gained: float, action: int) -> float:
    """The best schedule that begins with an action, of all that there are."""
    weights, scale, center = (np.asarray(x, np.float64) for x in one)
    found = -np.inf
    for rest in itertools.product(range(3), repeat=SHAPE.depth - depth - 1):
        last, total = before, 0.0
        for at, taken in enumerate((action, *rest), start=depth):
            ahead = (gained + total - center[at]) / scale[at]
            total += scale[at] * float(features(at, last, taken, ahead) @ weights)
            last = taken
        found = max(found, total)
    return found


def test_returns_are_those_of_an_exhaustive_search(drawn, plan):
    """The beam holds 8 of the 3 schedules that go on from an action, and the best of the 9 after them."""
    assert BEAM == 8
    many = drawn(seen_of(segments(12, 0.3)))
    nodes = [(0, 3, 0.0), (1, 0, 0.2), (1, 2, -0.7), (2, 1, 1.3), (2, 0, 0.0)]
    depth, before, gained = (jnp.asarray(column) for column in zip(*nodes, strict=True))
    for number in range(30):
        one = Outlook(*(x[number] for x in many))
        found = plan(one, depth, before, gained.astype(jnp.float32))
        expected = [[best_return(one, *node, action) for action in range(3)] for node in nodes]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_a_narrow_beam_plans_a_schedule_that_there_is(drawn):
    """With 5 actions and 4 segments it covers a part: never better than the best, and seldom much worse."""
    shape = Shape(5, 4)
    weights = jax.random.normal(jax.random.key(0), (40, shape.size))

    @jax.jit
    def plan(weights):
        root = (jnp.zeros(1, jnp.int32), jnp.full(1, 5), jnp.zeros(1))
        return outlook.returns(Outlook(weights, jnp.ones(4), jnp.zeros(4)), shape, *root)

    schedules = np.array(list(itertools.product(range(5), repeat=4)))

    @jax.jit
    def whole(weights):
        """Of all schedules [625]."""
        total, before = jnp.zeros(len(schedules)), jnp.full(len(schedules), 5)
        for at in range(4):
            action = jnp.asarray(schedules[:, at])
            x = shape.features(jnp.full(len(schedules), at), before, action, total)
            total, before = total + x @ weights, action
        return total

    ratios = []
    for one in weights:
        found, every = np.asarray(plan(one))[0], np.asarray(whole(one))
        best = np.array([every[schedules[:, 0] == action].max() for action in range(5)])
        assert (found <= best + 1e-3).all()
        assert np.abs(every[:, None] - found).min(0).max() < 1e-3, "it is the return of a schedule"
        ratios.append((best - found).max() / every.std())
    assert np.mean(ratios) < 0.1
