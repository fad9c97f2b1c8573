"""Recipes of reinforcement learning: what is wrong with one is told before anything is compiled or written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jaxft import draws, recipe, recipes
from jaxft.errors import UserError
from jaxft.rl import crowd, envs
from jaxft.rl import run as runs
from jaxft.rl.recipe import RlRecipe
from jaxft.rl.setup import EVALUATION, TRAINING, observation_of, set_up
from jaxft.train.partition import Flat
from tests.rl.worlds import recipe_of

pytestmark = pytest.mark.usefixtures("walk")


def tree(keys: dict[str, Any]) -> dict[str, Any]:
    """A small recipe as nested dicts, with these dotted keys."""
    usual = recipe.to_tree(recipe_of())
    for key, value in keys.items():
        *path, last = key.split(".")
        place = usual
        for part in path:
            place = place[part]
        place[last] = value
    return usual


@pytest.fixture
def refused(tmp_path, monkeypatch):
    """Runs a recipe that must be refused; gives its problems as text."""

    def never(*_: Any) -> None:
        raise AssertionError("something was compiled")

    monkeypatch.setattr(crowd, "of", never)

    def go(keys: dict[str, Any]) -> str:
        with pytest.raises(UserError) as caught:
            runs.run(recipe.from_tree(tree(keys) | {"out": str(tmp_path / "run")}, "x.yaml", RlRecipe), quiet=True)
        assert not (tmp_path / "run").exists()
        return str(caught.value)

    return go


@pytest.mark.slow
def test_these_are_the_shipped_recipes_and_each_can_be_set_up(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where no run lies
    assert recipes.names(recipes.RL) == [
        "acrobot", "cartpole", "cartpole_ppo", "connect_four", "gridworld", "pendulum", "tic_tac_toe",
        "twenty_questions_clone", "twenty_questions_encoder",
    ]  # fmt: skip
    for name in recipes.names(recipes.RL):
        path = recipes.find(name, recipes.RL)
        chosen = recipe.load(path, RlRecipe)
        assert recipe.from_tree(recipe.to_tree(chosen), "again", RlRecipe) == chosen
        assert chosen.out == f"runs/{name}" and f"# command:  jaxft rl {name}\n" in path.read_text()
        if chosen.rl.begin_with:  # another recipe's run, which has to be there
            assert Path(chosen.rl.begin_with).name in recipes.names(recipes.RL)
            with pytest.raises(UserError, match=f"{chosen.rl.begin_with}: holds no agent"):
                set_up(chosen)
        elif chosen.rl.agent != "alphazero":
            assert set_up(chosen).rounds >= 2


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"rl.env": "wlak"}, "rl.env: there is no environment 'wlak' — did you mean `walk`?"),
        ({"rl.env": "nothing_like_it"}, "`jaxft rl --list` names them all"),
        ({"rl.agents": "dqn"}, "x.yaml: rl.agents: unknown key — did you mean `agent`?"),
        ({"rl.explore.polcy": "greedy"}, "x.yaml: rl.explore.polcy: unknown key — did you mean `policy`?"),
        ({"rl.agent": "sarsa"}, "x.yaml: rl.agent: expected q_learning | dqn"),
        ({"rl.steps": "many"}, "x.yaml: rl.steps: expected an integer, came 'many'"),
        ({"rl.env": "pendulum"}, "rl.agent: dqn chooses among numbered actions, but those of pendulum are continuous"),
        ({"rl.env": "pendulum", "rl.agent": "clone"}, "rl.agent: clone chooses among numbered actions"),
        ({"rl.agent": "q_learning"}, "rl.agent: a table needs numbered states, and those of walk are not — dqn"),
        ({"rl.agent": "clone"}, "rl.agent: there is no expert for walk to learn from — ppo, or dqn"),
        ({"rl.env": "gridworld", "rl.options": "slip=0.5", "rl.stop": True}, "rl.threshold: gridworld names no"),
        ({"rl.env": "gridworld", "rl.network.kind": "bert"}, "rl.network.kind: gridworld shows numbers — mlp"),
        ({"rl.env": "twenty_questions"}, "rl.network.kind: twenty_questions shows text — bert"),
        ({"rl.agent": "q_learning", "rl.env": "gridworld", "rl.network.kind": "bert"}, "tabular Q-learning has"),
        ({"rl.agent": "q_learning", "rl.env": "gridworld", "train.micro_batches": 2}, "train.micro_batches: a table's"),
        ({"rl.begin_with": "nowhere"}, "nowhere: holds no agent"),
        ({"rl.options": "max_steps"}, "rl.options: 'max_steps' has no value — name=value, separated by commas"),
        ({"rl.options": "max_step=3"}, "rl.options: no such option: 'max_step' — did you mean `max_steps`?"),
        ({"rl.env": "cartpole", "rl.options": "mass=3"}, "rl.options: no such option: 'mass' — it takes none"),
        ({"train.micro_batches": 3}, "train.micro_batches: must be a power of two, for sums in pairs; is 3 — 2 or 4"),
        ({"train.micro_batches": 16, "rl.num_envs": 8}, "rl.num_envs: 8 cannot be shared among 16 groups"),
        ({"train.micro_batches": 4, "train.batch_size": 18}, "train.batch_size: 18 cannot be shared among 4 groups"),
        ({"train.batch_size": 24, "rl.agent": "ppo"}, "train.batch_size: 8 x 4 steps are no whole number of batches"),
        ({"rl.dqn.buffer": 100}, "rl.dqn.buffer: 100 steps are no whole number of iterations of 8 x 4 — 128"),
        ({"rl.steps": 16}, "rl.steps: 16 do not make one iteration of 8 x 4 steps"),
        ({"train.micro_batches": 4, "mesh.data": 3}, "mesh.data: 3 devices cannot share"),
        ({"train.micro_batches": 16, "rl.num_envs": 16, "mesh.data": 16}, "mesh.data: 16 devices are wanted"),
        ({"rl.seeds": 2, "seed": 2**32 - 1}, "rl.seeds: the last of 2 seeds would be 4294967296"),
        ({"rl.discount": 1.5}, "rl.discount: must lie between 0 and 1, is 1.5"),
        ({"rl.ppo.gae_lambda": 1.5}, "rl.ppo.gae_lambda: must lie between 0 and 1, is 1.5"),
        ({"rl.reward_scale": 0.0}, "rl.reward_scale: must be positive, is 0.0"),
        ({"rl.eval_episodes": 1}, "rl.eval_episodes: must be at least 2, is 1"),
        ({"rl.explore.over": 0.0}, "rl.explore.over: is a share of the steps"),
        ({"rl.explore.policy": "epsilon_greedy", "rl.explore.start": 2.0}, "rl.explore: ε must lie between 0 and 1"),
        ({"rl.explore.end": -1.0}, "rl.explore: a level must not be negative"),
        ({"rl.explore.schedule": "exponential", "rl.explore.end": 0.0}, "rl.explore.schedule: an exponential"),
        ({"optim.learning_rate": 0.0}, "optim.learning_rate: must lie between 0 and 10, is 0.0"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_before_anything_is_compiled_or_written(refused, keys, told):
    assert told in refused(keys)


def test_all_problems_are_told_at_once(refused):
    told = refused({"rl.discount": 2.0, "rl.env": "wlak", "rl.dqn.buffer": 100, "optim.eps": 0.0}).splitlines()
    assert [line.partition(":")[0] for line in told] == ["rl.discount", "rl.env", "rl.dqn.buffer", "optim.eps"]


def test_options_reach_the_environment():
    setup = set_up(recipe_of(options="max_steps = 5, breaks=observation"))
    assert (setup.env.max_steps, setup.env.breaks) == (5, "observation")  # type: ignore[attr-defined]
    assert set_up(recipe_of()).env == envs.make("walk")


def test_rounds_and_steps_are_whole_iterations():
    setup = set_up(recipe_of(steps=1000, eval_every=250))  # 31 iterations of 32, 7 a round
    assert (setup.iterations, setup.per_round, setup.rounds) == (31, 7, 5)
    assert [setup.steps(round) for round in range(6)] == [0, 224, 448, 672, 896, 992]
    assert set_up(recipe_of(eval_every=1)).per_round == 1


def test_a_seed_sets_all_streams_that_are_not_set():
    setup = set_up(recipe_of(seeds=3, seed=5, seeds__explore=1))
    assert list(setup.seeds) == [5, 6, 7]
    assert setup.stream_seeds(6)["environment"] == 6 and setup.stream_seeds(6)["explore"] == 1
    assert (setup.words(6).environment == draws.fold_in(_world(6), TRAINING)).all()
    assert (setup.words(6).evaluation == draws.fold_in(_world(6), EVALUATION)).all()
    first, second = (setup.parameters(seed)[0] for seed in (5, 6))
    assert not _equal(first, second) and _equal(first, set_up(recipe_of(seed=5)).parameters(5)[0])


def _world(seed: int) -> Any:
    from jaxft import prng

    return prng.device_words(prng.stream("environment", seed))


def _equal(one: Flat, two: Flat) -> bool:
    return all((one[path] == two[path]).all() for path in one)


def test_what_an_environment_shows_is_known_without_computing_it():
    shown = observation_of(envs.make("walk"))
    assert (shown.shape, str(shown.dtype)) == ((2,), "float32")
