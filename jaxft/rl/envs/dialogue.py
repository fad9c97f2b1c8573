"""Twenty questions: find out, by questions with unreliable answers, which of 64 things someone thinks of.

A thing is its 6 attributes, each there or not, all 64 alike. An action asks for an attribute (0 .. 5) or guesses a
thing (6 + its number, whose bits are its attributes, the first one lowest); with `guess=likeliest` there is one action
for all guesses (6), which names the thing that most answers speak for, so that only what to ask and when to stop is to
be learned; optimal play is worth the same. An answer is wrong with probability `noise`, anew each time, so a question
may be worth asking again. A question costs 1, and a guess ends the episode with +20 or -20. After 20 questions only a
guess is left: one question more counts as a wrong guess. Episodes therefore always terminate, after 21 steps at most,
and are never truncated; how many questions were asked is part of the observation.

The stakes: what counts is the 40 between right and wrong. At 20 it is best to ask for everything once and to guess;
from 30 to 100 optimal play is the same: an attribute is asked for until its answers lean to one side by two, in 14.5
questions on average, with 92 % of the guesses right (`jaxft.rl.dialogue_play` computes it exactly). Asking for all
attributes equally often, whatever the answers are, is worth 6.6 less at best. Solved is 95 % of the way from guessing
at once to optimal play.

The observation (option `observation`) is
    text       the dialogue itself, as tokens for a text encoder: is it soft ? yes . is it alive ? no .
    brief      a note of what it came to, as tokens too, a fifth as many: alive no 1 big open ... asked 2
    features   the same counts: f32 [7], yes - no for each attribute, and the share of the questions that were asked
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxft import draws
from jaxft.errors import UserError
from jaxft.rl.dialogue_play import Game
from jaxft.rl.env import Discrete, Outcome
from jaxft.rl.utterances import Utterances

NAMES = {"twenty_questions": "find one of 64 things by questions with unreliable answers; a dialogue as text"}

QUESTIONS = ("is it alive ?", "is it big ?", "is it old ?", "is it soft ?", "is it loud ?", "is it fast ?")
ANSWERS = ("no .", "yes .")
SOLVED = 0.95
OBSERVATIONS = ("text", "brief", "features")
GUESSES = ("entity", "likeliest")


class State(NamedTuple):
    """entity: int32 []. turns: int32 [Q], 2 · attribute + answer of each question, then -1. asked: int32 []."""

    entity: jax.Array
    turns: jax.Array
    asked: jax.Array


@dataclass(frozen=True, eq=False)
class TwentyQuestions:
    """The environment. utterances: what was asked and answered as tokens, or where `brief` what may stand in a note;
    none where features are observed."""

    game: Game
    utterances: Utterances | None
    threshold: float | None
    guesses_likeliest: bool = False
    brief: bool = False
    name: str = "twenty_questions"

    @property
    def actions(self) -> Discrete:
        return Discrete(self.game.attributes + (1 if self.guesses_likeliest else 2**self.game.attributes))

    @property
    def max_steps(self) -> int:
        return self.game.questions + 1

    @property
    def length(self) -> int:
        """Tokens of an observation; 0 where features are observed."""
        if self.utterances is None:
            return 0
        return self.utterances.longest(self.game.attributes + 1 if self.brief else self.game.questions)

    def reset(self, key: jax.Array) -> tuple[State, Any]:
        """(state, observation) of a new episode. key: a typed key, consumed."""
        entity = draws.integers(jax.random.key_data(key), 1, 2**self.game.attributes)[0]
        state = State(entity, jnp.full(self.game.questions, -1, jnp.int32), jnp.int32(0))
        return state, self.observe(state)

    def step(self, state: State, action: jax.Array, key: jax.Array) -> Outcome:
        """The outcome of an action. key: a typed key, consumed."""
        game = self.game
        action = action.astype(jnp.int32)
        asks = (action < game.attributes) & (state.asked < game.questions)
        attribute = jnp.clip(action, 0, game.attributes - 1)
        errs = draws.uniform(jax.random.key_data(key), 1)[0] < game.noise
        answer = ((state.entity >> attribute) & 1) ^ errs.astype(jnp.int32)
        here = (jnp.arange(game.questions) == state.asked) & asks
        after = State(
            state.entity,
            jnp.where(here, 2 * attribute + answer, state.turns),
            state.asked + asks.astype(jnp.int32),
        )
        guess = self._likeliest(state) if self.guesses_likeliest else action - game.attributes
        is_right = guess == state.entity
        reward = jnp.where(asks, -game.cost, jnp.where(is_right, game.right, -game.wrong))
        return Outcome(after, self.observe(after), reward.astype(jnp.float32), ~asks, jnp.zeros_like(asks))

    def observe(self, state: State) -> Any:
        """The observation of a state."""
        if self.utterances is None:
            return self.features(state)
        return self.utterances.observe(self._note(state) if self.brief else state.turns, self.length)

    def features(self, state: State) -> jax.Array:
        """f32 [K + 1]: yes - no for each attribute, and the share of the questions that were asked."""
        share = state.asked.astype(jnp.float32) / self.game.questions
        return jnp.append(self._net(state).astype(jnp.float32), share)

    def _net(self, state: State) -> jax.Array:
        """int32 [K]: yes - no for each attribute."""
        about = (state.turns >> 1)[:, None] == jnp.arange(self.game.attributes)[None]
        return jnp.sum(jnp.where(about, (2 * (state.turns & 1) - 1)[:, None], 0), axis=0)

    def _note(self, state: State) -> jax.Array:
        """int32 [K + 1]: which of `note_texts` tell the state."""
        most, attributes = self.game.questions, self.game.attributes
        stands = jnp.arange(attributes) * (2 * most + 1) + most + self._net(state)
        return jnp.append(stands, attributes * (2 * most + 1) + state.asked).astype(jnp.int32)

    def expert(self, state: State) -> jax.Array:
        """What optimal play does, int32 []."""
        action = self.game.expert()(self.features(state))
        return jnp.minimum(action, self.game.attributes) if self.guesses_likeliest else action

    def _likeliest(self, state: State) -> jax.Array:
        """The thing whose attributes are those with more yes than no, int32 []."""
        net = self.features(state)[:-1]
        return jnp.sum(jnp.where(net > 0, 1 << jnp.arange(len(net), dtype=jnp.int32), 0), dtype=jnp.int32)

    def transcript(self, state: State) -> list[str]:
        """The dialogue of one state, for people to read."""
        texts = turn_texts()
        return [texts[int(turn)] for turn in state.turns if turn >= 0]


def turn_texts() -> list[str]:
    """Question and answer of each turn, by its number."""
    return [f"{question} {answer}" for question in QUESTIONS for answer in ANSWERS]


def note_texts(questions: int) -> list[str]:
    """What a note may say: of each attribute how yes - no stands, -questions .. questions, then how many were asked."""
    stands = [f"{'yes' if net > 0 else 'no'} {abs(net)}" if net else "open" for net in range(-questions, questions + 1)]
    attributes = [question.split()[-2] for question in QUESTIONS]
    return [f"{name} {net}" for name in attributes for net in stands] + [f"asked {n}" for n in range(questions + 1)]


def make(
    name: str,
    *,
    observation: str = "text",
    model: str = "minilm",
    questions: int = 20,
    noise: float = 0.1,
    right: float = 20.0,
    wrong: float = 20.0,
    guess: str = "entity",
) -> TwentyQuestions:
    """observation: text or brief (tokens of the model's tokenizer), or features. model: asset name, folder or hub
    id."""
    if observation not in OBSERVATIONS:
        raise UserError("rl.env.observation", f"is {observation!r}", f"one of {', '.join(OBSERVATIONS)}")
    if guess not in GUESSES:
        raise UserError("rl.env.guess", f"is {guess!r}", f"one of {', '.join(GUESSES)}")
    if not 1 <= questions <= 32:
        raise UserError("rl.env.questions", f"must lie between 1 and 32, is {questions}")
    if not 0 < noise < 0.5:
        raise UserError("rl.env.noise", f"must lie between 0 and 0.5, is {noise}", "0.1 is the usual one")
    game = Game(len(QUESTIONS), questions, noise, right, wrong)
    texts = {"text": turn_texts(), "brief": note_texts(questions)}.get(observation)
    utterances = Utterances.of(texts, model) if texts else None
    at_once = float(game.worth(game.until_sure(0.0)).value)
    solved = at_once + SOLVED * (game.best.value - at_once)
    return TwentyQuestions(game, utterances, solved, guess == "likeliest", observation == "brief", name)
