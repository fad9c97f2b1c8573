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
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxft import draws
from jaxft.errors import UserError
from jaxft.recipe import Recipe
from jaxft.rl.bandits import Feedback, Offer
from jaxft.rl.env import Discrete, Outcome
from jaxft.rl.envs.label_bandit import recipe_for
from jaxft.rl.item_features import embed, principal, some_texts

NAMES = {
    "recommend": "show a user whose taste drifts one of 10 texts; reward for a click",
    "recommend_slate": "the same with three texts in order; the user looks from the top",
}

SLATE = 3
MEMORY = 0.95
"""What is left of the clicks' sum after a visit."""


class State(NamedTuple):
    """taste, profile, clicks: f32 [d]. offered: int32 [A], numbers of items. looked, clicked: f32 [shown], 1 for the
    items of the last visit that were. step: int32 []."""

    taste: jax.Array
    profile: jax.Array
    clicks: jax.Array
    offered: jax.Array
    looked: jax.Array
    clicked: jax.Array
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
    def shown(self) -> int:
        """Items a visit."""
        return 1

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
        none = jnp.zeros(self.shown, jnp.float32)
        state = State(taste, profile, jnp.zeros(size, jnp.float32), offered, none, none, jnp.int32(0))
        return state, self.observe(state)

    def step(self, state: State, action: jax.Array, key: jax.Array) -> Outcome:
        """The outcome of an action. key: a typed key, consumed."""
        own, shown = _two(key), self._shown(action)
        noise = draws.normal(own[0], len(state.taste))
        numbers = draws.uniform(own[1], len(self.items) + 2 * len(shown))
        visit = self._visit(numbers[len(self.items) :], self.interest(state)[shown])
        looked, clicked = (x.astype(jnp.float32) for x in visit)
        told = looked * (clicked - jax.nn.sigmoid(jnp.float32(self.bias)))
        clicks = MEMORY * state.clicks + _times(told, self.items[state.offered[shown]])
        kept, new = (np.float32(np.sqrt(share)) for share in (1 - self.drift, self.drift))
        offered = self._offered(numbers[: len(self.items)])
        taste = kept * state.taste + new * noise
        after = State(taste, state.profile, clicks, offered, looked, clicked, state.step + 1)
        truncated = after.step >= self.max_steps
        reward = jnp.sum(clicked)
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

    def expert(self, state: State) -> jax.Array:
        """The action of highest expected reward, int32 []; it knows the taste."""
        return jnp.argmax(self.expected_reward(state)).astype(jnp.int32)

    def offer(self, state: State) -> Offer:
        """The items on offer; a context is 1, the item, and how well it goes with the profile: f32 [A, d + 2]."""
        items = self.items[state.offered]
        ones, fits = jnp.ones((self.choices, 1), jnp.float32), _times(items, state.profile)[:, None]
        return Offer(state.offered, jnp.concatenate([ones, items, fits], axis=1))

    def choose(self, scores: jax.Array) -> jax.Array:
        """The action that shows the items of highest score, best first."""
        return jnp.argmax(scores).astype(jnp.int32)

    def feedback(self, state: State, action: jax.Array, outcome: Outcome) -> Feedback:
        """Clicks on the items that were looked at."""
        offer, shown, after = self.offer(state), self._shown(action), outcome.state
        return Feedback(offer.arms[shown], offer.contexts[shown], after.clicked, after.looked)

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
    def shown(self) -> int:
        return SLATE

    @property
    def orders(self) -> np.ndarray:
        """Places in the offer by action: int32 [actions, 3]."""
        return np.array(list(itertools.permutations(range(self.choices), SLATE)), np.int32)

    @property
    def actions(self) -> Discrete:
        return Discrete(self.choices * (self.choices - 1) * (self.choices - 2))

    def expected_reward(self, state: State) -> jax.Array:
        """Of each action, f32: the probability that any item is looked at and clicked."""
        interest = jnp.take(self.interest(state), jnp.asarray(self.orders), mode="clip")
        total = jnp.zeros(len(interest), jnp.float32)
        for place in reversed(range(SLATE)):
            here = interest[:, place]
            total = here + (1.0 - here) * self.patience * total if place < SLATE - 1 else here
        return total

    def choose(self, scores: jax.Array) -> jax.Array:
        best = jax.lax.top_k(scores, SLATE)[1]
        return jnp.argmax(jnp.all(jnp.asarray(self.orders) == best[None], axis=1)).astype(jnp.int32)

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
    data: str | Recipe = "trec",
    model: str = "minilm",
    count: int = 50,
    size: int = 16,
    item_seed: int = 0,
    choices: int = 10,
    drift: float = 0.001,
    slope: float = 2.0,
    bias: float = -2.0,
    patience: float = 0.7,
    max_steps: int = 1000,
) -> Recommend:
    """data: a recipe whose training texts are taken, or what `label_bandit` takes. model: embeds them. count, size: of
    items and of their numbers. item_seed: chooses texts. choices: items on offer. The rest: see above; patience is
    read by `recommend_slate` alone."""
    texts = some_texts(recipe_for(data) if isinstance(data, str) else data, count, item_seed)
    items = principal(embed(texts, model), size)
    return of_items(
        name, items, choices=choices, drift=drift, slope=slope, bias=bias, patience=patience, max_steps=max_steps
    )


def of_items(name: str, items: np.ndarray, *, patience: float = 0.7, **settings: Any) -> Recommend:
    """As `make`, with items f32 [I, d] as they are, and no model."""
    array = jnp.asarray(items, jnp.float32)
    if name == "recommend_slate":
        found = RecommendSlate(name, array, **settings, patience=patience)
    else:
        found = Recommend(name, array, **settings)
    if not SLATE <= found.choices <= len(array):
        raise UserError("rl.env.choices", f"must lie between {SLATE} and {len(array)}, is {found.choices}")
    for what, rate in (("drift", found.drift), ("patience", patience)):
        if not 0 <= rate < 1:
            raise UserError(f"rl.env.{what}", f"is a rate from 0 up to but not including 1, is {rate}")
    if found.max_steps < 1:
        raise UserError("rl.env.max_steps", f"must be at least 1, is {found.max_steps}")
    return found
