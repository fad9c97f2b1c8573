"""Exact play at a service desk: the optimal policy and its value, by dynamic programming.

Given the intent, opening and answers are independent, so what counts of a dialogue is the kind of opening and how often
each question got yes and no: 12 x 43,758 such counts for 5 questions, at most 8 asked. Values are f64, undiscounted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np

Choices = np.ndarray
"""A policy: int32 [O, S], the action for an opening and counts of answers."""


@dataclass(frozen=True)
class Worth:
    """What a policy comes to, exactly. value: expected return. deviation: the standard deviation of a return.
    questions: expected number. solved, mistaken, handed_over: shares of episodes; what is left asked too much."""

    value: float
    deviation: float
    questions: float
    solved: float
    mistaken: float
    handed_over: float


@dataclass(frozen=True, eq=False)
class Desk:
    """K intents alike. opens: f64 [K, O], probability of each kind of opening. says_yes: f64 [K, M], of the answer yes
    to each question. questions: at most so many, Q.

    right: reward of the right intent. wrong: what another one costs, or a question more than Q. passing: what handing
    over costs. cost: of a question. Actions: M questions, then K intents, then handing over.
    """

    opens: np.ndarray
    says_yes: np.ndarray
    questions: int = 8
    right: float = 10.0
    wrong: float = 20.0
    passing: float = 5.0
    cost: float = 1.0

    @property
    def num_questions(self) -> int:
        return self.says_yes.shape[1]

    @property
    def num_intents(self) -> int:
        return self.says_yes.shape[0]

    @property
    def num_actions(self) -> int:
        return self.num_questions + self.num_intents + 1

    @cached_property
    def counts(self) -> np.ndarray:
        """All counts of at most Q answers, yes to each question and then no to each: int32 [S, 2M], by code."""
        rows = np.zeros((1, 0), np.int32)
        for _ in range(2 * self.num_questions):
            left = self.questions - rows.sum(1)
            more = np.concatenate([np.arange(most + 1, dtype=np.int32) for most in left])
            rows = np.concatenate([np.repeat(rows, left + 1, axis=0), more[:, None]], axis=1)
        return rows[np.argsort(self._codes(rows))]

    @cached_property
    def after(self) -> np.ndarray:
        """Number of the counts after one more answer of each kind: int32 [S, 2M]; with Q answers already, any."""
        codes = self._codes(self.counts)
        more = codes[:, None] + self._weights
        return np.minimum(np.searchsorted(codes, more), len(codes) - 1).astype(np.int32)

    @cached_property
    def joint(self) -> np.ndarray:
        """Probability of intent, opening and one sequence of such answers: f64 [O, S, K]."""
        logs = np.log(np.concatenate([self.says_yes, 1 - self.says_yes], axis=1)).T
        answers = np.exp(self.counts @ logs)
        return self.opens.T[:, None] * answers / self.num_intents

    @cached_property
    def posterior(self) -> np.ndarray:
        """Of the intents, f64 [O, S, K]."""
        return self.joint / self.joint.sum(2, keepdims=True)

    @cached_property
    def stops(self) -> np.ndarray:
        """Expected reward of each intent and of handing over, f64 [O, S, K + 1]."""
        named = self.posterior * (self.right + self.wrong) - self.wrong
        return np.concatenate([named, np.full((*named.shape[:2], 1), -self.passing)], axis=2)

    @cached_property
    def optimal(self) -> Choices:
        """The policy of highest expected return; where several are equal, it stops, else takes the first."""
        choices = self.num_questions + self.stops.argmax(2).astype(np.int32)
        value, asked = self.stops.max(2), self.counts.sum(1)
        for number in reversed(range(self.questions)):
            at = np.flatnonzero(asked == number)
            yes = self.posterior[:, at] @ self.says_yes
            after = value[:, self.after[at]]
            split = after[..., : self.num_questions], after[..., self.num_questions :]
            ask = yes * split[0] + (1 - yes) * split[1] - self.cost
            better = ask.max(2) > value[:, at] + 1e-9
            choices[:, at] = np.where(better, ask.argmax(2), choices[:, at])
            value[:, at] = np.where(better, ask.max(2), value[:, at])
        return choices

    @cached_property
    def best(self) -> Worth:
        """Optimal play."""
        return self.worth(self.optimal)

    def worth(self, choices: Choices) -> Worth:
        """What a policy comes to, by following the probability of everything from question to question."""
        asked, ending = self.counts.sum(1), []
        mass = np.zeros_like(self.joint)  # of being there, and of each intent
        mass[:, 0] = self.opens.T / self.num_intents
        for number in range(self.questions + 1):
            at = np.flatnonzero(asked == number)
            choice, here = choices[:, at], mass[:, at]
            for action in range(self.num_actions):
                taken = np.where((choice == action)[..., None], here, 0.0)
                if action >= self.num_questions:
                    ending += [(number, action - self.num_questions, taken.sum((0, 1)))]
                elif number < self.questions:
                    for shift, chance in ((0, self.says_yes), (self.num_questions, 1 - self.says_yes)):
                        to = self.after[at, action + shift]  # each other counts, of a question
                        mass[:, to] += taken * chance[:, action]
                else:
                    ending += [(number, -1, taken.sum((0, 1)))]
        return self._total(ending)

    def _total(self, ending: list[tuple[int, int, np.ndarray]]) -> Worth:
        """Of (questions asked, intent named or K or -1, probability by intent) of all ends."""
        shares = {"solved": 0.0, "mistaken": 0.0, "handed_over": 0.0}
        gains, chances, lengths = [], [], []
        for asked, named, mass in ending:
            right = float(mass[named]) if 0 <= named < self.num_intents else 0.0
            passed = float(mass.sum()) if named == self.num_intents else 0.0
            wrong = float(mass.sum()) - right - passed
            shares["solved"] += right
            shares["handed_over"] += passed
            shares["mistaken"] += wrong if named >= 0 else 0.0
            chances += [right, passed, wrong]
            gains += [reward - self.cost * asked for reward in (self.right, -self.passing, -self.wrong)]
            lengths += [asked] * 3
        value = float(np.dot(chances, gains))
        deviation = float(np.sqrt(np.dot(chances, (np.array(gains) - value) ** 2)))
        return Worth(value, deviation, float(np.dot(chances, lengths)), **shares)

    # --- other policies --------------------------------------------------------------------------------------------

    def at_once(self) -> Choices:
        """Asks nothing."""
        return self.num_questions + self.stops.argmax(2).astype(np.int32)

    def one_ahead(self) -> Choices:
        """Asks where one question and then stopping is worth more than stopping at once."""
        choices, value = self.at_once(), self.stops.max(2)
        yes = self.posterior @ self.says_yes
        after = value[:, self.after]
        ask = yes * after[..., : self.num_questions] + (1 - yes) * after[..., self.num_questions :] - self.cost
        asks = (ask.max(2) > value + 1e-9) & (self.counts.sum(1) < self.questions)
        return np.where(asks, ask.argmax(2), choices).astype(np.int32)

    def in_turn(self, times: int = 1) -> Choices:
        """Asks every question so often, in their order, then stops."""
        asked = self.counts.sum(1)
        asks = np.broadcast_to(asked < min(times * self.num_questions, self.questions), self.stops.shape[:2])
        return np.where(asks, asked % self.num_questions, self.at_once()).astype(np.int32)

    # --- on the device ---------------------------------------------------------------------------------------------

    def expert(self, choices: Choices | None = None) -> Callable[[jax.Array], jax.Array]:
        """Features f32 [..., O + 2M + 1] of the environment -> action int32 [...] of a policy, the optimal one if
        none."""
        chosen, kinds = self.optimal if choices is None else choices, self.opens.shape[1]

        def act(features: jax.Array) -> jax.Array:
            table, codes = jnp.asarray(chosen), jnp.asarray(self._codes(self.counts).astype(np.uint32))
            weights = jnp.asarray(self._weights.astype(np.uint32))
            opening = jnp.argmax(features[..., :kinds], axis=-1)
            counts = jnp.round(features[..., kinds:-1]).astype(jnp.uint32)
            code = jnp.sum(counts * weights.reshape((1,) * (counts.ndim - 1) + (-1,)), axis=-1)
            return table[opening, jnp.minimum(jnp.searchsorted(codes, code), len(codes) - 1)]

        return act

    @property
    def _weights(self) -> np.ndarray:
        return (self.questions + 1) ** np.arange(2 * self.num_questions, dtype=np.int64)

    def _codes(self, rows: np.ndarray) -> np.ndarray:
        """One integer each: its digits in base Q + 1, below 2^32 for 5 questions and Q = 8."""
        return rows.astype(np.int64) @ self._weights
