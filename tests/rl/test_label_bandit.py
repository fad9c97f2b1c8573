"""A data set as a bandit: the same splits, labels and tokens as a supervised run, and rewards that tell right from
wrong."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft import draws, recipe, recipes
from jaxft.errors import UserError
from jaxft.rl import envs
from jaxft.rl.envs.label_bandit import LabelBandit, recipe_for


def words(seed: int, count: int) -> jax.Array:
    return draws.fold_in(jax.random.key_data(jax.random.key(seed)), jnp.arange(count))


@pytest.fixture(scope="module")
def few(trec, tmp_path_factory):
    """Some questions in a file, and a recipe that holds out parts of them."""
    lines = trec.read_text("utf-8").splitlines(keepends=True)[:401]
    path = tmp_path_factory.mktemp("data") / "some.csv"
    path.write_text("".join(lines), "utf-8")
    return path


@pytest.fixture(scope="module")
def bandits(few, tiny_model) -> tuple[str, dict[str, LabelBandit]]:
    model = str(tiny_model())
    made = {}
    for split in ("train", "dev", "test"):
        made[split] = envs.make("label_bandit", data=str(few), model=model, max_tokens=24, split=split)
    return model, made


def test_splits_labels_and_tokens_are_those_of_a_supervised_run(bandits, few):
    from jaxft.train.setup import set_up

    model, made = bandits
    setup = set_up(recipe_for(str(few), model, 24))
    assert set(setup.datasets) == set(made) and sum(env.num_examples for env in made.values()) == 400
    assert len({env.tokens.shape[1] for env in made.values()}) == 1
    for split, env in made.items():
        assert env.split == split
        data = setup.datasets[split]
        assert env.labels == setup.labels
        assert env.targets.tolist() == data.targets.tolist()
        for number in range(env.num_examples):
            begin, end = data.encoded.offsets[number : number + 2]
            row = np.asarray(env.tokens[number]) if number < 3 else None
            assert int(env.sizes[number]) == end - begin
            if row is not None:
                assert row[: end - begin].tolist() == data.encoded.tokens[begin:end].tolist()
                assert not row[end - begin :].any()


def test_a_reset_shows_an_example_and_a_step_ends_the_episode(bandits):
    env = bandits[1]["train"]
    state, seen = jax.jit(jax.vmap(env.reset))(draws.keys(words(0, 4000)))
    index = np.asarray(state.index)
    counts = np.bincount(index, minlength=env.num_examples)
    expected = 4000 / env.num_examples
    assert ((counts - expected) ** 2 / expected).sum() < env.num_examples + 4 * np.sqrt(2 * env.num_examples)
    assert (np.asarray(seen["index"]) == index).all()
    assert (np.asarray(seen["tokens"]) == np.asarray(env.tokens)[index]).all()
    real = np.asarray(seen["segments"]).sum(1)
    assert (real == np.asarray(env.sizes)[index]).all()
    assert (np.asarray(seen["positions"]).max(1) == real - 1).all()
    assert seen["firsts"].shape == (4000, 1)
    step = jax.jit(jax.vmap(env.step))
    right = jax.vmap(env.expert)(state)
    for wrong in (0, 1):
        out = step(state, (right + wrong) % len(env.labels), draws.keys(words(1, 4000)))
        assert (np.asarray(out.reward) == 1 - wrong).all()
        assert np.asarray(out.terminated).all() and not np.asarray(out.truncated).any()
    types = [jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), one) for one in ((state, seen), out[:2])]
    assert types[0] == types[1]


@pytest.mark.slow
def test_rewards_are_turned_round_at_the_rate_of_their_noise(bandits):
    env = dataclasses.replace(bandits[1]["dev"], reward_noise=0.2)
    state, _ = jax.jit(jax.vmap(env.reset))(draws.keys(words(2, 20_000)))
    step = jax.jit(jax.vmap(env.step))
    expected = np.asarray(jax.vmap(env.expected_reward)(state))
    for wrong, mean in ((0, 0.8), (1, 0.2)):
        action = (env.targets[state.index] + wrong) % len(env.labels)
        reward = np.asarray(step(state, action, draws.keys(words(3, 20_000))).reward)
        assert set(reward) == {0.0, 1.0}
        assert abs(reward.mean() - mean) < 4 * np.sqrt(0.16 / 20_000)
        assert np.allclose(expected[np.arange(20_000), np.asarray(action)], mean)


def test_a_shipped_recipe_gives_its_own_splits():
    assert recipe_for("trec") == recipe.load(recipes.find("trec"))
    changed = recipe_for("trec", "some/folder", 32)
    assert (changed.model, changed.data.max_tokens, changed.data.dev, changed.data.test) == (
        "some/folder",
        32,
        0.1,
        0.2,
    )
    own = recipe_for("newsgroups").data
    assert (own.dev, own.test) == (0.1, None)


def test_the_whole_of_trec(minilm):
    env = envs.make("label_bandit", data="trec", model=str(minilm))
    assert isinstance(env, LabelBandit)
    assert len(env.labels) == env.actions.count == 6 and env.max_steps == 1 and env.threshold is None
    assert 0.69 * 5452 < env.num_examples < 0.71 * 5452
    assert env.tokens.shape[1] <= 64


def test_bad_settings_are_refused(few, bandits):
    model = bandits[0]
    for settings in ({"split": "night"}, {"reward_noise": 0.5}, {"data": "conll2003"}, {"max_tokens": 2}):
        with pytest.raises(UserError):
            envs.make("label_bandit", **({"data": str(few), "model": model} | settings))
