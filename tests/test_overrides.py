from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import pytest

from jaxft import overrides, recipes
from jaxft import recipe as recipes_
from jaxft.errors import UserError
from jaxft.recipe import Recipe


@dataclass(frozen=True)
class Train(overrides.WithRecipe):
    """Trains."""

    quiet: bool = False


def parse(*argv: str) -> Train:
    return overrides.parse(Train, argv, "jaxft train")


def problems(*argv: str) -> list[str]:
    with pytest.raises(UserError) as caught:
        parse(*argv)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize("name", recipes.names())
def test_without_overrides_the_recipe_is_as_its_file(name: str):
    path = recipes.find(name)
    assert parse(name).keys == parse(str(path)).keys == recipes_.load(path)


def test_overrides_of_every_kind_in_both_spellings_and_any_order():
    found = parse(
        *("--train.epochs", "1", "--quiet", "sms_spam", "--optim.learning-rate", "3e-5", "--optim.weight_decay=0"),
        *("--seeds.dropout", "7", "--out", "there", "--train.packing", "false", "--data.test", "null"),
        *("--data.dev", "0.25", "--data.label", "1", "--train.freeze", "layers:3", "--dtype", "bf16"),
    )
    chosen = found.keys
    assert found.quiet and found.recipe == "sms_spam" and chosen.out == "there" and chosen.dtype == "bf16"
    assert (chosen.train.epochs, chosen.train.packing, chosen.train.freeze) == (1, False, "layers:3")
    assert (chosen.optim.learning_rate, chosen.optim.weight_decay, chosen.seeds.dropout) == (3e-5, 0.0, 7)
    assert (chosen.data.test, chosen.data.dev, chosen.data.label) == (None, 0.25, "1")
    assert parse("sms_spam", "--data.dev", "conll2003:dev").keys.data.dev == "conll2003:dev"


def test_a_number_below_zero_is_a_value():
    assert parse("sms_spam", "--seed", "-4").keys.seed == -4


def test_all_wrong_values_are_told_at_once_in_the_words_of_recipe_files():
    told = problems("sms_spam", "--train.epochs", "three", "--data.format", "xls", "--train.packing", "2")
    assert told == [
        "command line: data.format: expected auto | csv | tsv | jsonl | parquet | conll, came 'xls'",
        "command line: train.epochs: expected an integer, came 'three'",
        "command line: train.packing: expected true or false, came 2",
    ]


def test_all_unknown_keys_are_told_with_the_nearest():
    told = problems("sms_spam", "--train.epoch", "1", "--epochs", "2", "--lerning-rate", "3", "--qiet")
    assert [line.rpartition("mean ")[2] for line in told] == [
        "`--train.epochs`?",
        "`--train.epochs`?",
        "`--optim.learning-rate`?",
        "`--quiet`?",
    ]


def test_a_key_without_a_value_and_a_missing_recipe():
    assert problems("sms_spam", "--train.epochs", "--quiet") == ["jaxft train: --train.epochs: needs a value"]
    assert problems("--quiet")[0].startswith("jaxft train: no recipe named — shipped: conll2003")
    assert "did you mean `sms_spam`?" in problems("sms_spm")[0]


def test_every_key_of_a_recipe_is_an_option(capsys):
    with pytest.raises(SystemExit):
        parse("sms_spam", "--help")
    told = capsys.readouterr().out

    def names(part: object, prefix: str = "--"):
        for field in dataclasses.fields(part):  # type: ignore[arg-type]
            value = getattr(part, field.name)
            if dataclasses.is_dataclass(value):
                yield from names(value, f"{prefix}{field.name}.")
            else:
                yield f"{prefix}{field.name}".replace("_", "-")

    expected = list(names(Recipe()))
    assert len(expected) == 68
    assert not [name for name in expected if f" {name} " not in told]
    assert "(default: sms_spam)" in told  # the recipe's own values


def test_a_file_with_problems_is_told_before_its_overrides(tmp_path: Path):
    path = tmp_path / "recipe.yaml"
    path.write_text("train: {epoch: 1, batch_size: 0}\n")
    told = problems(str(path), "--train.steps", "x")
    assert told[0] == f"{path}: train.epoch: unknown key — did you mean `epochs`?"
    assert "train.batch_size: must be at least 1, is 0" in told
