from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxft import recipe as recipes
from jaxft.errors import UserError
from jaxft.recipe import Data, Mesh, Noise, Optim, Recipe, Seeds, Train
from jaxft.recipes import find, names

GOOD = Recipe(data=Data(train="sms_spam", dev=0.1, test=0.2))


def problems_of(recipe: Recipe) -> list[str]:
    with pytest.raises(UserError) as caught:
        recipes.check(recipe)
    return [problem.where for problem in caught.value.problems]


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_recipe_survives_writing_and_reading(tmp_path: Path):
    recipe = dataclasses.replace(
        GOOD, train=Train(epochs=7, freeze="layers:3", patience=2), optim=Optim(clip_norm=None), seeds=Seeds(dropout=7)
    )
    assert recipes.load(write(tmp_path, recipes.dump(recipe))) == recipe
    assert recipes.from_tree(recipes.to_tree(recipe)) == recipe


@given(
    st.floats(1e-9, 9.0),
    st.integers(0, recipes.MAX_SEED),
    st.one_of(
        st.none(), st.floats(0.01, 0.9), st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1)
    ),
)
def test_any_value_survives_writing_and_reading(rate: float, seed: int, dev: str | float | None):
    recipe = Recipe(data=Data(train="a", dev=dev), optim=Optim(learning_rate=rate), seed=seed)
    again = recipes.from_tree(recipes.yaml.safe_load(recipes.dump(recipe)))
    assert again == recipe or isinstance(dev, str)  # a number written as text is read as a number
    assert again.optim.learning_rate == rate


def test_every_unknown_key_and_wrong_type_is_told_with_its_place(tmp_path: Path):
    path = write(tmp_path, "tsk: tag\ntrain: {epoch: 3, batch_size: many}\ndata: [a]\noptim: {schedule: sine}\n")
    with pytest.raises(UserError) as caught:
        recipes.load(path)
    found = {problem.where: problem for problem in caught.value.problems}
    keys = ["tsk", "train.epoch", "train.batch_size", "data", "optim.schedule"]
    assert set(found) == {f"{path}: {key}" for key in keys}
    assert found[f"{path}: tsk"].fix == "did you mean `task`?"
    assert found[f"{path}: train.epoch"].fix == "did you mean `epochs`?"
    assert "an integer" in found[f"{path}: train.batch_size"].what
    assert "linear | cosine | constant" in found[f"{path}: optim.schedule"].what


@pytest.mark.parametrize(
    ("text", "value"),
    [("5e-5", 5e-5), ("5.0e-5", 5e-5), ("1", 1.0), ("'0.5'", 0.5)],
    ids=["5e-5", "5.0e-5", "1", "text"],
)
def test_a_learning_rate_may_be_written_as_people_write_it(tmp_path: Path, text: str, value: float):
    recipe = recipes.load(write(tmp_path, f"optim: {{learning_rate: {text}}}"))
    assert recipe.optim.learning_rate == value
    assert type(recipe.optim.learning_rate) is float


@pytest.mark.parametrize("text", ["true", "[1]", "fast", "null"])
def test_what_is_no_number_is_refused(tmp_path: Path, text: str):
    with pytest.raises(UserError, match="optim.learning_rate: expected a number"):
        recipes.load(write(tmp_path, f"optim: {{learning_rate: {text}}}"))


def test_a_split_is_a_fraction_or_a_source(tmp_path: Path):
    data = recipes.load(write(tmp_path, "data: {train: a.csv, dev: 0.1, test: b.csv}")).data
    assert (data.dev, data.test) == (0.1, "b.csv")


def test_unreadable_files_are_one_clear_error(tmp_path: Path):
    with pytest.raises(UserError, match="no such recipe file"):
        recipes.load(tmp_path / "absent.yaml")
    with pytest.raises(UserError, match=r"recipe.yaml:2: is not valid YAML"):
        recipes.load(write(tmp_path, "task: tag\n  model: [\n"))
    (tmp_path / "latin.yaml").write_bytes(b"task: caf\xe9")
    with pytest.raises(UserError, match="UTF-8"):
        recipes.load(tmp_path / "latin.yaml")


def test_an_empty_file_is_the_default_recipe(tmp_path: Path):
    assert recipes.load(write(tmp_path, "")) == Recipe()


def test_check_accepts_a_good_recipe_and_tells_all_problems_of_a_bad_one():
    recipes.check(GOOD)
    bad = Recipe(
        task="clasify",
        data=Data(train="", dev=0.6, test=0.5, max_tokens=4),
        train=Train(epochs=0, batch_size=4, micro_batches=8, dropout=1.0, freeze="some"),
        optim=Optim(learning_rate=0.0, weight_decay=-1.0, warmup=2.0),
        seed=-1,
    )
    expected = {"task", "data.train", "data.max_tokens", "data.dev + data.test", "train.epochs", "train.dropout"}
    expected |= {
        "train.micro_batches",
        "train.freeze",
        "optim.learning_rate",
        "optim.weight_decay",
        "optim.warmup",
        "seed",
    }
    assert set(problems_of(bad)) == expected


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seeds_outside_32_bits_are_refused(seed: int):
    assert problems_of(dataclasses.replace(GOOD, seed=seed)) == ["seed"]
    assert problems_of(dataclasses.replace(GOOD, seeds=Seeds(dropout=seed))) == ["seeds.dropout"]


def test_the_ends_of_the_seed_range_are_accepted():
    recipes.check(dataclasses.replace(GOOD, seed=2**32 - 1, seeds=Seeds(order=0)))


def test_a_stream_takes_its_own_seed_or_the_recipes():
    seeds = recipes.stream_seeds(dataclasses.replace(GOOD, seed=3, seeds=Seeds(dropout=7)))
    assert seeds == {name: 7 if name == "dropout" else 3 for name in dataclasses.asdict(Seeds())}


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
@pytest.mark.parametrize(
    ("section", "key"),
    [(Train, "dropout"), (Train, "label_smoothing"), (Optim, "b1"), (Optim, "momentum")]
    + [(Noise, key) for key in ("label", "token_drop", "token_swap", "token_mask", "token_replace", "typo")],
)
def test_rates_outside_0_to_1_are_refused(section: type, key: str, rate: float):
    part = section(**{key: rate})
    name = section.__name__.lower()
    assert f"{name}.{key}" in problems_of(dataclasses.replace(GOOD, **{name: part}))


def test_noise_is_off_unless_asked_for():
    assert not Noise().is_on and not Noise(per_epoch=False).is_on and not Noise().brings_tokens
    rates = [field.name for field in dataclasses.fields(Noise) if field.type == "float"]
    assert len(rates) == 6
    for name in rates:
        noise = dataclasses.replace(Noise(), **{name: 0.1})
        recipes.check(dataclasses.replace(GOOD, noise=noise))
        assert noise.is_on and noise.brings_tokens == (name in ("token_mask", "token_replace", "typo"))
    assert Noise(label_confusion="a.csv").is_on


def test_labels_are_changed_in_one_way(tmp_path: Path):
    matrix = Noise(label_confusion="confusion.csv")
    recipes.check(dataclasses.replace(GOOD, noise=matrix))
    both = dataclasses.replace(GOOD, noise=dataclasses.replace(matrix, label=0.1))
    assert problems_of(both) == ["noise.label_confusion"]
    many = dataclasses.replace(GOOD, data=dataclasses.replace(GOOD.data, multi_label=True))
    recipes.check(dataclasses.replace(many, noise=Noise(label=0.1)))
    with pytest.raises(UserError, match=r"label_confusion: .* any number of them — set noise.label instead"):
        recipes.check(dataclasses.replace(many, noise=matrix))
    text = "noise: {label_confusion: a.csv, per_epoch: false}"
    assert recipes.load(write(tmp_path, text)).noise == Noise(label_confusion="a.csv", per_epoch=False)


def test_a_recipe_that_does_not_fit_in_a_mesh_or_row_is_refused():
    for data in (0, 3, 16):  # devices for 8 micro-batches
        assert problems_of(dataclasses.replace(GOOD, train=Train(micro_batches=8), mesh=Mesh(data=data))) == [
            "mesh.data"
        ]
    assert problems_of(dataclasses.replace(GOOD, mesh=Mesh(fsdp=2))) == ["mesh"]
    assert problems_of(dataclasses.replace(GOOD, train=Train(micro_batches=6))) == ["train.micro_batches"]
    assert problems_of(dataclasses.replace(GOOD, train=Train(row_tokens=64))) == ["train.row_tokens"]


def test_every_shipped_recipe_loads_passes_and_says_what_to_expect():
    assert {"sms_spam", "trec", "conll2003"} <= set(names())
    for name in names():
        recipe = recipes.load(find(name))
        recipes.check(recipe)
        comments = [line for line in find(name).read_text(encoding="utf-8").splitlines() if line.startswith("#")]
        for word in ("command: ", "expected:", "time: ", "device: "):
            assert any(word in line for line in comments), f"{name}: no comment says {word}"
        assert recipe.out == f"runs/{name}"


def test_an_unknown_recipe_name_is_answered_with_the_nearest():
    with pytest.raises(UserError, match="did you mean `sms_spam`"):
        find("sms_spm")


def test_a_limit_a_search_split_and_layers_are_checked():
    recipes.check(dataclasses.replace(GOOD, data=Data(train="sms_spam", search=0.1, limit=1), train=Train(layers=1)))
    bad = Recipe(data=Data(train="a.csv", dev=0.5, search=1.0, limit=0), train=Train(layers=0))
    assert problems_of(bad) == ["data.search", "data.dev + data.search", "data.limit", "train.layers"]
    assert problems_of(Recipe(data=Data(train="a.csv", dev=0.4, test=0.3, search=0.3))) == [
        "data.dev + data.test + data.search"
    ]
