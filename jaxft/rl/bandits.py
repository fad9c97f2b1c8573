"""Bandit policies and their regret, on the device.

A policy is a score for each arm on offer, a pure function of random words, statistics and step; the arm of highest
score is pulled, or the best few in order. Counting policies know arms by their number:

    ucb                 mean + sqrt(width · ln t / n), UCB1 with width 2            (Auer et al. 2002)
    thompson_beta       a draw from Beta(1 + wins, 1 + losses), rewards 0 or 1      (Thompson 1933)
    thompson_normal     a draw from N(mean, deviation^2 / (n + 1))                  (Agrawal and Goyal 2013)
    epsilon_greedy      the best mean, or with probability epsilon any arm alike
    boltzmann           a draw from softmax(mean / temperature)

Linear ones know arms by a context f32 [F], and think the expected reward linear in it:

    lin_ucb             x · theta + alpha · sqrt(x · V^-1 x)                        (Li et al. 2010)
    lin_thompson        x · a draw from N(theta, deviation^2 · V^-1)                (Agrawal and Goyal 2013)

Statistics may forget: all sums decay by a factor a step, for rewards that drift (Garivier and Moulines 2011; Russac et
al. 2019, of which the second matrix is left out). Bandits offer some arms a step, not always the same ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxft import draws
from jaxft.rl.env import Outcome

RESET, STEP, CHOICE = 0, 1, 2
"""What `play` draws for."""
_PROPOSALS = 8
"""Of a gamma draw; each is accepted with probability 0.95 or more."""


class Offer(NamedTuple):
    """A arms to choose from. arms: int32 [A], their numbers. contexts: f32 [A, F]."""

    arms: Array
    contexts: Array


class Feedback(NamedTuple):
    """What an action told of S arms. arms: int32 [S]. contexts: f32 [S, F]. rewards: f32 [S]. weights: f32 [S], 0
    for an arm that it told nothing of."""

    arms: Array
    contexts: Array
    rewards: Array
    weights: Array

    @classmethod
    def of_one(cls, offer: Offer, action: Array, reward: Array) -> Feedback:
        """Of the arm that was chosen alone."""
        return cls(offer.arms[action][None], offer.contexts[action][None], reward[None], jnp.ones(1, jnp.float32))


class Bandit(Protocol):
    """An environment (jaxft/rl/env.py) that says what it offers and what that is worth."""

    def reset(self, key: Array) -> tuple[Any, Any]: ...

    def step(self, state: Any, action: Array, key: Array) -> Outcome: ...

    def offer(self, state: Any) -> Offer:
        """What may be chosen now."""
        ...

    def choose(self, scores: Array) -> Array:
        """The action int32 [] that goes with scores f32 [A] of the arms on offer."""
        ...

    def feedback(self, state: Any, action: Array, outcome: Outcome) -> Feedback:
        """What an action in a state, and its outcome, tell."""
        ...

    def expected_reward(self, state: Any) -> Array:
        """Of each action, f32 [A]; policies do not see it."""
        ...


class Counts(NamedTuple):
    """By arm, f32 [N] both. pulls: how often it was pulled. total: the sum of its rewards."""

    pulls: Array
    total: Array

    @property
    def mean(self) -> Array:
        """0 where there was no pull."""
        return self.total / jnp.maximum(self.pulls, 1e-6)


class Linear(NamedTuple):
    """gram: f32 [F, F], the sum of x x^T. moment: f32 [F], the sum of reward · x."""

    gram: Array
    moment: Array


# --- scores of counting policies: (words [2], counts, step) -> f32 [N] ------------------------------------------------


def ucb(words: Array, counts: Counts, step: Array, *, width: float = 2.0) -> Array:
    """Mean and its upper bound; infinite for arms that were never pulled. step: counted from 0."""
    pulls = jnp.maximum(counts.pulls, 1e-6)
    spread = jnp.sqrt(width * jnp.log(1.0 + step.astype(jnp.float32)) / pulls)
    return jnp.where(counts.pulls > 0, counts.mean + spread, jnp.inf)


def thompson_beta(words: Array, counts: Counts, step: Array) -> Array:
    """Draws from the posteriors of chances of success, all alike at first."""
    losses = jnp.maximum(counts.pulls - counts.total, 0.0)
    won, lost = jnp.split(_gamma(words, 1.0 + jnp.concatenate([counts.total, losses])), 2)
    return won / (won + lost)


def thompson_normal(words: Array, counts: Counts, step: Array, *, deviation: float = 1.0) -> Array:
    """Draws from the posteriors of means, N(0, deviation^2) at first, for rewards with that deviation."""
    noise = draws.normal(words, len(counts.pulls))
    return (counts.total + deviation * noise * jnp.sqrt(counts.pulls + 1.0)) / (counts.pulls + 1.0)


def epsilon_greedy(
    words: Array, counts: Counts, step: Array, *, epsilon: float = 0.1, decay_after: float = np.inf
) -> Array:
    """Means, or noise with probability epsilon, which falls as 1 / step after so many steps."""
    numbers = draws.uniform(words, len(counts.pulls) + 1)
    rate = epsilon * jnp.minimum(1.0, decay_after / (1.0 + step.astype(jnp.float32)))
    return jnp.where(numbers[0] < rate, numbers[1:], counts.mean)


def boltzmann(words: Array, counts: Counts, step: Array, *, temperature: float = 0.1) -> Array:
    """Means in units of the temperature with Gumbel noise: their maximum is a draw from the softmax."""
    return counts.mean / temperature + draws.gumbel(words, len(counts.pulls))


def anything(words: Array, counts: Counts, step: Array) -> Array:
    """Noise: any arm alike."""
    return draws.uniform(words, len(counts.pulls))


# --- scores of linear policies: (words [2], statistics, step, contexts [A, F]) -> f32 [A] -----------------------------


def lin_ucb(
    words: Array, linear: Linear, step: Array, contexts: Array, *, alpha: float = 1.0, ridge: float = 1.0
) -> Array:
    """Estimated reward and its upper bound."""
    factor, theta = _posterior(linear, ridge)
    spread = jax.scipy.linalg.solve_triangular(factor, contexts.T, lower=True)  # |L^-1 x|^2 = x · V^-1 x
    return _times(contexts, theta) + alpha * jnp.sqrt(jnp.sum(spread**2, axis=0))


def lin_thompson(
    words: Array, linear: Linear, step: Array, contexts: Array, *, deviation: float = 0.5, ridge: float = 1.0
) -> Array:
    """Rewards by one draw of the coefficients from their posterior."""
    factor, theta = _posterior(linear, ridge)
    noise = draws.normal(words, len(theta))
    spread = jax.scipy.linalg.solve_triangular(factor, noise, lower=True, trans=1)  # covariance V^-1
    return _times(contexts, theta + deviation * spread)


def _posterior(linear: Linear, ridge: float) -> tuple[Array, Array]:
    """(Cholesky factor of V = gram + ridge · I, theta = V^-1 moment)."""
    factor = jnp.linalg.cholesky(linear.gram + ridge * jnp.eye(len(linear.moment)))
    return factor, jax.scipy.linalg.cho_solve((factor, True), linear.moment)


def _times(contexts: Array, theta: Array) -> Array:
    return jnp.einsum("af,f->a", contexts, theta, precision="highest")


def _gamma(words: Array, shape: Array) -> Array:
    """Draws from Gamma(shape), shape f32 [N] of 1 or more, by the first accepted of some proposals (Marsaglia and
    Tsang 2000). That none is has a probability under 1e-10; then the draw is the mode, nearly."""
    count, own = len(shape), draws.fold_in(words, jnp.arange(2))
    normal = draws.normal(own[0], _PROPOSALS * count).reshape(_PROPOSALS, count)
    uniform = draws.uniform(own[1], _PROPOSALS * count).reshape(_PROPOSALS, count)
    scale = shape[None] - 1.0 / 3.0
    cube = (1.0 + normal / jnp.sqrt(9.0 * scale)) ** 3
    log_cube = jnp.log(jnp.maximum(cube, 1e-30))
    bound = 0.5 * normal**2 + scale * (1.0 - cube + log_cube)
    accepted = (cube > 0) & (jnp.log(jnp.maximum(uniform, 1e-30)) < bound)
    first = jnp.argmax(accepted, axis=0)[None]
    taken = jnp.take_along_axis(cube, first, axis=0)
    return jnp.where(jnp.take_along_axis(accepted, first, axis=0), scale * taken, scale)[0]


# --- policies that learn ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Policy:
    """begin: () -> statistics. scores: (words, statistics, step, offer) -> f32 [A]. learn: (statistics, feedback) ->
    statistics."""

    begin: Callable[[], Any]
    scores: Callable[[Array, Any, Array, Offer], Array]
    learn: Callable[[Any, Feedback], Any]


def counting(score: Callable[[Array, Counts, Array], Array], arms: int, forget: float = 1.0) -> Policy:
    """A counting policy over so many arms. forget: what is left of the sums after a step; 1 forgets nothing."""

    def begin() -> Counts:
        return Counts(jnp.zeros(arms, jnp.float32), jnp.zeros(arms, jnp.float32))

    def scores(words: Array, counts: Counts, step: Array, offer: Offer) -> Array:
        return score(words, counts, step)[offer.arms]

    def learn(counts: Counts, told: Feedback) -> Counts:
        pulled = jnp.where(jnp.arange(arms)[:, None] == told.arms[None], told.weights[None], 0.0)
        pulls, total = jnp.sum(pulled, axis=1), jnp.sum(pulled * told.rewards[None], axis=1)
        return Counts(counts.pulls * forget + pulls, counts.total * forget + total)

    return Policy(begin, scores, learn)


def linear(score: Callable[[Array, Linear, Array, Array], Array], features: int, forget: float = 1.0) -> Policy:
    """A linear policy over contexts of so many features. forget: as for `counting`."""

    def begin() -> Linear:
        return Linear(jnp.zeros((features, features), jnp.float32), jnp.zeros(features, jnp.float32))

    def scores(words: Array, statistics: Linear, step: Array, offer: Offer) -> Array:
        return score(words, statistics, step, offer.contexts)

    def learn(statistics: Linear, told: Feedback) -> Linear:
        weighted = told.contexts * told.weights[:, None]
        gram = jnp.einsum("sf,sg->fg", weighted, told.contexts, precision="highest")
        moment = jnp.sum(weighted * told.rewards[:, None], axis=0)
        return Linear(statistics.gram * forget + gram, statistics.moment * forget + moment)

    return Policy(begin, scores, learn)


# --- play ------------------------------------------------------------------------------------------------------------


class Played(NamedTuple):
    """[T] each. action: int32. reward: f32. regret: f32, expected reward of the best action less that of the chosen."""

    action: Array
    reward: Array
    regret: Array


def play(bandit: Bandit, policy: Policy, words: Array, steps: int) -> tuple[Any, Played]:
    """(statistics at the end, what happened) of a policy on one run of a bandit. words: uint32 [2], consumed.

    What the bandit draws does not depend on the policy, but for rewards of other actions.
    """
    state, _ = bandit.reset(draws.keys(draws.fold_in(words, RESET)))
    times = jnp.arange(steps, dtype=jnp.int32)
    chances, choices = (draws.fold_in(draws.fold_in(words, what), times) for what in (STEP, CHOICE))

    def one(now: tuple[Any, Any], given: tuple[Array, Array, Array]) -> tuple[tuple[Any, Any], Played]:
        (state, statistics), (step, chance, choice) = now, given
        action = bandit.choose(policy.scores(choice, statistics, step, bandit.offer(state)))
        out = bandit.step(state, action, draws.keys(chance))
        worth = bandit.expected_reward(state)
        statistics = policy.learn(statistics, bandit.feedback(state, action, out))
        return (out.state, statistics), Played(action, out.reward, jnp.max(worth) - worth[action])

    begun = (state, policy.begin())
    (_, statistics), played = jax.lax.scan(one, begun, (times, chances, choices))
    return statistics, played


# --- what regret may be at most --------------------------------------------------------------------------------------


def ucb_bound(means: np.ndarray, steps: int) -> float:
    """Expected regret of UCB1 after so many steps is at most this, for rewards in 0 .. 1 (Auer et al. 2002,
    theorem 1)."""
    gaps = np.max(means) - np.asarray(means)
    gaps = gaps[gaps > 0]
    return float(8 * np.log(steps) * np.sum(1 / gaps) + (1 + np.pi**2 / 3) * np.sum(gaps))


def lai_robbins(means: np.ndarray) -> float:
    """Regret over ln(steps) that no consistent policy stays under in the limit, for rewards 0 or 1 (Lai and Robbins
    1985); Thompson sampling reaches it (Kaufmann et al. 2012)."""
    means = np.asarray(means, np.float64)
    best = means.max()
    worse = means[means < best]
    divergence = worse * np.log(worse / best) + (1 - worse) * np.log((1 - worse) / (1 - best))
    return float(np.sum((best - worse) / divergence))
