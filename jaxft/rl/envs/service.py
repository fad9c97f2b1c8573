"""A service desk of a shop: find out what a customer wants, by questions, and settle it or hand over to a colleague.

Eight intents, all alike, in three groups. The customer opens with a text: of the very intent (30 %), of another one of
its group (10 %), of the group (40 %), or one that says nothing (20 %); how it is put is drawn from three phrasings.
Actions 0 .. 4 ask a question, which costs 1: the answer yes has the probability `SAYS_YES`, and is put in one of three
ways. Actions 5 .. 12 settle the case as an intent: +10 if that is right, -20 if not. Action 13 hands over, -5. Either
ends the episode, and so does a ninth question, which counts as a wrong intent; so episodes always terminate, after 9
steps at most, and are never truncated.

`jaxft.rl.service_play` computes optimal play exactly: 4.47, with 3.2 questions, 89 % of the cases settled as they
should be, 5 % not, and 6 % handed over. Without a question it is -2 at best; looking one question ahead, 3.54. Solved
is 95 % of the way from no question to optimal play.

The observation is the dialogue, as tokens for a text encoder, or its counts: f32 [12 + 2 · 5 + 1], the kind of opening
as a unit vector, how often each question got yes and then no, and the share of the questions that were asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxft import draws
from jaxft.errors import UserError
from jaxft.rl.env import Discrete, Outcome
from jaxft.rl.service_play import Desk
from jaxft.rl.utterances import Utterances

NAMES = {"service": "find out by questions what a customer wants, then settle it or hand over; a dialogue as text"}

SOLVED = 0.95
OBSERVATIONS = ("text", "features")
PHRASINGS = 3
GROUPS = (0, 0, 0, 1, 1, 1, 2, 2)
"""Of each intent: delivery, payment, account."""
INTENTS = ("late", "damaged", "wrong item", "refund", "charged twice", "declined", "password", "close account")
OPENINGS = (
    ("my parcel is late .", "i am still waiting for my parcel .", "my order should have come last week ."),
    ("it came broken .", "the box was crushed and it does not work .", "what you sent is damaged ."),
    ("you sent me the wrong thing .", "this is not what i ordered .", "i got somebody else 's order ."),
    ("where is my refund ?", "i have not got my money back .", "you owe me a refund ."),
    ("you charged me twice .", "there are two payments on my card .", "i paid once and you took it two times ."),
    ("my card does not work here .", "i can not pay .", "the payment fails every time ."),
    ("i forgot my password .", "i can not get into my account .", "the log in page does not take my password ."),
    ("please delete my account .", "i want to leave for good .", "take me off your list ."),
    ("i have a problem with my order .", "it is about a delivery .", "something is wrong with a parcel ."),
    ("i have a question about a payment .", "it is about my bill .", "something is wrong with the money ."),
    ("i need help with my account .", "it is about my account .", "something about my log in ."),
    ("hello .", "i need help .", "hi , can you help me ?"),
)
"""Kinds: the eight intents, the three groups, nothing."""
OPENS = (0.3, 0.1, 0.4, 0.2)
"""Probability of an opening of the intent, of another one of its group, of the group, of nothing."""
QUESTIONS = (
    "did the parcel arrive ?",
    "is it the thing you ordered ?",
    "did you send something back ?",
    "did the payment go through ?",
    "can you log in ?",
)
SAYS_YES = (
    (0.1, 0.5, 0.1, 0.9, 0.9),
    (0.9, 0.9, 0.1, 0.9, 0.9),
    (0.9, 0.1, 0.1, 0.9, 0.9),
    (0.9, 0.5, 0.9, 0.9, 0.9),
    (0.5, 0.5, 0.1, 0.9, 0.9),
    (0.1, 0.5, 0.1, 0.1, 0.9),
    (0.5, 0.5, 0.1, 0.5, 0.1),
    (0.5, 0.5, 0.5, 0.5, 0.9),
)
"""By intent and question."""
ANSWERS = (("no .", "no , not at all .", "i am afraid not ."), ("yes .", "yes , that is right .", "i think so ."))


class State(NamedTuple):
    """intent: int32 []. turns: int32 [Q + 1], what was said: the opening, kind · 3 + phrasing, then for each question
    36 + (2 · question + answer) · 3 + phrasing, then -1. asked: int32 []."""

    intent: jax.Array
    turns: jax.Array
    asked: jax.Array


FIRST_TURN = len(OPENINGS) * PHRASINGS


@dataclass(frozen=True, eq=False)
class Service:
    """The environment. utterances: what was said as tokens, none where features are observed."""

    desk: Desk
    utterances: Utterances | None
    threshold: float | None
    name: str = "service"

    @property
    def actions(self) -> Discrete:
        return Discrete(self.desk.num_actions)

    @property
    def max_steps(self) -> int:
        return self.desk.questions + 1

    @property
    def length(self) -> int:
        """Tokens of an observation; 0 where features are observed."""
        return self.utterances.longest(self.desk.questions + 1) if self.utterances else 0

    def reset(self, key: jax.Array) -> tuple[State, Any]:
        """(state, observation) of a new episode. key: a typed key, consumed."""
        numbers = draws.uniform(jax.random.key_data(key), 3)
        intent = jnp.minimum((numbers[0] * self.desk.num_intents).astype(jnp.int32), self.desk.num_intents - 1)
        chances = jnp.cumsum(jnp.asarray(self.desk.opens, jnp.float32)[intent])
        kind = jnp.sum((numbers[1] * chances[-1] >= chances).astype(jnp.int32))
        turns = jnp.full(self.desk.questions + 1, -1, jnp.int32).at[0].set(PHRASINGS * kind + _phrasing(numbers[2]))
        state = State(intent, turns, jnp.int32(0))
        return state, self.observe(state)

    def step(self, state: State, action: jax.Array, key: jax.Array) -> Outcome:
        """The outcome of an action. key: a typed key, consumed."""
        desk, numbers, action = self.desk, draws.uniform(jax.random.key_data(key), 2), action.astype(jnp.int32)
        asks = (action < desk.num_questions) & (state.asked < desk.questions)
        question = jnp.clip(action, 0, desk.num_questions - 1)
        answer = numbers[0] < jnp.asarray(desk.says_yes, jnp.float32)[state.intent, question]
        turn = FIRST_TURN + PHRASINGS * (2 * question + answer.astype(jnp.int32)) + _phrasing(numbers[1])
        here = (jnp.arange(len(state.turns)) == state.asked + 1) & asks
        after = State(state.intent, jnp.where(here, turn, state.turns), state.asked + asks.astype(jnp.int32))
        named = action - desk.num_questions
        reward = jnp.where(named == state.intent, desk.right, -desk.wrong)
        reward = jnp.where(named == desk.num_intents, -desk.passing, reward)
        reward = jnp.where(asks, -desk.cost, reward).astype(jnp.float32)
        return Outcome(after, self.observe(after), reward, ~asks, jnp.zeros_like(asks))

    def observe(self, state: State) -> Any:
        """The observation of a state."""
        if self.utterances is None:
            return self.features(state)
        return self.utterances.observe(state.turns, self.length)

    def features(self, state: State) -> jax.Array:
        """f32 [O + 2M + 1]: kind of opening, answers yes and no by question, share of the questions that were asked."""
        opening = jnp.arange(len(OPENINGS)) == state.turns[0] // PHRASINGS
        answers = (state.turns[1:] - FIRST_TURN) // PHRASINGS  # negative where nothing was said
        count = self.desk.num_questions
        kinds = jnp.concatenate([2 * jnp.arange(count) + 1, 2 * jnp.arange(count)])
        counts = jnp.sum(answers[:, None] == kinds[None], axis=0)
        share = state.asked.astype(jnp.float32) / self.desk.questions
        return jnp.concatenate([opening.astype(jnp.float32), counts.astype(jnp.float32), share[None]])

    def expert(self, state: State) -> jax.Array:
        """The action of optimal play, int32 []."""
        return self.desk.expert()(self.features(state))

    def transcript(self, state: State) -> list[str]:
        """The dialogue of one state, for people to read."""
        texts = turn_texts()
        return [texts[int(turn)] for turn in state.turns if turn >= 0]


def _phrasing(number: jax.Array) -> jax.Array:
    """int32 in 0 .. 2, from a uniform number."""
    return jnp.minimum((number * PHRASINGS).astype(jnp.int32), PHRASINGS - 1)


def turn_texts() -> list[str]:
    """What is said in each turn, by its number: openings, then questions with their answers."""
    openings = [phrasing for kind in OPENINGS for phrasing in kind]
    return openings + [f"{question} {put}" for question in QUESTIONS for answer in ANSWERS for put in answer]


def opening_chances() -> np.ndarray:
    """Of each kind by intent, f64 [8, 12]; the share of another intent is divided among those of the group."""
    own, other, group, nothing = OPENS
    found = np.zeros((len(GROUPS), len(OPENINGS)))
    for intent, at in enumerate(GROUPS):
        neighbours = [one for one, its in enumerate(GROUPS) if its == at and one != intent]
        found[intent, neighbours] = other / len(neighbours)
        found[intent, [intent, len(GROUPS) + at, -1]] = own, group, nothing
    return found


def make(name: str, *, observation: str = "text", model: str = "minilm", questions: int = 8) -> Service:
    """observation: text (tokens of the model's tokenizer) or features. model: asset name, folder or hub id."""
    if observation not in OBSERVATIONS:
        raise UserError("rl.env.observation", f"is {observation!r}", f"one of {', '.join(OBSERVATIONS)}")
    if not 1 <= questions <= 8:
        raise UserError("rl.env.questions", f"must lie between 1 and 8, is {questions}")
    desk = Desk(opening_chances(), np.array(SAYS_YES), questions)
    utterances = Utterances.of(turn_texts(), model) if observation == "text" else None
    at_once = desk.worth(desk.at_once()).value
    return Service(desk, utterances, at_once + SOLVED * (desk.best.value - at_once), name)
