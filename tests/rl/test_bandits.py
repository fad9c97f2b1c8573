"""Bandit policies: their scores by their formulas, their draws by their distributions, their regret by known bounds."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxft import draws
from jaxft.errors import UserError
from jaxft.rl import bandits, envs
from jaxft.rl.bandits import Counts, Feedback, Linear, counting, linear
from jaxft.rl.envs.arms import MEANS, Arms

SEEDS, STEPS = 8, 10_000
ARMS = len(MEANS)
CLEAR = (0.9, 0.5, 0.5, 0.4, 0.3)
"""Means far apart, so that regret is logarithmic early: UCB1 pulls an arm 8 ln t / 0.4^2 times, 345 in 1,000 steps."""
COUNTS = Counts(jnp.asarray([4.0, 10.0, 0.0, 1.0]), jnp.asarray([3.0, 2.0, 0.0, 1.0]))


def words(seed: int, count: int | None = None) -> jax.Array:
    own = jax.random.key_data(jax.random.key(seed))
    return own if count is None else draws.fold_in(own, jnp.arange(count))


def regret(
    name: str, policy: bandits.Policy, steps: int = STEPS, means: tuple[float, ...] = MEANS, seeds: int = SEEDS
) -> np.ndarray:
    """Cumulative regret f64 [seeds, T]."""
    env = envs.make(name, means=means)
    assert isinstance(env, Arms)
    run = jax.jit(jax.vmap(lambda words: bandits.play(env, policy, words, steps)[1].regret))
    return np.cumsum(np.asarray(run(words(0, seeds)), np.float64), axis=1)


# --- scores ----------------------------------------------------------------------------------------------------------


def test_ucb_is_mean_and_bound_and_tries_every_arm_first():
    scores = bandits.ucb(words(0), COUNTS, jnp.int32(14))
    spread = np.sqrt(2 * np.log(15) / np.array([4, 10, 1]))
    assert np.allclose(scores[jnp.asarray([0, 1, 3])], np.array([0.75, 0.2, 1.0]) + spread)
    assert np.isinf(scores[2])
    env = envs.make("bernoulli_arms")
    assert isinstance(env, Arms)
    _, played = jax.jit(lambda words: bandits.play(env, counting(bandits.ucb, ARMS), words, ARMS))(words(1))
    assert sorted(played.action.tolist()) == list(range(ARMS))


@pytest.mark.slow
@pytest.mark.parametrize("pulls, wins", [(0, 0), (1, 1), (7, 2), (3000, 2900)])
def test_thompson_draws_from_the_beta_posterior(pulls, wins):
    counts = Counts(jnp.full(2, pulls, jnp.float32), jnp.full(2, wins, jnp.float32))
    drawn = jax.jit(jax.vmap(lambda words: bandits.thompson_beta(words, counts, jnp.int32(0))))(words(2, 4000))
    posterior = scipy.stats.beta(1 + wins, 1 + pulls - wins)
    for arm in range(2):
        assert scipy.stats.kstest(np.asarray(drawn[:, arm]), posterior.cdf).pvalue > 1e-3
    assert abs(np.corrcoef(np.asarray(drawn).T)[0, 1]) < 4 / np.sqrt(4000)


def test_thompson_draws_from_the_normal_posterior():
    score = partial(bandits.thompson_normal, deviation=0.5)
    drawn = np.asarray(jax.jit(jax.vmap(lambda words: score(words, COUNTS, jnp.int32(0))))(words(3, 4000)))
    pulls, total = np.asarray(COUNTS.pulls), np.asarray(COUNTS.total)
    for arm in range(4):
        posterior = scipy.stats.norm(total[arm] / (pulls[arm] + 1), 0.5 / np.sqrt(pulls[arm] + 1))
        assert scipy.stats.kstest(drawn[:, arm], posterior.cdf).pvalue > 1e-3


@pytest.mark.parametrize("step, rate", [(0, 0.3), (49, 0.3), (149, 0.1)])
def test_epsilon_greedy_explores_at_its_rate(step, rate):
    score = partial(bandits.epsilon_greedy, epsilon=0.3, decay_after=50)
    scores = jax.jit(jax.vmap(lambda words: score(words, COUNTS, jnp.int32(step))))(words(4, 8000))
    share = np.bincount(np.asarray(scores).argmax(1), minlength=4) / 8000
    expected = np.array([rate / 4] * 3 + [1 - 0.75 * rate])
    assert (np.abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / 8000)).all()


def test_boltzmann_draws_from_the_softmax():
    score = partial(bandits.boltzmann, temperature=0.5)
    scores = jax.jit(jax.vmap(lambda words: score(words, COUNTS, jnp.int32(0))))(words(5, 8000))
    share = np.bincount(np.asarray(scores).argmax(1), minlength=4) / 8000
    weights = np.exp(np.array([0.75, 0.2, 0.0, 1.0]) / 0.5)
    expected = weights / weights.sum()
    assert (np.abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / 8000)).all()


@pytest.fixture(scope="module")
def regression() -> tuple[Linear, np.ndarray, np.ndarray, np.ndarray]:
    """(statistics, contexts, V^-1, theta) of some data, by a policy's own `learn`, and by NumPy."""
    rng = np.random.default_rng(0)
    x, y, contexts = rng.normal(size=(20, 3)), rng.normal(size=20), rng.normal(size=(5, 3))
    policy = linear(bandits.lin_ucb, 3, forget=0.9)
    statistics = policy.begin()
    for one, reward in zip(x, y, strict=True):
        offer = bandits.Offer(jnp.zeros(1, jnp.int32), jnp.asarray(one[None], jnp.float32))
        statistics = policy.learn(statistics, Feedback.of_one(offer, jnp.int32(0), jnp.float32(reward)))
    weights = 0.9 ** np.arange(20)[::-1]
    inverse = np.linalg.inv((x * weights[:, None]).T @ x + 2 * np.eye(3))
    return statistics, contexts, inverse, inverse @ (x.T @ (weights * y))


@pytest.mark.slow
def test_lin_ucb_is_ridge_regression_and_its_bound(regression):
    statistics, contexts, inverse, theta = regression
    given = words(0), statistics, jnp.int32(0), jnp.asarray(contexts, jnp.float32)
    scores = bandits.lin_ucb(*given, alpha=1.5, ridge=2.0)
    spread = np.sqrt(np.einsum("af,fg,ag->a", contexts, inverse, contexts))
    assert np.allclose(scores, contexts @ theta + 1.5 * spread, atol=1e-5)


def test_lin_thompson_draws_coefficients_from_their_posterior(regression):
    statistics, contexts, inverse, theta = regression
    score = partial(bandits.lin_thompson, deviation=0.5, ridge=2.0)
    at = jnp.asarray(contexts, jnp.float32)
    drawn = jax.jit(jax.vmap(lambda words: score(words, statistics, jnp.int32(0), at)))(words(6, 20_000))
    covariance = 0.25 * contexts @ inverse @ contexts.T
    assert np.allclose(np.mean(drawn, axis=0), contexts @ theta, atol=4 * np.sqrt(covariance.max() / 20_000))
    assert np.allclose(np.cov(np.asarray(drawn).T), covariance, atol=0.05 * covariance.max())


def test_statistics_count_and_forget():
    policy = counting(bandits.ucb, 3, forget=0.5)
    counts = policy.begin()
    for arms, rewards, weights in (((0, 1), (1.0, 1.0), (1.0, 0.0)), ((2, 1), (0.5, 1.0), (1.0, 1.0))):
        told = Feedback(jnp.asarray(arms), jnp.ones((2, 1)), jnp.asarray(rewards), jnp.asarray(weights))
        counts = policy.learn(counts, told)
    assert counts.pulls.tolist() == [0.5, 1.0, 1.0]
    assert counts.total.tolist() == [0.5, 1.0, 0.5]
    policy = linear(bandits.lin_ucb, 2, forget=0.5)
    both = jnp.asarray([[1.0, 2.0], [3.0, 1.0]]), jnp.asarray([1.0, 2.0])
    told = Feedback(jnp.zeros(2, jnp.int32), *both, jnp.asarray([1.0, 1.0]))
    once = policy.learn(policy.begin(), told)
    assert once.gram.tolist() == [[10.0, 5.0], [5.0, 5.0]] and once.moment.tolist() == [7.0, 4.0]
    twice = policy.learn(once, told._replace(weights=jnp.asarray([1.0, 0.0])))
    assert twice.gram.tolist() == [[6.0, 4.5], [4.5, 6.5]] and twice.moment.tolist() == [4.5, 4.0]


# --- regret ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_random_pulls_regret_the_mean_gap():
    lost = regret("bernoulli_arms", counting(bandits.anything, ARMS), 2000)[:, -1]
    gaps = max(MEANS) - np.array(MEANS)
    assert abs(lost.mean() - 2000 * gaps.mean()) < 4 * gaps.std() * np.sqrt(2000 / SEEDS)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, score",
    [
        ("bernoulli_arms", bandits.ucb),
        ("bernoulli_arms", bandits.thompson_beta),
        ("normal_arms", bandits.thompson_normal),
    ],
    ids=["ucb", "thompson_beta", "thompson_normal"],
)
def test_regret_grows_as_the_logarithm_of_steps(name, score):
    lost = regret(name, counting(score, len(CLEAR)), means=CLEAR).mean(0)
    assert lost[-1] < 0.05 * STEPS * (max(CLEAR) - np.mean(CLEAR))
    # from 100 to 1,000 to 10,000 steps a logarithm grows by the same, a line by ten times as much
    assert lost[-1] - lost[STEPS // 10] < 2 * (lost[STEPS // 10] - lost[STEPS // 100])
    assert bandits.lai_robbins(np.array(CLEAR)) < lost[-1] < bandits.ucb_bound(np.array(CLEAR), STEPS)


def thompson_by_numpy(means: np.ndarray, runs: int, steps: int) -> np.ndarray:
    """Regret of each run, by NumPy's own Beta draws."""
    rng, run = np.random.default_rng(0), np.arange(runs)
    wins, losses, lost = np.ones((runs, len(means))), np.ones((runs, len(means))), np.zeros(runs)
    for _ in range(steps):
        arm = rng.beta(wins, losses).argmax(1)
        won = rng.random(runs) < means[arm]
        wins[run, arm] += won
        losses[run, arm] += ~won
        lost += means.max() - means[arm]
    return lost


@pytest.mark.slow
def test_thompson_regrets_what_numpy_says_and_ucb_stays_under_its_bound():
    means, steps = np.array(MEANS), 1000
    theirs = thompson_by_numpy(means, 100, steps)
    ours = regret("bernoulli_arms", counting(bandits.thompson_beta, ARMS), steps, seeds=32)[:, -1]
    error = np.sqrt(theirs.var() / len(theirs) + ours.var() / len(ours))
    assert abs(theirs.mean() - ours.mean()) < 4 * error
    ucb = regret("bernoulli_arms", counting(bandits.ucb, ARMS))[:, -1].mean()
    assert 2 * ours.mean() < ucb < min(bandits.ucb_bound(means, STEPS), 0.25 * STEPS * (max(means) - means.mean()))


@pytest.mark.slow
def test_linear_policies_on_unit_vectors_learn_the_means():
    score = partial(bandits.lin_thompson, deviation=0.5)
    lost = regret("bernoulli_arms", linear(score, ARMS), 1000)
    assert lost[:, -1].mean() < 0.3 * 1000 * (max(MEANS) - np.mean(MEANS))


def test_bounds_by_hand():
    means = np.array([0.5, 0.4])
    assert bandits.ucb_bound(means, 100) == pytest.approx(80 * np.log(100) + 0.1 * (1 + np.pi**2 / 3))
    divergence = 0.4 * np.log(0.8) + 0.6 * np.log(1.2)
    assert bandits.lai_robbins(means) == pytest.approx(0.1 / divergence)


# --- arms ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, deviation", [("bernoulli_arms", np.sqrt(0.8 * 0.2)), ("normal_arms", 1.0)])
def test_arms_pay_their_means_until_they_are_cut_off(name, deviation):
    env = envs.make(name, max_steps=2)
    state, seen = env.reset(jax.random.key(0))
    step = jax.jit(jax.vmap(env.step, (None, None, 0)))
    out = step(state, jnp.int32(1), draws.keys(words(7, 20_000)))
    assert abs(np.mean(out.reward) - MEANS[1]) < 4 * deviation / np.sqrt(20_000)
    assert np.std(out.reward) == pytest.approx(deviation, rel=0.03)
    assert not np.asarray(out.terminated).any() and not np.asarray(out.truncated).any()
    after = jax.jit(env.step)(jnp.int32(1), jnp.int32(1), jax.random.key(1))
    assert bool(after.truncated) and not bool(after.terminated)
    assert seen.dtype == after.observation.dtype and state.dtype == after.state.dtype
    assert envs.make(name, means=(0.2, 0.1)).actions.count == 2  # pyright: ignore[reportAttributeAccessIssue]


def test_bad_settings_are_refused():
    for name, settings in (
        ("bernoulli_arms", {"means": (0.5, 1.5)}),
        ("normal_arms", {"means": (0.5,)}),
        ("normal_arms", {"max_steps": 0}),
    ):
        with pytest.raises(UserError):
            envs.make(name, **settings)
