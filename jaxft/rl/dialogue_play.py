"""Exact play of twenty questions: the optimal policy and its value, by dynamic programming.

An attribute that got y times yes and n times no is there with odds ((1 - noise) / noise)^(y - n), so a posterior over
the entities is a product over attributes, and what counts of a dialogue is the multiset of |y - n| and how many
questions it took. There are 1,513 such multisets for 6 attributes and 20 questions: a table of them is the whole game.
Values are f64, undiscounted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np

GUESS = -1
"""Choice of a policy: guess the likeliest entity. 0 and up: ask for the attribute of that rank, least certain first."""

Choices = np.ndarray
"""A policy: int32 [Q + 1, M], what to do after so many questions at a multiset of margins."""


@dataclass(frozen=True)
class Worth:
    """What a policy comes to, exactly. value: expected return. deviation: the standard deviation of a return.
    questions: expected number. success: share of right guesses. lengths: f64 [Q + 1], share of episodes with so many
    questions."""

    value: float
    deviation: float
    questions: float
    success: float
    lengths: np.ndarray


@dataclass(frozen=True)
class Game:
    """K attributes, 2^K entities alike, at most Q questions, each answer wrong with probability `noise`.

    right: reward of a right guess. wrong: what a wrong one costs. cost: of a question.
    """

    attributes: int = 6
    questions: int = 20
    noise: float = 0.1
    right: float = 20.0
    wrong: float = 20.0
    cost: float = 1.0

    @cached_property
    def margins(self) -> np.ndarray:
        """The multisets of |yes - no| with at most Q in all, each ascending, in the order of `_codes`: int32 [M, K]."""
        rows = [()]
        for _ in range(self.attributes):  # each next one is at least the last
            rows = [
                (*row, more)
                for row in rows
                for more in range(row[-1] if row else 0, self.questions + 1)
                if sum(row) + more * (self.attributes - len(row)) <= self.questions
            ]
        found = np.array(rows, np.int32)
        return found[np.argsort(self._codes(found))]

    @cached_property
    def likeliest(self) -> np.ndarray:
        """Probability of the likeliest entity at each multiset, f64 [M]."""
        return self._sure(self.margins).prod(1)

    @cached_property
    def agrees(self) -> np.ndarray:
        """Probability that an answer agrees with what an attribute looks like, f64 [M, K]."""
        sure = self._sure(self.margins)
        return sure * (1 - self.noise) + (1 - sure) * self.noise

    @cached_property
    def after(self) -> tuple[np.ndarray, np.ndarray]:
        """The multiset after an answer that agrees, and after one that does not: int32 [M, K] each.

        With Q margins already there is no question left, and the number is one of any multiset."""
        more, less = (
            np.stack([self.find(np.sort(self._moved(rank, by), axis=1)) for rank in range(self.attributes)], axis=1)
            for by in (1, -1)
        )
        return more, less

    @cached_property
    def optimal(self) -> Choices:
        """The policy of highest expected return; where several are equal, it guesses, else asks for the least rank."""
        stop = self.likeliest * self.right - (1 - self.likeliest) * self.wrong
        choices = np.full((self.questions + 1, len(stop)), GUESS, np.int32)
        value, (more, less) = stop, self.after
        for asked in reversed(range(self.questions)):
            ask = self.agrees * value[more] + (1 - self.agrees) * value[less] - self.cost
            rank = np.argmax(ask > ask.max(1, keepdims=True) - 1e-9, axis=1)  # the first of equals, but for rounding
            best = ask[np.arange(len(ask)), rank]
            choices[asked] = np.where(best > stop + 1e-9, rank, GUESS)
            value = np.maximum(best, stop)
        return choices

    @cached_property
    def best(self) -> Worth:
        """Optimal play."""
        return self.worth(self.optimal)

    def worth(self, choices: Choices) -> Worth:
        """What a policy comes to, by following the probability of every multiset from question to question."""
        more, less = self.after
        at = np.zeros(len(self.margins))
        at[self.find(np.zeros((1, self.attributes), np.int32))] = 1.0
        lengths, won = np.zeros(self.questions + 1), np.zeros(self.questions + 1)
        for asked in range(self.questions + 1):
            choice = choices[asked] if asked < self.questions else np.full(len(at), GUESS)
            guesses = np.where(choice == GUESS, at, 0.0)
            lengths[asked], won[asked] = guesses.sum(), (guesses * self.likeliest).sum()
            row = np.flatnonzero((choice != GUESS) & (at > 0))
            rank = choice[row]
            yes = at[row] * self.agrees[row, rank]
            left = at[row] - yes
            at = np.zeros(len(at))
            np.add.at(at, more[row, rank], yes)
            np.add.at(at, less[row, rank], left)
        spent = self.cost * np.arange(self.questions + 1)
        gains = np.stack([self.right - spent, -self.wrong - spent])
        chances = np.stack([won, lengths - won])
        value = float((chances * gains).sum())
        deviation = float(np.sqrt((chances * (gains - value) ** 2).sum()))
        return Worth(value, deviation, float(lengths @ np.arange(len(lengths))), float(won.sum()), lengths)

    # --- other policies --------------------------------------------------------------------------------------------

    def until_sure(self, probability: float) -> Choices:
        """Asks for the least certain attribute until the likeliest entity has at least this probability."""
        return self._ask_while(np.broadcast_to(self.likeliest < probability, (self.questions + 1, len(self.margins))))

    def fixed_length(self, count: int) -> Choices:
        """Asks so many questions, each time for the least certain attribute."""
        asked = np.arange(self.questions + 1)[:, None]
        return self._ask_while(np.broadcast_to(asked < count, (self.questions + 1, len(self.margins))))

    def in_rounds(self, rounds: int) -> float:
        """Expected return of asking for every attribute so many times, whatever the answers are."""
        counts = np.arange(rounds + 1)
        binomial = np.array([np.prod((rounds - np.arange(k)) / (1.0 + np.arange(k))) for k in counts])
        chance = binomial * (1 - self.noise) ** counts * self.noise ** (rounds - counts)
        success = float(chance @ ((2 * counts > rounds) + 0.5 * (2 * counts == rounds))) ** self.attributes
        spent = self.cost * rounds * self.attributes
        return success * self.right - (1 - success) * self.wrong - spent

    # --- on the device ---------------------------------------------------------------------------------------------

    def expert(self, choices: Choices | None = None) -> Callable[[jax.Array], jax.Array]:
        """Features f32 [..., K + 1] of the environment -> action int32 [...] of a policy, the optimal one if none."""
        chosen = self.optimal if choices is None else choices

        def act(features: jax.Array) -> jax.Array:
            table, codes = jnp.asarray(chosen), jnp.asarray(self._codes(self.margins))
            weights = jnp.asarray(self._weights, jnp.int32)
            net = jnp.round(features[..., :-1]).astype(jnp.int32)
            asked = jnp.round(features[..., -1] * self.questions).astype(jnp.int32)
            order = jnp.argsort(jnp.abs(net), axis=-1, stable=True).astype(jnp.int32)
            ordered = jnp.take_along_axis(jnp.abs(net), order, axis=-1)
            code = jnp.sum(ordered * weights.reshape((1,) * (ordered.ndim - 1) + (-1,)), axis=-1)
            row = jnp.minimum(jnp.searchsorted(codes, code), len(codes) - 1)
            choice = table[jnp.clip(asked, 0, self.questions), row]
            attribute = jnp.take_along_axis(order, jnp.maximum(choice, 0)[..., None], axis=-1)[..., 0]
            bits = (net > 0).astype(jnp.int32) << jnp.arange(self.attributes).reshape((1,) * (net.ndim - 1) + (-1,))
            return jnp.where(choice == GUESS, self.attributes + jnp.sum(bits, axis=-1), attribute)

        return act

    # --- multisets and their numbers -------------------------------------------------------------------------------

    def find(self, rows: np.ndarray) -> np.ndarray:
        """Numbers of multisets int [..., K], each ascending: int32 [...]; of one that there is not, any."""
        codes = self._codes(self.margins)
        return np.minimum(np.searchsorted(codes, self._codes(rows)), len(codes) - 1).astype(np.int32)

    @property
    def _weights(self) -> np.ndarray:
        return (self.questions + 1) ** np.arange(self.attributes)

    def _codes(self, rows: np.ndarray) -> np.ndarray:
        """One integer a multiset: its digits in base Q + 1."""
        return (rows @ self._weights).astype(np.int32)

    def _sure(self, margins: np.ndarray) -> np.ndarray:
        """Probability that an attribute is as it looks."""
        return 1 / (1 + (self.noise / (1 - self.noise)) ** margins)

    def _moved(self, rank: int, by: int) -> np.ndarray:
        moved = self.margins.copy()
        moved[:, rank] = np.abs(moved[:, rank] + by)
        return moved

    def _ask_while(self, asks: np.ndarray) -> Choices:
        return np.where(asks, 0, GUESS).astype(np.int32)
