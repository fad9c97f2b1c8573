"""Recommending texts to users whose taste drifts: a contextual bandit, and one that orders slates.

The items are 50 questions of TREC, as 16 numbers each: principal components of what a frozen MiniLM makes of them. An
episode is 1,000 visits of one user. The user's taste is a vector w that nobody sees:

    taste       w' = sqrt(1 - drift) · w + sqrt(drift) · N(0, I), N(0, I) at first, so its size stays
    profile     what the user said of it at first: half of it is w, half noise, and it stays
    interest    in item x: sigmoid(bias + slope · w · x)

Each visit offers 10 items, drawn anew. `recommend` shows one of them (actions 0 .. 9): reward 1 where it is clicked,
which has the probability of its interest. `recommend_slate` shows three in order (actions 0 .. 719, all ordered
triples): the user looks at them from the top, clicks the first that is of interest, and after each that is not looks on
with probability `patience` (the cascade model of Craswell et al. 2008); reward 1 for a click. Episodes are truncated,
never terminated.

Observation, f32 [2 · 16 + 10 · 16]: the profile; what clicks tell of the taste, a decaying sum of (click - usual) · x
over the items that were looked at, where usual is sigmoid(bias); the items on offer. Nothing counts as solved: regret
against `expected_reward` tells how far a policy is from the best.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxft.errors import UserError
from jaxft.rl import draws
from jaxft.rl.bandits import Offer
from jaxft.rl.env import Discrete, Outcome
from jaxft.rl.item_features import embed, principal, some_texts

NAMES = {
    "recommend": "show a user whose taste drifts one of 10 texts; reward for a click",
    "recommend_slate": "the same with three texts in order; the user looks from the top",
}

SLATE = 3
MEMORY = 0.95
"""What is left of the clicks' sum after a visit."""


class State(NamedTuple):
    """taste, profile, clicks: f32 [d]. offered: int32 [A], numbers of items. step: int32 []."""

    taste: jax.Array
    profile: jax.Array
    clicks: jax.Array
    offered: jax.Array
    step: jax.Array


@dataclass(frozen=True, eq=False)
class Recommend:
    """The environment with one item shown. items: f32 [I, d], with a mean square length of 1."""

    name: str
    items: jax.Array
    choices: int = 10
    drift: float = 0.001
    slope: float = 2.0
    bias: float = -2.0
    max_steps: int = 1000
    threshold: float | None = None

    @property
    def actions(self) -> Discrete:
        return Discrete(self.choices)

    @property
    def features(self) -> int:
        """Numbers of a context."""
        return self.items.shape[1] + 2

    def reset(self, key: jax.Array) -> tuple[State, jax.Array]:
        """(state, observation) of a new user. key: a typed key, consumed."""
        own, size = _two(key), self.items.shape[1]
        taste, said = jnp.split(draws.normal(own[0], 2 * size), 2)
        profile = (taste + said) * np.float32(np.sqrt(0.5))
        offered = self._offered(draws.uniform(own[1], len(self.items)))
        state = State(taste, profile, jnp.zeros(size, jnp.float32), offered, jnp.int32(0))
        return state, self.observe(state)

    def step(self, state: State, action: jax.Array, key: jax.Array) -> Outcome:
        """The outcome of an action. key: a typed key, consumed."""
        own, shown = _two(key), self._shown(action)
        noise = draws.normal(own[0], len(state.taste))
        numbers = draws.uniform(own[1], len(self.items) + 2 * len(shown))
        looked, clicked = self._visit(numbers[len(self.items) :], self.interest(state)[shown])
        told = jnp.where(looked, clicked.astype(jnp.float32) - jax.nn.sigmoid(jnp.float32(self.bias)), 0.0)
        clicks = MEMORY * state.clicks + _times(told, self.items[state.offered[shown]])
        kept, new = (np.float32(np.sqrt(share)) for share in (1 - self.drift, self.drift))
        offered = self._offered(numbers[: len(self.items)])
        after = State(kept * state.taste + new * noise, state.profile, clicks, offered, state.step + 1)
        truncated = after.step >= self.max_steps
        reward = jnp.any(clicked).astype(jnp.float32)
        return Outcome(after, self.observe(after), reward, jnp.zeros_like(truncated), truncated)

    def observe(self, state: State) -> jax.Array:
        """f32 [(2 + A) · d]."""
        return jnp.concatenate([state.profile, state.clicks, self.items[state.offered].reshape(-1)])

    def interest(self, state: State) -> jax.Array:
        """Probability that each item on offer is clicked when looked at, f32 [A]."""
        return jax.nn.sigmoid(self.bias + self.slope * _times(self.items[state.offered], state.taste))

    def expected_reward(self, state: State) -> jax.Array:
        """Of each action, f32."""
        return self.interest(state)

    def offer(self, state: State) -> Offer:
        """The items on offer; a context is 1, the item, and how well it goes with the profile: f32 [A, d + 2]."""
        items = self.items[state.offered]
        ones, fits = jnp.ones((self.choices, 1), jnp.float32), _times(items, state.profile)[:, None]
        return Offer(state.offered, jnp.concatenate([ones, items, fits], axis=1))

    def _offered(self, numbers: jax.Array) -> jax.Array:
        """Different items, any set alike. numbers: uniform f32 [I]."""
        return jax.lax.top_k(numbers, self.choices)[1]

    def _shown(self, action: jax.Array) -> jax.Array:
        """Places in the offer, int32 [shown]."""
        return action.astype(jnp.int32)[None]

    def _visit(self, numbers: jax.Array, interest: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(whether each item shown is looked at, whether it is clicked), bool [shown] both. numbers: uniform f32
        [2 · shown]."""
        clicked = numbers[: len(interest)] < interest
        return jnp.ones_like(clicked), clicked


@dataclass(frozen=True, eq=False)
class RecommendSlate(Recommend):
    """The environment with three items in order."""

    patience: float = 0.7

    @property
    def orders(self) -> np.ndarray:
        """Places in the offer by action: int32 [actions, 3]."""
        return np.array(list(itertools.permutations(range(self.choices), SLATE)), np.int32)

    @property
    def actions(self) -> Discrete:
        return Discrete(self.choices * (self.choices - 1) * (self.choices - 2))

    def expected_reward(self, state: State) -> jax.Array:
        """Of each action, f32: the probability that any item is looked at and clicked."""
        interest = self.interest(state)[jnp.asarray(self.orders)]
        total = jnp.zeros(len(interest), jnp.float32)
        for place in reversed(range(SLATE)):
            here = interest[:, place]
            total = here + (1.0 - here) * self.patience * total if place < SLATE - 1 else here
        return total

    def _shown(self, action: jax.Array) -> jax.Array:
        return jnp.asarray(self.orders)[action.astype(jnp.int32)]

    def _visit(self, numbers: jax.Array, interest: jax.Array) -> tuple[jax.Array, jax.Array]:
        liked, goes_on = numbers[:SLATE] < interest, numbers[SLATE:] < self.patience
        passed = jnp.cumprod((~liked & goes_on).astype(jnp.int32)).astype(bool)
        looked = jnp.concatenate([jnp.ones(1, bool), passed[:-1]])
        return looked, looked & liked


def _two(key: jax.Array) -> jax.Array:
    """Words for normal and for uniform numbers, uint32 [2, 2]."""
    return draws.fold_in(jax.random.key_data(key), jnp.arange(2))


def _times(left: jax.Array, right: jax.Array) -> jax.Array:
    return jnp.matmul(left, right, precision="highest")


def make(
    name: str,
    *,
    data: str = "trec",
    model: str = "minilm",
    count: int = 50,
    size: int = 16,
    item_seed: int = 0,
    items: np.ndarray | None = None,
    **settings: float,
) -> Recommend:
    """data: of which texts are taken. model: embeds them. count, size: of items and of their numbers. item_seed:
    chooses texts. items: f32 [I, d] instead of all that. settings: choices, drift, slope, bias, max_steps, and
    patience of `recommend_slate`."""
    kind = {"recommend": Recommend, "recommend_slate": RecommendSlate}[name]
    if items is None:
        items = principal(embed(some_texts(data, count, item_seed), model), size)
    known = set(kind.__dataclass_fields__) - {"name", "items", "threshold"}
    if set(settings) - known:
        what = f"there is no {', '.join(sorted(set(settings) - known))}"
        raise UserError("rl.env", what, f"known: {', '.join(sorted(known))}")
    made = kind(name, jnp.asarray(items, jnp.float32), **settings)  # pyright: ignore[reportArgumentType]
    if not SLATE <= made.choices <= len(made.items):
        raise UserError("rl.env.choices", f"must lie between {SLATE} and {len(made.items)}, is {made.choices}")
    if not 0 <= made.drift < 1:
        raise UserError("rl.env.drift", f"is a rate from 0 up to but not including 1, is {made.drift}")
    if made.max_steps < 1:
        raise UserError("rl.env.max_steps", f"must be at least 1, is {made.max_steps}")
    return made
