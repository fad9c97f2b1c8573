"""Twenty questions: its game theory against brute force and against itself, and its text against the tokenizer."""

from __future__ import annotations

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft import draws
from jaxft.errors import UserError
from jaxft.rl import envs
from jaxft.rl.dialogue_play import GUESS, Game
from jaxft.rl.envs.dialogue import QUESTIONS, State, TwentyQuestions, note_texts, turn_texts

GAME = Game()


def play(env: TwentyQuestions, act, episodes: int, seed: int = 0):
    """(returns, questions, right) [episodes] of a policy on features."""

    def one(carry, at):
        state, over, total = carry
        action = act(jax.vmap(env.features)(state))
        keys = draws.keys(draws.fold_in(draws.fold_in(words, at), jnp.arange(episodes)))
        out = jax.vmap(env.step)(state, action, keys)
        kept = jax.tree.map(
            lambda new, old: jnp.where(over.reshape(over.shape + (1,) * (new.ndim - 1)), old, new), out.state, state
        )
        return (kept, over | out.terminated, total + jnp.where(over, 0.0, out.reward)), out.truncated

    words = jax.random.key_data(jax.random.key(seed))
    state, _ = jax.vmap(env.reset)(draws.keys(draws.fold_in(words, jnp.arange(episodes))))
    begun = (state, jnp.zeros(episodes, bool), jnp.zeros(episodes))
    steps = jnp.arange(1000, 1000 + env.max_steps)
    (state, over, total), truncated = jax.jit(lambda begun: jax.lax.scan(one, begun, steps))(begun)
    assert over.all() and not truncated.any()
    return np.asarray(total, np.float64), np.asarray(state.asked), np.asarray(total) > -0.5 * env.max_steps


@pytest.fixture(scope="module")
def env() -> TwentyQuestions:
    made = envs.make("twenty_questions", observation="features")
    assert isinstance(made, TwentyQuestions)
    return made


# --- the dynamic programme -------------------------------------------------------------------------------------------


def expectimax(game: Game) -> float:
    """The value of optimal play, by going through all dialogues; the posterior over entities by Bayes' rule alone."""
    entities = np.arange(2**game.attributes)

    @cache
    def value(dialogue: tuple[tuple[int, int], ...]) -> float:
        likelihood = np.ones(len(entities))
        for attribute, answer in dialogue:
            likelihood *= np.where((entities >> attribute) & 1 == answer, 1 - game.noise, game.noise)
        posterior = likelihood / likelihood.sum()
        best = posterior.max() * game.right - (1 - posterior.max()) * game.wrong
        if len(dialogue) < game.questions:
            for attribute in range(game.attributes):
                is_there = (entities >> attribute) & 1 == 1
                yes = posterior @ np.where(is_there, 1 - game.noise, game.noise)
                follow = [value((*dialogue, (attribute, answer))) for answer in (0, 1)]
                best = max(best, yes * follow[1] + (1 - yes) * follow[0] - game.cost)
        return float(best)

    return value(())


@pytest.mark.parametrize("noise", [0.05, 0.1, 0.3])
@pytest.mark.parametrize("stake", [2.0, 8.0, 20.0])
@pytest.mark.parametrize("questions", [1, 3, 5])
def test_the_programme_finds_what_going_through_all_dialogues_finds(questions, stake, noise):
    game = Game(2, questions, noise, stake, stake)
    assert game.best.value == pytest.approx(expectimax(game), abs=1e-9)


def test_three_attributes_too():
    game = Game(3, 4, 0.1, 20.0, 10.0, 0.5)
    assert game.best.value == pytest.approx(expectimax(game), abs=1e-9)


def test_optimal_play_is_worth_what_was_published():
    assert GAME.best.value == pytest.approx(2.3830986079512706, abs=1e-9)
    assert GAME.best.questions == pytest.approx(14.516959301874715, abs=1e-9)
    assert GAME.best.success == pytest.approx(0.9225014477456497, abs=1e-9)
    assert GAME.best.lengths.sum() == pytest.approx(1.0)


def test_no_heuristic_is_worth_more(env):
    rivals = [GAME.worth(GAME.until_sure(level)).value for level in np.linspace(0, 1, 101)]
    rivals += [GAME.worth(GAME.fixed_length(count)).value for count in range(21)]
    rivals += [GAME.in_rounds(count) for count in range(1, 4)]
    assert max(rivals) <= GAME.best.value
    assert max(rivals) > GAME.best.value - 0.1  # certainty alone is nearly enough
    assert max(rivals[101:]) < (env.threshold or 0.0) < GAME.best.value


def test_changing_the_optimal_policy_anywhere_that_matters_makes_it_worse(env):
    """A guess put off by one question, or brought forward, at each number of questions."""
    for asked in range(6, 20):
        late, early = GAME.optimal.copy(), GAME.optimal.copy()
        late[asked] = np.where(late[asked] == GUESS, 0, late[asked])
        early[asked] = GUESS
        for changed in (late, early):
            assert GAME.worth(changed).value <= GAME.best.value + 1e-12
        assert GAME.worth(early).value < GAME.best.value


def test_rounds_follow_from_the_binomial():
    assert GAME.in_rounds(1) == pytest.approx(GAME.worth(GAME.fixed_length(6)).value)
    three = 0.9**3 + 3 * 0.9**2 * 0.1
    assert GAME.in_rounds(3) == pytest.approx(40 * three**6 - 20 - 18)


def test_a_dialogue_that_is_sure_of_itself_is_never_worth_less_with_less_noise():
    values = [Game(noise=noise).best.value for noise in (0.01, 0.05, 0.1, 0.2, 0.3)]
    assert values == sorted(values, reverse=True)


# --- the environment -------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["optimal", "until_sure", "fixed_length"])
def test_the_expert_earns_what_was_computed(env, policy):
    choices = {"optimal": GAME.optimal, "until_sure": GAME.until_sure(0.7), "fixed_length": GAME.fixed_length(9)}
    worth = GAME.worth(choices[policy])
    episodes = 40_000
    returns, asked, _ = play(env, GAME.expert(choices[policy]), episodes)
    assert abs(returns.mean() - worth.value) < 4 * worth.deviation / np.sqrt(episodes)
    assert returns.std() == pytest.approx(worth.deviation, rel=0.03)
    spread = np.sqrt(worth.lengths @ (np.arange(21) - worth.questions) ** 2)
    assert abs(asked.mean() - worth.questions) < 4 * spread / np.sqrt(episodes) + 1e-9
    won = (returns + asked == 20).mean()
    assert abs(won - worth.success) < 4 * np.sqrt(worth.success * (1 - worth.success) / episodes)


def test_answers_err_at_the_rate_of_the_noise(env):
    state = State(jnp.int32(0b101011), jnp.full(20, -1, jnp.int32), jnp.int32(0))
    keys = draws.keys(draws.fold_in(jax.random.key_data(jax.random.key(3)), jnp.arange(20_000)))
    step = jax.jit(jax.vmap(env.step, (None, None, 0)))
    for attribute, truth in enumerate([1, 1, 0, 1, 0, 1]):
        after = step(state, jnp.int32(attribute), keys)
        answers = np.asarray(after.state.turns[:, 0]) - 2 * attribute
        assert set(answers) == {0, 1}
        assert abs((answers != truth).mean() - 0.1) < 4 * np.sqrt(0.09 / 20_000)
        assert (np.asarray(after.reward) == -1).all() and not np.asarray(after.terminated).any()


def test_entities_are_alike(env):
    keys = draws.keys(draws.fold_in(jax.random.key_data(jax.random.key(4)), jnp.arange(64_000)))
    counts = np.bincount(np.asarray(jax.jit(jax.vmap(env.reset))(keys)[0].entity), minlength=64)
    assert ((counts - 1000) ** 2 / 1000).sum() < 63 + 4 * np.sqrt(2 * 63)


def test_a_guess_ends_the_episode_and_a_question_too_many_is_a_wrong_one(env):
    key = jax.random.key(0)
    asked = State(jnp.int32(9), jnp.zeros(20, jnp.int32), jnp.int32(20))
    step = jax.jit(env.step)
    fresh, _ = jax.jit(env.reset)(key)
    fresh = fresh._replace(entity=jnp.int32(9))
    assert env.actions.count == 70 and env.max_steps == 21
    for state, action, reward in ((fresh, 15, 20), (fresh, 16, -20), (asked, 15, 20), (asked, 0, -20), (asked, 5, -20)):
        out = step(state, jnp.int32(action), key)
        assert (float(out.reward), bool(out.terminated), bool(out.truncated)) == (reward, True, False)
        assert int(out.state.asked) == int(state.asked)


def test_the_expert_asks_for_the_least_certain_and_guesses_what_it_saw():
    act = jax.jit(GAME.expert())
    features = jnp.asarray(
        [[2, -2, 1, 0, -2, 2, 0.35], [2, -2, 2, 2, -2, 2, 0.6], [5, -3, 0, 0, 0, 9, 1.0]], jnp.float32
    )
    assert act(features).tolist() == [3, 6 + 0b101101, 6 + 0b100001]
    assert int(act(features[0])) == 3
    fresh = envs.make("twenty_questions", observation="features")
    assert isinstance(fresh, TwentyQuestions)
    assert int(jax.jit(lambda key: fresh.expert(fresh.reset(key)[0]))(jax.random.key(0))) == 0


# --- the text --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def text_env(minilm) -> TwentyQuestions:
    made = envs.make("twenty_questions", model=str(minilm), questions=8)
    assert isinstance(made, TwentyQuestions)
    return made


def test_the_observation_is_the_tokenised_dialogue(text_env, minilm):
    from jaxft.data.encode import load_tokenizer

    tokenizer = load_tokenizer(minilm)
    state, seen = jax.jit(text_env.reset)(jax.random.key(1))
    step = jax.jit(text_env.step)
    for number, attribute in enumerate([None, 3, 0, 5, 3, 1, 2, 4, 4]):
        if attribute is not None:
            state, seen, *_ = step(state, jnp.int32(attribute), jax.random.key(number))
        text = " ".join(text_env.transcript(state))
        expected = tokenizer(text)["input_ids"]
        real = np.asarray(seen["segments"]) == 1
        assert real.sum() == len(expected) and real[: len(expected)].all()
        assert np.asarray(seen["tokens"])[real].tolist() == expected
        assert np.asarray(seen["positions"])[real].tolist() == list(range(len(expected)))
        for name in ("tokens", "types", "positions"):
            assert not np.asarray(seen[name])[~real].any()
        assert text.count("?") == number
    assert len(expected) == text_env.length == text_env.utterances.longest(8)
    assert seen["firsts"].tolist() == [0]


def test_a_note_tells_the_counts_and_how_many_were_asked(minilm):
    from jaxft.data.encode import load_tokenizer

    tokenizer = load_tokenizer(minilm)
    env = envs.make("twenty_questions", model=str(minilm), questions=8, observation="brief")
    assert isinstance(env, TwentyQuestions)
    turns = jnp.array([3, 3, 0, 9, 9, 8, 4, -1], jnp.int32)  # big yes yes, alive no, loud yes yes no, old no
    text = "alive no 1 big yes 2 old no 1 soft open loud yes 1 fast open asked 7"
    seen = jax.jit(env.observe)(State(jnp.int32(0), turns, jnp.int32(7)))
    real = np.asarray(seen["segments"]) == 1
    assert np.asarray(seen["tokens"])[real].tolist() == tokenizer(text)["input_ids"]
    assert env.length == 2 + 3 * 7 and env.features(State(jnp.int32(0), turns, jnp.int32(7))).tolist()[:-1] == [
        -1, 2, -1, 0, 1, 0
    ]  # fmt: skip
    assert len(set(note_texts(8))) == 6 * 17 + 9


def begin_and_ask(env: TwentyQuestions, key, action):
    return env.step(env.reset(key)[0], action, key)


def test_text_and_features_are_of_one_dialogue(text_env):
    other = envs.make("twenty_questions", observation="features", questions=8)
    for key, action in ((jax.random.key(5), 2), (jax.random.key(6), 4)):
        first, second = (
            jax.jit(begin_and_ask, static_argnums=0)(one, key, jnp.int32(action)) for one in (text_env, other)
        )
        assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), first.state, second.state))
        assert (text_env.features(first.state) == second.observation).all()
        assert second.observation[action] == (1 if "yes" in text_env.transcript(first.state)[0] else -1)
        assert second.observation[-1] == 0.125


@pytest.mark.slow
def test_a_scan_keeps_types_and_traces_once(text_env):
    traces = 0

    def run(state, keys):
        nonlocal traces
        traces += 1

        def one(state, key):
            out = jax.vmap(text_env.step, (0, None, 0))(state, jnp.int32(1), draws.keys(key))
            return out.state, out.observation

        return jax.lax.scan(one, state, keys)

    run = jax.jit(run)
    for seed in (0, 1):
        words = draws.fold_in(jax.random.key_data(jax.random.key(seed)), jnp.arange(12))
        state, seen = jax.jit(jax.vmap(text_env.reset))(draws.keys(words[:4]))
        after, told = run(state, words.reshape(3, 4, 2))
        for one, other in ((state, after), (seen, jax.tree.map(lambda x: x[0], told))):
            same = jax.tree.map(
                lambda a, b: (a.shape, a.dtype, a.weak_type) == (b.shape, b.dtype, b.weak_type), one, other
            )
            assert jax.tree.all(same)
    assert traces == 1


def test_texts_name_all_attributes_and_bad_settings_are_refused():
    assert len(turn_texts()) == 2 * len(QUESTIONS) == 12 == len(set(turn_texts()))
    assert hash(envs.make("twenty_questions", observation="features"))
    for settings in ({"observation": "pixels"}, {"questions": 0}, {"noise": 0.5}):
        with pytest.raises(UserError):
            envs.make("twenty_questions", **settings)
