"""Bad recipes of explorations: named errors, all of a stage at once, before anything is compiled or written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxft import recipe, recipes
from jaxft.errors import UserError
from jaxft.evaluate.predict import Predictor
from jaxft.explore import space
from jaxft.explore.recipe import ExploreRecipe, run_recipe
from jaxft.explore.run import run
from jaxft.explore.setup import set_up
from jaxft.strategy import Strategy
from jaxft.train.compiled import Compiled


@pytest.fixture(autouse=True)
def no_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """No step and no forward pass comes as far as to be compiled."""

    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("a program is made")

    for kind in (Compiled, Predictor):
        monkeypatch.setattr(kind, "__init__", refused)


def problems_of(tree: dict[str, Any]) -> list[str]:
    """What is told of a recipe that is run; it writes nothing."""
    with pytest.raises(UserError) as caught:
        run(recipe.from_tree(tree, "r.yaml", ExploreRecipe), quiet=True)
    assert not Path(tree["out"]).exists()
    return [str(problem) for problem in caught.value.problems]


def test_the_shipped_recipes_are_right():
    assert recipes.names(recipes.EXPLORE)
    for name in recipes.names(recipes.EXPLORE):
        chosen = recipe.load(recipes.find(name, recipes.EXPLORE), ExploreRecipe)
        recipe.check(chosen)
        assert recipe.from_tree(recipe.to_tree(chosen), kind=ExploreRecipe) == chosen
        assert run_recipe(chosen).model == chosen.model


def test_strategies_are_the_recipes_own_the_listed_and_the_grids_each_once(recipe_on):
    listed = [{"learning_rate": 3.0}, {}, {"dropout": 0.0}]
    grid = {"learning_rate": [1.0, 3.0], "freeze": ["encoder"]}
    chosen = recipe_on("nowhere", explore={"strategies": listed, "grid": grid})
    frozen = [Strategy(learning_rate=rate, freeze="encoder") for rate in (1.0, 3.0)]
    assert space.places(chosen) == {
        Strategy(): "explore",
        Strategy(learning_rate=3.0): "explore.strategies[0]",
        Strategy(dropout=0.0): "explore.strategies[2]",
        frozen[0]: "explore.grid",
        frozen[1]: "explore.grid",
    }
    assert space.count(chosen.explore) == 3 + 2
    assert list(space.places(chosen)) == list(space.strategies(chosen))
    assert space.of_grid(recipe_on("nowhere").explore.grid) == []


SAMPLE = {
    "count": 40,
    "learning_rate": [0.01, 100.0],
    "weight_decay": [0.0, 0.5],
    "freeze": ["none", "encoder"],
    "batch_size": [4, 8, 16],
}


def test_drawn_strategies_lie_in_their_ranges_and_each_has_an_address(recipe_on):
    chosen = recipe_on("nowhere", explore={"sample": SAMPLE})
    drawn = space.drawn(chosen)
    assert len(set(drawn)) == 40
    assert space.strategies(chosen)[-40:] == tuple(space.reduced(one, chosen) for one in drawn)
    assert space.num_listed(chosen) == len(space.strategies(chosen)) - 40 == 4
    rates = np.log10([one.learning_rate for one in drawn])
    assert (rates >= -2).all() and (rates <= 2).all()
    assert 10 <= (rates < 0).sum() <= 30, "the logarithm is uniform: 10 standard deviations are 32"
    assert all(one.weight_decay is not None and 0 <= one.weight_decay <= 0.5 for one in drawn)
    assert {one.freeze for one in drawn} == {"none", "encoder"} and {one.batch_size for one in drawn} == {4, 8, 16}
    assert {one.dropout for one in drawn} == {None}
    few = recipe_on("nowhere", explore={"sample": {**SAMPLE, "count": 3}})
    assert space.drawn(few) == drawn[:3]
    without = recipe_on("nowhere", explore={"sample": {**SAMPLE, "freeze": []}})
    assert [one.learning_rate for one in space.drawn(without)] == [one.learning_rate for one in drawn]
    assert space.drawn(recipe_on("nowhere", explore={"sample": SAMPLE}, seed=1)) != drawn


def test_what_cannot_be_drawn_is_told(tree_on, tmp_path):
    def told(**sample: Any) -> str:
        return "\n".join(problems_of(tree_on(tmp_path / "out", explore={"sample": sample})))

    wrong = told(count=-1, learning_rate=[0.0, 1.0], weight_decay=[0.2, 0.1], label_noise=[0.1])
    for expected in (
        "explore.sample.count: must be at least 0, is -1",
        "explore.sample.learning_rate: must be positive, is 0.0",
        "explore.sample.weight_decay: a lowest and a highest value, not [0.2, 0.1]",
        "explore.sample.label_noise: a lowest and a highest value, not [0.1]",
    ):
        assert expected in wrong
    assert "explore.sample: there is nothing to draw 5 strategies from" in told(count=5)
    assert "nothing to draw" not in told(count=-3)
    assert "explore.sample.batch_size: must lie between 1 and train.batch_size = 16: 99" in told(batch_size=[99])
    assert "explore.sample.label_noise: is a rate" in told(label_noise=[0.0, 1.5])
    assert "explore.sample.freeze" in told(count=2, freeze=["layers:9"])


# --- what the recipe alone says --------------------------------------------------------------------------------------


def test_everything_that_the_recipe_says_wrongly_is_told_at_once(tree_on, tmp_path):
    tree = tree_on(
        tmp_path / "out",
        data={"search": None},
        train={"freeze": "re:.*"},
        optim={"momentum": 0.9},
        segments=[{"steps": 5}],
        explore={
            "segments": 21,
            "strategies": [{"learning_rate": -1.0}, {"batch_size": 17}],
            "grid": {"dropout": [1.5], "label_noise": [0.1, 0.2]},
            "searcher": "mtcs",
            "rivals": ["beem", "pbt"],
            "budget": 0,
            "confirm_seeds": 0,
            "keep_mb": 0.0,
        },
    )
    told = problems_of(tree)
    for expected in (
        "data.search: nothing to look at while searching",
        "train.freeze: a pattern cannot be combined with strategies",
        "optim.momentum: 0.9 has no meaning with strategies",
        "segments: are what is searched",
        "explore.segments: 21 segments do not fit into 20 steps",
        "explore.strategies[0].learning_rate: a factor from 0 to a million, is -1.0",
        "explore.strategies[1].batch_size: must lie between 1 and train.batch_size = 16: 17",
        "explore.grid.dropout: is a rate from 0 up to but not including 1, is 1.5",
        "explore.searcher: there is no searcher 'mtcs' — did you mean `mcts`?",
        "explore.rivals: there is no searcher 'beem' — did you mean `beam`?",
        "explore.budget: must be at least 1, is 0",
        "explore.confirm_seeds: must be at least 1, is 0",
        "explore.keep_mb: must be positive, is 0.0",
    ):
        assert sum(line.startswith(expected) for line in told) == 1, expected


OWN = {"weight_decay": 0.01, "optimizer": "adamw", "dropout": 0.1, "freeze": "none", "batch_size": 16}
OWN |= {"label_noise": 0.0, "token_noise": 0.0, "label_smoothing": 0.0}


@pytest.mark.parametrize(
    "strategies", [[], [{}], [{"learning_rate": 1.0}], [OWN]], ids=["none", "empty", "the schedule's", "the recipe's"]
)
def test_an_empty_space_is_an_error(tree_on, tmp_path, strategies):
    told = problems_of(tree_on(tmp_path / "out", explore={"strategies": strategies}))
    assert told == [
        "explore.strategies: there is nothing to choose from beside the recipe as it is — such as "
        "`grid: {learning_rate: [0.3, 1, 3]}`"
    ]


def test_strategies_that_train_alike_are_one(recipe_on):
    strategies = [{"learning_rate": 3.0}, {"learning_rate": 3.0, **OWN}, {"dropout": 0.2}]
    chosen = recipe_on("nowhere", explore={"strategies": strategies, "grid": {"dropout": [0.1, 0.2]}})
    assert space.strategies(chosen) == (Strategy(), Strategy(learning_rate=3.0), Strategy(dropout=0.2))


@pytest.mark.parametrize(
    "many",
    [
        {"sample": {"count": 10**9, "learning_rate": [0.1, 10.0]}},
        {"grid": {"dropout": [0.1] * 200, "freeze": ["a"] * 51}},
    ],
    ids=["drawn", "grid"],
)
def test_more_strategies_than_can_be_listed_are_an_error(tree_on, tmp_path, many):
    """Told before they are made."""
    told = problems_of(tree_on(tmp_path / "out", explore={"strategies": [], **many}))
    assert len(told) == 1 and "strategies are more than 10,000" in told[0]


def test_an_explorer_takes_no_more_strategies_than_its_model_holds(recipe_on, tree_on, tmp_path):
    """Those that are alike count once, and searchers without a model take more."""
    grid = {"label_smoothing": [0.0, 0.1, 0.2, 0.3, 0.4], "learning_rate": [1.0 + part for part in range(13)]}
    own = {"strategies": [], "grid": grid}
    assert len(space.strategies(recipe_on("nowhere", explore=own))) == 65
    own = {"strategies": [{"dropout": 0.3}], "grid": grid}
    told = problems_of(tree_on(tmp_path / "out", explore=own))
    assert len(told) == 1 and "65 strategies beside the recipe as it is; mcts takes 64" in told[0]
    assert len(space.strategies(recipe_on("nowhere", explore=own | {"searcher": "beam", "rivals": []}))) == 66


def test_keys_that_nobody_would_read_are_errors(tree_on, tmp_path):
    explore = {"searcher": "beam", "rivals": ["tpe"], "place": "device", "leaves": 2, "begin_step": 5}
    told = problems_of(tree_on(tmp_path / "out", explore=explore))
    assert told == [
        "explore.begin_step: is a checkpoint of explore.begin_with, which is not given — null",
        "explore.place: the device is for mcts, which does not search here — host",
        "explore.leaves: are for mcts and mcts_by_segment, which do not search here — 1",
        "explore.leaves: a search on the device asks for one segment after the other — 1, or explore.place: host",
    ]


def test_unknown_keys_and_wrong_types_are_told_with_their_place(tree_on, tmp_path):
    explore = {
        "strategies": [{"learning_rat": 3.0}, {"optimizer": "adam"}],
        "grid": {"optimizer": ["sgd", "adam"], "batch_size": ["many"]},
        "serchers": "mcts",
        "place": "cloud",
    }
    told = problems_of(tree_on(tmp_path / "out", explore=explore))
    assert told[:6] == [
        "r.yaml: explore.strategies[0].learning_rat: unknown key — did you mean `learning_rate`?",
        "r.yaml: explore.strategies[1].optimizer: expected adamw | sgd or null, came 'adam'",
        "r.yaml: explore.grid.optimizer[1]: expected adamw | sgd, came 'adam'",
        "r.yaml: explore.grid.batch_size[0]: expected an integer, came 'many'",
        "r.yaml: explore.serchers: unknown key — did you mean `searcher`?",
        "r.yaml: explore.place: expected host | device, came 'cloud'",
    ]


# --- what data and model say -----------------------------------------------------------------------------------------


def test_a_search_split_that_shares_texts_is_an_error(tree_on, messages, tmp_path):
    """With train and, as those are parts of one file, test; without a test split there is nothing to judge by; and
    what else is wrong is told in the same breath."""
    explore = {"budget": 19, "metric": "acuracy", "test_metric": "lost"}
    told = problems_of(tree_on(tmp_path / "out", data={"search": str(messages), "test": None}, explore=explore))
    assert told[0].startswith("data.search: ") and told[0].endswith(
        "of its texts are in train too — a file of other texts, or a fraction of train"
    )
    assert told[1] == "data.test: there is nothing to judge the schedules by — a file, or a fraction such as 0.2"
    assert told[2].startswith("explore.metric: there is no 'acuracy'; known: accuracy, ")
    assert told[2].endswith("did you mean `accuracy`?")
    assert told[3].startswith("explore.test_metric: there is no 'lost'; known: ")
    assert told[4].startswith("explore.budget: 19 gradient steps do not pay for 2 segments of 10 and a look after each")
    assert len(told) == 5
    told = problems_of(tree_on(tmp_path / "out", data={"search": str(messages), "test": 0.2}))
    assert [line.split("texts are in ")[1].split()[0] for line in told] == ["test", "train"]


def test_a_budget_below_one_segment_is_an_error(tree_on, tmp_path):
    told = problems_of(tree_on(tmp_path / "out", explore={"budget": 9}))
    assert told == [
        "explore.budget: 9 gradient steps do not pay for one segment of 10 — at least 23, for a whole run, or null"
    ]
    assert set_up(recipe.from_tree(tree_on("nowhere", explore={"budget": 23}), kind=ExploreRecipe)).num_steps == 20


def test_more_segments_than_the_epochs_have_steps_is_an_error(tree_on, tmp_path):
    """6 steps an epoch."""
    told = problems_of(tree_on(tmp_path / "out", train={"steps": None, "epochs": 1}, explore={"segments": 7}))
    assert told == ["explore.segments: 7 segments do not fit into 6 steps"]


def test_freezing_more_than_there_is_names_the_strategy(tree_on, tmp_path):
    """By its place in the recipe, though the list has one twice; a grid is named once."""
    strategies = [{}, {"learning_rate": 3.0}, {"freeze": "layers:5"}]
    grid = {"freeze": ["layers:3", "layers:1"], "dropout": [0.0, 0.3]}
    told = problems_of(tree_on(tmp_path / "out", explore={"strategies": strategies, "grid": grid}))
    assert [line.split(":")[0] for line in told] == ["explore.strategies[2].freeze", "explore.grid.freeze"]


def test_a_place_that_cannot_be_is_an_error(tree_on, tmp_path):
    told = problems_of(tree_on(tmp_path / "out", explore={"place": "device", "metric": "mcc"}))
    assert told == ["explore.place: on the device the metric is accuracy or loss, not mcc — explore.metric, or host"]
    told = problems_of(tree_on(tmp_path / "out", explore={"place": "device", "keep_mb": 0.5}))
    assert len(told) == 1 and "the states of a search on the device take" in told[0] and "it is 0" in told[0]


def test_steps_that_do_not_divide_are_told(tree_on):
    chosen = recipe.from_tree(tree_on("nowhere", train={"steps": 23}, optim={"name": "sgd"}), kind=ExploreRecipe)
    setup = set_up(chosen)
    assert setup.num_steps == 22
    told = [str(warning) for warning in setup.warnings]
    assert "explore.segments: of 23 steps, runs have 22: 2 segments of 11 — a number that divides the steps" in told
    assert any(line.startswith("optim.name: in a run with segments, sgd is a mean of the gradients") for line in told)
