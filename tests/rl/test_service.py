"""The service desk: its game theory against brute force and against itself, and its text against the tokenizer."""

from __future__ import annotations

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft import draws
from jaxft.errors import UserError
from jaxft.rl import envs
from jaxft.rl.envs.service import (
    FIRST_TURN,
    INTENTS,
    OPENINGS,
    PHRASINGS,
    QUESTIONS,
    SAYS_YES,
    Service,
    State,
    opening_chances,
    turn_texts,
)
from jaxft.rl.service_play import Desk

PUBLISHED = (4.47461161375, 3.1941953250000004, 0.8923227761250002, 0.047735646875, 0.059941577)
"""Value, questions, solved, mistaken, handed over under optimal play."""


def words(seed: int, count: int) -> jax.Array:
    return draws.fold_in(jax.random.key_data(jax.random.key(seed)), jnp.arange(count))


@pytest.fixture(scope="module")
def env() -> Service:
    made = envs.make("service", observation="features")
    assert isinstance(made, Service)
    return made


# --- the dynamic programme -------------------------------------------------------------------------------------------


def expectimax(desk: Desk) -> float:
    """The value of optimal play, by going through all dialogues."""

    @cache
    def value(opening: int, answers: tuple[tuple[int, bool], ...]) -> float:
        mass = desk.opens[:, opening].copy()
        for question, answer in answers:
            mass *= desk.says_yes[:, question] if answer else 1 - desk.says_yes[:, question]
        posterior = mass / mass.sum()
        best = max(float(posterior.max() * (desk.right + desk.wrong) - desk.wrong), -desk.passing)
        if len(answers) < desk.questions:
            for question in range(desk.num_questions):
                yes = float(posterior @ desk.says_yes[:, question])
                follow = [value(opening, (*answers, (question, answer))) for answer in (False, True)]
                best = max(best, yes * follow[1] + (1 - yes) * follow[0] - desk.cost)
        return best

    return float(desk.opens.mean(0) @ [value(opening, ()) for opening in range(desk.opens.shape[1])])


@pytest.mark.parametrize("questions", [1, 2, 4])
@pytest.mark.parametrize("passing", [1.0, 4.0, 30.0])
def test_the_programme_finds_what_going_through_all_dialogues_finds(passing, questions):
    rng = np.random.default_rng(questions)
    desk = Desk(rng.dirichlet(np.ones(3), 4), rng.uniform(0.05, 0.95, (4, 2)), questions, 10.0, 12.0, passing, 0.7)
    assert desk.best.value == pytest.approx(expectimax(desk), abs=1e-9)


def test_chances_add_up_and_follow_the_groups():
    chances = opening_chances()
    assert np.allclose(chances.sum(1), 1)
    assert chances[0].tolist() == [0.3, 0.05, 0.05, 0, 0, 0, 0, 0, 0.4, 0, 0, 0.2]
    assert chances[7].tolist() == [0, 0, 0, 0, 0, 0, 0.1, 0.3, 0, 0, 0.4, 0.2]
    assert np.shape(SAYS_YES) == (len(INTENTS), len(QUESTIONS))
    assert len(turn_texts()) == len(set(turn_texts())) == FIRST_TURN + 2 * len(QUESTIONS) * PHRASINGS


def test_optimal_play_is_worth_what_was_published_and_more_than_heuristics(env):
    best = env.desk.best
    assert best.value == pytest.approx(PUBLISHED[0], abs=1e-9)
    told = (best.questions, best.solved, best.mistaken, best.handed_over)
    assert told == pytest.approx(PUBLISHED[1:], abs=1e-9)
    assert best.solved + best.mistaken + best.handed_over == pytest.approx(1)
    rivals = [env.desk.worth(policy).value for policy in (env.desk.at_once(), env.desk.in_turn(), env.desk.one_ahead())]
    assert max(rivals) < env.threshold < best.value  # pyright: ignore[reportOperatorIssue]
    assert rivals[0] == pytest.approx(float(env.desk.stops[:, 0].max(1) @ env.desk.opens.mean(0)))


# --- the environment -------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["optimal", "one_ahead", "too_many"])
def test_the_expert_earns_what_was_computed(env, policy):
    desk, episodes = env.desk, 30_000
    choices = {"optimal": desk.optimal, "one_ahead": desk.one_ahead(), "too_many": np.zeros_like(desk.optimal)}
    worth, act = desk.worth(choices[policy]), desk.expert(choices[policy])

    def one(now, at):
        state, over, total = now
        keys = draws.keys(draws.fold_in(draws.fold_in(at, 7), jnp.arange(episodes)))
        out = jax.vmap(env.step)(state, act(jax.vmap(env.features)(state)), keys)
        asked = jnp.where(over, state.asked, out.state.asked)
        turns = jnp.where(over[:, None], state.turns, out.state.turns)
        return (
            State(state.intent, turns, asked),
            over | out.terminated,
            total + jnp.where(over, 0.0, out.reward),
        ), None

    state, _ = jax.jit(jax.vmap(env.reset))(draws.keys(words(1, episodes)))
    begun = (state, jnp.zeros(episodes, bool), jnp.zeros(episodes))
    (state, over, total), _ = jax.jit(lambda begun, at: jax.lax.scan(one, begun, at))(begun, words(2, env.max_steps))
    assert over.all()
    total, asked = np.asarray(total, np.float64), np.asarray(state.asked)
    assert abs(total.mean() - worth.value) < 4 * worth.deviation / np.sqrt(episodes) + 1e-9
    assert total.std() == pytest.approx(worth.deviation, rel=0.03)
    assert abs(asked.mean() - worth.questions) < 4 * asked.std() / np.sqrt(episodes) + 1e-9
    ends = total + asked
    for gain, share in ((10, worth.solved), (-5, worth.handed_over)):
        assert abs((ends == gain).mean() - share) < 4 * np.sqrt(share * (1 - share) / episodes) + 1e-9


@pytest.mark.slow
def test_openings_and_answers_come_with_their_chances(env):
    state, _ = jax.jit(jax.vmap(env.reset))(draws.keys(words(3, 48_000)))
    intent, opening = np.asarray(state.intent), np.asarray(state.turns[:, 0])
    counts = np.zeros((8, FIRST_TURN))
    np.add.at(counts, (intent, opening), 1)
    expected = 48_000 / 8 / PHRASINGS * np.repeat(opening_chances(), PHRASINGS, axis=1)
    assert not counts[expected == 0].any()
    some = expected > 0
    assert ((counts - expected)[some] ** 2 / expected[some]).sum() < some.sum() + 4 * np.sqrt(2 * some.sum())
    step = jax.jit(jax.vmap(env.step, (None, None, 0)))
    begun = jax.tree.map(lambda x: x[0], state)
    for one, question in ((0, 0), (4, 1), (6, 4)):
        out = step(begun._replace(intent=jnp.int32(one)), jnp.int32(question), draws.keys(words(4, 10_000)))
        said = np.asarray(out.state.turns[:, 1]) - FIRST_TURN - 2 * PHRASINGS * question
        yes = SAYS_YES[one][question]
        expected = np.repeat([1 - yes, yes], PHRASINGS) / PHRASINGS
        share = np.bincount(said, minlength=2 * PHRASINGS) / 10_000
        assert (np.abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / 10_000)).all()
        assert (np.asarray(out.reward) == -1).all() and not np.asarray(out.terminated).any()


def test_ends_and_their_rewards(env):
    key, step = jax.random.key(0), jax.jit(env.step)
    fresh = jax.jit(env.reset)(key)[0]._replace(intent=jnp.int32(2))
    assert int(jax.jit(env.expert)(fresh)) == env.desk.optimal[int(fresh.turns[0]) // PHRASINGS, 0]
    late = fresh._replace(asked=jnp.int32(8))
    assert env.actions.count == 14 and env.max_steps == 9
    for state, action, reward in ((fresh, 7, 10), (fresh, 5, -20), (fresh, 12, -20), (fresh, 13, -5), (late, 4, -20)):
        out = step(state, jnp.int32(action), key)
        assert (float(out.reward), bool(out.terminated), bool(out.truncated)) == (reward, True, False)


# --- the text --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_observation_is_the_tokenised_dialogue(minilm):
    from jaxft.data.encode import load_tokenizer

    tokenizer = load_tokenizer(minilm)
    env = envs.make("service", model=str(minilm), questions=3)
    assert isinstance(env, Service)
    state, seen = jax.jit(env.reset)(jax.random.key(1))
    step = jax.jit(env.step)
    for asked, question in enumerate([None, 3, 0, 3]):
        if question is not None:
            state, seen, *_ = step(state, jnp.int32(question), jax.random.key(asked))
        expected = tokenizer(" ".join(env.transcript(state)))["input_ids"]
        real = np.asarray(seen["segments"]) == 1
        assert len(real) == env.length and real.sum() == len(expected) and real[: len(expected)].all()
        assert np.asarray(seen["tokens"])[real].tolist() == expected
        assert not np.asarray(seen["tokens"])[~real].any()
        features = np.asarray(env.features(state))
        assert features[:12].sum() == 1 and features[12:-1].sum() == asked
        assert features[-1] == pytest.approx(asked / 3)
        for number, text in enumerate(QUESTIONS):
            said = [turn for turn in env.transcript(state) if turn.startswith(text)]
            yes = sum("yes" in turn or "think so" in turn for turn in said)
            assert features[12 + number] == yes and features[17 + number] == len(said) - yes
    types = [
        jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), x)
        for x in (env.reset(jax.random.key(1)), (state, seen))
    ]
    assert types[0] == types[1]


def test_every_turn_fits_and_bad_settings_are_refused(minilm):
    env = envs.make("service", model=str(minilm), questions=1)
    assert isinstance(env, Service) and env.utterances is not None
    assert env.length == 2 + 2 * int(env.utterances.sizes.max()) <= 512
    assert len(OPENINGS) == 12
    for settings in ({"observation": "pixels"}, {"questions": 0}, {"questions": 9}):
        with pytest.raises(UserError):
            envs.make("service", **settings)
