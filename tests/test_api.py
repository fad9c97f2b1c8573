"""The Python interface, with one real training run: MiniLM, its encoder frozen, on 160 text messages."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import pytest

import jaxft
from jaxft import api, recipes
from jaxft import recipe as recipes_
from jaxft.errors import UserError
from jaxft.evaluate.labeller import Labeller
from jaxft.recipe import Data, Recipe
from jaxft.report.result import Result
from jaxft.report.run_folder import RunFolder
from jaxft.train import memory


@pytest.fixture(scope="module", autouse=True)
def promotion_for_optax() -> Iterator[None]:
    """optax raises a float to the power of an int32, which strict promotion forbids."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="module")
def messages(sms_spam: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 80 messages of each label."""
    with open(sms_spam, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    path = tmp_path_factory.mktemp("data") / "messages.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer: csv.DictWriter[str] = csv.DictWriter(file, ("text", "label"))
        writer.writeheader()
        for label in ("ham", "spam"):
            writer.writerows([row for row in rows if row["label"] == label][:80])
    return path


@pytest.fixture(scope="module")
def tree(messages: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A recipe as nested dicts."""
    return {
        "data": {"train": str(messages), "dev": 0.2, "test": 0.2, "max_tokens": 64},
        "train": {"epochs": 4, "batch_size": 32, "freeze": "encoder", "row_tokens": 64},
        "optim": {"learning_rate": 5e-3},
        "out": str(tmp_path_factory.mktemp("runs") / "messages"),
    }


@pytest.fixture(scope="module")
def result(tree: dict[str, Any]) -> Result:
    return jaxft.train(tree, quiet=True)


@pytest.fixture(scope="module")
def labeller(result: Result, tree: dict[str, Any]) -> Labeller:
    return jaxft.load(tree["out"])


def test_training_learns_and_leaves_a_whole_run_folder(result: Result, tree: dict[str, Any]):
    assert result.test["accuracy"] >= 0.85 > result.before["accuracy"]  # measured: 0.94; by chance 0.5
    folder = RunFolder(tree["out"])
    losses = [record["loss"] for record in folder.records() if record["kind"] == "train"]
    assert losses[-1] < 0.7 * losses[0]
    report = json.loads(folder.report_json.read_text())
    assert report["test"] == dict(result.test) and report["params_sha256"] == result.params_sha256
    assert report["data"]["sizes"] == {"train": 96, "dev": 32, "test": 32}
    assert recipes_.load(folder.recipe) == recipes_.from_tree(tree)
    names = {"config.json", "model.safetensors", "tokenizer.json", "vocab.txt", "README.md"}
    assert names <= {path.name for path in folder.model.iterdir()}


def test_a_finished_run_is_not_written_over(result: Result, tree: dict[str, Any]):
    before = RunFolder(tree["out"]).report_json.read_bytes()
    with pytest.raises(UserError, match="already holds a finished run"):
        jaxft.train(tree, quiet=True)
    assert RunFolder(tree["out"]).report_json.read_bytes() == before


def test_the_loaded_model_knows_its_run_and_labels_new_text(labeller: Labeller, tree: dict[str, Any]):
    assert (labeller.labels, labeller.max_tokens, labeller.multi_label) == (("ham", "spam"), 64, False)
    assert labeller.recipe == recipes_.from_tree(tree)
    found = labeller.predict(["see you at home tonight, ok?", "URGENT! You won a 1000 pound prize, call 09061701461"])
    assert [row["label"] for row in found] == ["ham", "spam"]


def test_the_loaded_model_scores_as_the_report_says(labeller: Labeller, result: Result):
    assert labeller.recipe is not None
    from jaxft.data import corpus

    examples = corpus.load(labeller.recipe).splits["test"]
    scored = labeller.score_examples(examples, labeller.recipe.data)
    assert scored.scores["accuracy"] == result.test["accuracy"]
    assert scored.scores["loss"] == pytest.approx(result.test["loss"], rel=1e-4)
    assert scored.tables["label"] == result.tables["label"]


@pytest.mark.torch
def test_the_exported_model_says_the_same_in_transformers(labeller: Labeller):
    from transformers import pipeline

    texts = ["see you at home tonight, ok?", "URGENT! You won a prize", "ok " * 40]
    theirs: Any = pipeline("text-classification", model=str(labeller.folder), device="cpu", top_k=None)(texts)
    for own, other in zip(labeller.predict(texts), theirs, strict=True):
        assert own["label"] == other[0]["label"]
        other = {row["label"]: row["score"] for row in other}
        assert all(abs(other[label] - value) < 1e-5 for label, value in own["probabilities"].items())


def test_a_recipe_comes_in_four_forms(tmp_path: Path):
    path = recipes.find("sms_spam")
    expected = recipes_.load(path)
    for form in ("sms_spam", str(path), path, recipes_.to_tree(expected), expected):
        assert api.as_recipe(form) == expected
    with pytest.raises(UserError, match="did you mean `sms_spam`"):
        api.as_recipe("sms_span")
    with pytest.raises(TypeError, match="came int"):
        api.as_recipe(3)  # type: ignore[arg-type]


def test_the_package_offers_both(labeller: Labeller):
    import jaxft.train as package

    assert callable(jaxft.train) and jaxft.train is package
    assert jaxft.load is api.load
    with pytest.raises(AttributeError, match="no attribute 'fine_tune'"):
        jaxft.fine_tune  # type: ignore[attr-defined]  # noqa: B018


def test_examining_tells_facts_and_writes_nothing(tree: dict[str, Any], tmp_path: Path):
    found = api.examine({**tree, "out": str(tmp_path / "run")})
    assert not found.errors and not list(tmp_path.iterdir())
    assert found.facts["examples"] == "train 96, dev 32, test 32; 2 labels: ham, spam"
    assert found.facts["steps"] == "12 of 32 examples, 3 an epoch"
    assert "longest" in found.facts["tokens"] and "about" in found.facts["memory"]
    lone = api.examine({**tree, "data": {"train": tree["data"]["train"], "max_tokens": 64}})
    assert "no dev and no test set" in str(lone.warnings[-1])


def test_examining_collects_problems_of_recipe_data_and_model(tmp_path: Path, tiny_model):
    found = api.examine(Recipe(seed=-1, data=Data(train="x.csv", max_tokens=1)))
    assert [problem.where for problem in found.errors] == ["data.max_tokens", "seed"]
    path = tmp_path / "x.csv"
    path.write_text("text,lable\na,b\n")
    model = tiny_model("none")
    (model / "config.json").write_text('{"model_type": "roberta"}')
    found = api.examine({"model": str(model), "data": {"train": str(path)}})
    assert "no column 'label'" in found.errors[0].what
    assert any("model_type is 'roberta'" in problem.what for problem in found.errors[1:])


def test_a_run_too_large_for_the_machine_is_a_warning(tree: dict[str, Any], monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: (10 * 2**20, "this machine"))
    found = api.examine(tree)
    assert "this machine has 10 MB" in str(found.warnings[-1])


@pytest.mark.parametrize(("numerics", "gradients"), [("canonical", 5), ("fast", 2)])
def test_more_micro_batches_hold_more_gradients(numerics, gradients):
    """As tests/train/test_compiled.py measures: canonical numerics keep one gradient a level of the tree."""
    assert memory.num_gradients(8, numerics) == gradients
    assert memory.num_gradients(1, numerics) == 1
