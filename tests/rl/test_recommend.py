"""Recommending: clicks by their probabilities, taste by its walk, slates by the cascade model, items by real texts."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft import draws
from jaxft.errors import UserError
from jaxft.rl import bandits, envs
from jaxft.rl.envs.label_bandit import recipe_for
from jaxft.rl.envs.recommend import SLATE, Recommend, RecommendSlate, of_items
from jaxft.rl.item_features import embed, principal, some_texts


def words(seed: int, count: int) -> jax.Array:
    return draws.fold_in(jax.random.key_data(jax.random.key(seed)), jnp.arange(count))


def made(name: str = "recommend", **settings: Any) -> Recommend:
    """On random items; no model."""
    items = principal(np.random.default_rng(0).normal(size=(30, 40)), 8)
    return of_items(name, items, **settings)


@pytest.fixture(scope="module")
def env() -> Recommend:
    return made()


@pytest.fixture(scope="module")
def slates() -> RecommendSlate:
    env = made("recommend_slate", choices=6)
    assert isinstance(env, RecommendSlate)
    return env


# --- one item --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_visit_offers_different_items_and_shows_them_with_profile_and_clicks(env):
    state, seen = jax.jit(jax.vmap(env.reset))(draws.keys(words(0, 2000)))
    offered = np.asarray(state.offered)
    assert all(len(set(row)) == 10 for row in offered)
    counts = np.bincount(offered.ravel(), minlength=30)
    assert (np.abs(counts - 2000 / 3) < 4.5 * np.sqrt(2000 * 2 / 9)).all()
    items = np.asarray(env.items)[offered].reshape(2000, -1)
    assert np.allclose(seen, np.concatenate([state.profile, np.zeros((2000, 8)), items], axis=1))
    both = np.corrcoef(np.asarray(state.taste).ravel(), np.asarray(state.profile).ravel())[0, 1]
    assert both == pytest.approx(np.sqrt(0.5), abs=0.03)
    assert np.std(state.taste) == pytest.approx(1, abs=0.03) and np.std(state.profile) == pytest.approx(1, abs=0.03)


@pytest.mark.slow
def test_clicks_come_with_the_expected_reward(env):
    state, _ = jax.jit(env.reset)(jax.random.key(1))
    expected = np.asarray(env.expected_reward(state))
    items, taste = np.asarray(env.items)[np.asarray(state.offered)], np.asarray(state.taste)
    assert np.allclose(expected, 1 / (1 + np.exp(2 - 2 * items @ taste)), atol=1e-6)
    assert int(env.expert(state)) == expected.argmax()
    step = jax.jit(jax.vmap(env.step, (None, None, 0)))
    for action in range(0, 10, 3):
        out = step(state, jnp.int32(action), draws.keys(words(2, 10_000)))
        p = expected[action]
        assert abs(np.mean(out.reward) - p) < 4 * np.sqrt(p * (1 - p) / 10_000)
        told = (np.asarray(out.reward) - 1 / (1 + np.exp(2)))[:, None] * items[action]
        assert np.allclose(out.state.clicks, told, atol=1e-5)


@pytest.mark.slow
def test_taste_drifts_at_its_rate_keeps_its_size_and_the_episode_is_cut_off():
    env = made(drift=0.02, max_steps=50)

    @jax.jit
    def run(words):
        def one(state, step):
            keys = draws.keys(draws.fold_in(words, step + 1))
            out = jax.vmap(env.step)(state, jnp.zeros(2000, jnp.int32), keys)
            return out.state, (out.terminated, out.truncated)

        state, _ = jax.vmap(env.reset)(draws.keys(words))
        return state, *jax.lax.scan(one, state, jnp.arange(50))

    before, after, (terminated, truncated) = run(words(3, 2000))
    taste = np.stack([before.taste, after.taste]).reshape(2, -1)
    assert np.corrcoef(taste)[0, 1] == pytest.approx(0.98**25, abs=0.04)
    assert np.std(taste[1]) == pytest.approx(1, abs=0.03)
    assert (np.asarray(before.profile) == np.asarray(after.profile)).all()
    assert not terminated.any() and not truncated[:-1].any() and truncated[-1].all()


@pytest.mark.slow
def test_linear_policies_regret_less_than_counting_ones_and_those_less_than_chance(env):
    def lost(policy: bandits.Policy) -> float:
        run = jax.jit(jax.vmap(lambda words: bandits.play(env, policy, words, 300)[1].regret))
        return float(np.asarray(run(words(4, 8))).sum(1).mean())

    chance = lost(bandits.counting(bandits.anything, 30))
    counting = lost(bandits.counting(bandits.thompson_beta, 30))
    linear = lost(bandits.linear(partial(bandits.lin_thompson, deviation=0.3), env.features))
    assert linear < 0.75 * counting < 0.75 * chance


# --- slates ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_slate_is_worth_what_the_cascade_says(slates):
    state, _ = jax.jit(slates.reset)(jax.random.key(5))
    interest = np.asarray(slates.interest(state), np.float64)
    expected = np.asarray(slates.expected_reward(state))
    assert len(expected) == slates.actions.count == 6 * 5 * 4  # pyright: ignore[reportAttributeAccessIssue]
    for action, order in enumerate(slates.orders):
        a, b, c = interest[order]
        assert expected[action] == pytest.approx(a + (1 - a) * 0.7 * (b + (1 - b) * 0.7 * c), abs=1e-5)
    assert slates.orders[expected.argmax()].tolist() == np.argsort(-interest)[:SLATE].tolist()
    step = jax.jit(jax.vmap(slates.step, (None, None, 0)))
    for action in (0, 57, 119):
        reward = np.asarray(step(state, jnp.int32(action), draws.keys(words(6, 10_000))).reward)
        p = expected[action]
        assert abs(reward.mean() - p) < 4 * np.sqrt(p * (1 - p) / 10_000)


def test_only_what_was_looked_at_tells_of_the_taste(slates):
    numbers = jnp.asarray(np.random.default_rng(2).random((5000, 2 * SLATE)), jnp.float32)
    looked, clicked = jax.jit(jax.vmap(slates._visit, (0, None)))(numbers, jnp.asarray([0.3, 0.5, 0.2]))
    looked, clicked = np.asarray(looked), np.asarray(clicked)
    assert looked[:, 0].all() and (clicked <= looked).all() and (clicked.sum(1) <= 1).all()
    assert not (looked[:, 1] & clicked[:, 0]).any() and not (looked[:, 2] & ~looked[:, 1]).any()
    for place, rate in enumerate((1.0, 0.7 * 0.7, 0.7 * 0.7 * 0.7 * 0.5)):
        assert abs(looked[:, place].mean() - rate) <= 4 * np.sqrt(rate * (1 - rate) / 5000)


def test_scores_choose_the_slate_in_their_order_and_feedback_tells_of_it(slates):
    scores = jnp.asarray([0.1, 0.9, 0.3, 0.2, 0.8, 0.0])
    action = slates.choose(scores)
    assert slates.orders[int(action)].tolist() == [1, 4, 2]
    state, _ = jax.jit(slates.reset)(jax.random.key(8))
    out = jax.jit(jax.vmap(slates.step, (None, None, 0)))(state, action, draws.keys(words(9, 10_000)))
    told = jax.jit(jax.vmap(slates.feedback, (None, None, 0)))(state, action, out)
    assert (np.asarray(told.arms) == np.asarray(state.offered)[[1, 4, 2]]).all()
    assert (np.asarray(told.contexts) == np.asarray(slates.offer(state).contexts)[[1, 4, 2]]).all()
    assert (np.asarray(told.rewards).sum(1) == np.asarray(out.reward)).all()
    assert (np.asarray(told.weights)[:, 0] == 1).all() and (told.rewards <= told.weights).all()
    assert 0 < np.mean(out.reward) < 1


# --- items -----------------------------------------------------------------------------------------------------------


def test_principal_components_keep_distances():
    vectors = np.random.default_rng(1).normal(size=(12, 5)) @ np.diag([5, 4, 3, 2, 1])
    whole = principal(vectors, 5)
    assert (whole**2).sum(1).mean() == pytest.approx(1, abs=1e-5)
    distances = [np.linalg.norm(x[:, None] - x[None], axis=-1) for x in (vectors, whole)]
    ratio = distances[0][np.triu_indices(12, 1)] / distances[1][np.triu_indices(12, 1)]
    assert np.allclose(ratio, ratio[0], rtol=1e-4)
    assert (np.diff(whole.var(0)) < 0).all()
    assert (principal(-vectors, 5).max(0) >= -principal(-vectors, 5).min(0)).all()


@pytest.mark.slow
def test_items_are_embedded_once(minilm, monkeypatch, tmp_path):
    """Mean-pooled hidden states, as `transformers` pads and masks; from the cache the second time."""
    texts = ["What is an atom ?", "Who invented the telephone , and in which year was that ?", "Who built it ?"]
    monkeypatch.setattr("jaxft.assets.cache_folder", lambda: tmp_path)
    found = embed(texts, str(minilm))
    alone = embed(texts[:1], str(minilm))
    assert found.shape == (3, 384) and np.allclose(found[:1], alone, atol=1e-4)
    monkeypatch.setattr("jaxft.rl.item_features._embed", None)
    assert (embed(texts, str(minilm)) == found).all()
    assert len(list((tmp_path / "embeddings").iterdir())) == 2
    cosine = found @ found.T / np.linalg.norm(found, axis=1) / np.linalg.norm(found, axis=1)[:, None]
    assert cosine[1, 2] > cosine[0, 2]


def test_real_texts_make_an_environment(minilm, trec):
    texts = some_texts(recipe_for("trec"), 50, 0)
    assert len(set(texts)) == 50 and texts != some_texts(recipe_for("trec"), 50, 1)
    env = envs.make("recommend", model=str(minilm))
    assert isinstance(env, Recommend) and env.items.shape == (50, 16)
    seen = jax.eval_shape(env.reset, jax.random.key(0))[1]
    assert seen.shape == (192,) and env.max_steps == 1000


def test_bad_settings_are_refused():
    wrong: tuple[dict[str, Any], ...]
    wrong = {"choices": 2}, {"choices": 31}, {"drift": 1.0}, {"max_steps": 0}, {"patience": 1.0}
    for settings in wrong:
        with pytest.raises(UserError):
            made(**settings)
    with pytest.raises(UserError):
        principal(np.ones((3, 4)), 4)
