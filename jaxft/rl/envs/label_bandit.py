"""Any `classify` data set as a bandit of one step: shown a text, name its label, and be told whether that was right.

An agent learns from the reward of what it chose alone, where supervised training sees the label itself. Splits,
label order and tokens are those of a supervised run of the same recipe. An example is drawn with its probability in
the split, anew for each episode; the reward is 1 for its label and 0 for others, turned round with probability
`reward_noise`. Nothing counts as solved: a share of right labels means something beside a supervised run only.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxft import draws, recipe, recipes, tasks
from jaxft.data import corpus
from jaxft.data.encode import Encoded, encode
from jaxft.errors import Problems, UserError
from jaxft.recipe import Data, Recipe
from jaxft.rl.env import Discrete, Outcome
from jaxft.rl.utterances import Observation, tokenizer_of

NAMES = {"label_bandit": "label a text of a data set, the reward says whether it was right; one step"}


class State(NamedTuple):
    """index: int32 [], which example is shown."""

    index: jax.Array


@dataclass(frozen=True, eq=False)
class LabelBandit:
    """The environment. tokens, types: int32 [E, L]. sizes: int32 [E], real tokens. targets: int32 [E]."""

    labels: tuple[str, ...]
    tokens: jax.Array
    types: jax.Array
    sizes: jax.Array
    targets: jax.Array
    reward_noise: float = 0.0
    split: str = "train"
    name: str = "label_bandit"
    threshold: float | None = None
    max_steps: int = 1

    @property
    def actions(self) -> Discrete:
        """The classes, in the order of `labels`."""
        return Discrete(len(self.labels))

    @property
    def num_examples(self) -> int:
        return len(self.targets)

    @property
    def num_starts(self) -> int:
        """Each example once is a whole evaluation."""
        return self.num_examples

    def start(self, number: jax.Array) -> tuple[State, Observation]:
        """(state, observation) of the episode about an example."""
        state = State(number)
        return state, self.observe(state)

    def expert(self, state: State) -> jax.Array:
        """The label, int32 []."""
        return self.targets[state.index]

    def reset(self, key: jax.Array) -> tuple[State, Observation]:
        """(state, observation) of a new episode. key: a typed key, consumed."""
        state = State(draws.integers(jax.random.key_data(key), 1, self.num_examples)[0])
        return state, self.observe(state)

    def step(self, state: State, action: jax.Array, key: jax.Array) -> Outcome:
        """The outcome of an action. key: a typed key, consumed."""
        is_right = action.astype(jnp.int32) == self.targets[state.index]
        turned = draws.uniform(jax.random.key_data(key), 1)[0] < self.reward_noise
        reward = (is_right ^ turned).astype(jnp.float32)
        over = jnp.ones((), bool)
        return Outcome(state, self.observe(state), reward, over, ~over)

    def observe(self, state: State) -> Observation:
        """The text as tokens, and its number in the split: `index` int32 []."""
        at = jnp.arange(self.tokens.shape[1], dtype=jnp.int32)
        segments = (at < self.sizes[state.index]).astype(jnp.int32)
        return {
            "tokens": self.tokens[state.index],
            "types": self.types[state.index],
            "positions": at * segments,
            "segments": segments,
            "firsts": jnp.zeros(1, jnp.int32),
            "index": state.index,
        }

    def expected_reward(self, state: State) -> jax.Array:
        """Of each label, f32 [C]."""
        is_right = jnp.arange(len(self.labels)) == self.targets[state.index]
        return jnp.where(is_right, 1.0 - self.reward_noise, self.reward_noise).astype(jnp.float32)


def recipe_for(data: str, model: str | None = None, max_tokens: int | None = None) -> Recipe:
    """The recipe whose supervised run has the same splits: a shipped one, a recipe file, or, for other data, the
    data's own dev and test or 10 % and 20 % of it."""
    if data in recipes.names() or data.endswith((".yaml", ".yml")):
        found = recipe.load(recipes.find(data))
    else:
        base = Recipe(data=Data(train=data))
        own = set(corpus.own_splits(data))
        held_out = {name: share for name, share in (("dev", 0.1), ("test", 0.2)) if name not in own}
        found = dataclasses.replace(base, data=dataclasses.replace(base.data, **held_out))
    if max_tokens is not None:
        found = dataclasses.replace(found, data=dataclasses.replace(found.data, max_tokens=max_tokens))
    return found if model is None else dataclasses.replace(found, model=model)


def make(
    name: str,
    *,
    data: str | Recipe = "trec",
    model: str | None = None,
    max_tokens: int | None = None,
    split: str = "train",
    reward_noise: float = 0.0,
) -> LabelBandit:
    """data: a recipe, the name of a shipped one, a recipe file, or whatever `data.train` may name. model, max_tokens:
    instead of the recipe's. split: train, dev or test.

    Raises UserError with everything that is wrong with the data, and for tasks without one label an example.
    """
    chosen = recipe_for(data, model, max_tokens) if isinstance(data, str) else data
    if chosen.task != "classify" or chosen.data.multi_label or chosen.data.overflow == "window":
        what = "a bandit needs one label and one piece a text"
        raise UserError("rl.env.data", what, "task: classify, without multi_label or overflow: window")
    if not 0 <= reward_noise < 0.5:
        raise UserError("rl.env.reward_noise", f"is a rate from 0 up to but not including 0.5, is {reward_noise}")
    recipe.check(chosen)
    found = corpus.load(chosen)
    if split not in found.splits:
        raise UserError("rl.env.split", f"there is no {split!r}", f"one of {', '.join(found.splits)}")
    tokenizer, spec = tokenizer_of(chosen.model), chosen.data
    encoded = {
        part: encode(examples, tokenizer, max_tokens=spec.max_tokens, overflow=spec.overflow)
        for part, examples in found.splits.items()
    }
    length = max(int(tokens.piece_lengths.max()) for tokens in encoded.values())  # one for all splits
    problems = Problems()
    targets = tasks.get(chosen.task).targets(found.splits[split], found.labels, problems)
    problems.raise_if_any()
    tokens, types = (jnp.asarray(_rows(encoded[split], column, length)) for column in ("tokens", "types"))
    sizes, numbers = (jnp.asarray(column, jnp.int32) for column in (encoded[split].piece_lengths, targets))
    return LabelBandit(found.labels, tokens, types, sizes, numbers, reward_noise, split, name)


def _rows(encoded: Encoded, column: str, length: int) -> np.ndarray:
    """A column of tokens, one row an example, 0 behind its end: int32 [E, L]."""
    sizes = encoded.piece_lengths
    rows = np.zeros((len(sizes), length), np.int32)
    rows[np.arange(length) < sizes[:, None]] = getattr(encoded, column)
    return rows
