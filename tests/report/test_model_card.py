from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from jaxft.report import model_card


def load(tmp_path: Path, result: Any) -> Any:
    model_card.write(tmp_path, result)
    return ModelCard.load(tmp_path / "README.md")


def test_metadata_of_a_classifier_reads_back(tmp_path, sample):
    data = load(tmp_path, sample.classify()).data
    assert data.license == "apache-2.0" and data.base_model == "minilm" and data.datasets == ["sms_spam"]
    found = data.to_dict()
    assert (found["library_name"], found["pipeline_tag"]) == ("transformers", "text-classification")
    assert data.metrics == ["accuracy", "f1", "matthews_correlation"]
    scores = {result.metric_name: result.metric_value for result in data.eval_results}
    assert scores == dict(sample.classify().test)
    assert {result.dataset_split for result in data.eval_results} == {"test"}


def test_metadata_of_a_tagger(tmp_path, sample):
    card = load(tmp_path, sample.tag())
    assert card.data.pipeline_tag == "token-classification"
    assert 'pipeline("token-classification", model="MODEL", aggregation_strategy="first")' in card.text
    assert "| I-PER | 1.0000" in card.text and "| PER | 0.5000" in card.text


def test_local_paths_and_unknown_licences_stay_out_of_the_metadata(tmp_path, sample):
    (tmp_path / "mine").mkdir()
    facts = sample.classify().data
    local = type(facts)(name="data/my.csv", sizes=facts.sizes, sha256=facts.sha256)
    data = load(tmp_path, sample.classify(model=str(tmp_path / "mine"), data=local, model_licence=None)).data
    assert data.base_model is None and data.datasets is None and data.license is None
    assert data.model_name == "mine-my"
    data = load(tmp_path, sample.classify(model_licence="Research only!")).data
    assert data.license == "other" and data.license_name == "research-only-"


@pytest.mark.parametrize(("name", "public"), [
    ("minilm", "minilm"), ("org/name", "org/name"), ("conll2003:dev", "conll2003"), ("a/b/c", None), ("x.csv", None),
    ("/abs/path", None), ("../up", None), ("", None),
])  # fmt: skip
def test_public_ids(name, public):
    assert model_card._public_id(name) == public


def test_the_text_says_what_it_is_for_how_to_load_it_and_its_limits(tmp_path, sample):
    text = load(tmp_path, sample.classify()).text
    for part in ("# minilm-sms_spam", "Gives a text one of these labels: ham, spam.", 'pipeline("text-classification"',
                 "jaxft predict MODEL --input FILE", "Test accuracy 0.9700", "at most 128 tokens of a text",
                 "Licence of the data, as its source states it: MIT"):  # fmt: skip
        assert part in text
    assert "any number of these labels" in model_card.card(sample.classify(multi_label=True))
    assert ", top_k=None" in model_card.card(sample.classify(multi_label=True))


def test_weak_labels_and_a_missing_test_set_are_named(sample):
    result = sample.tag(test={}, scored="dev", dev={"f1": 0.4})
    weak = {"entity": {"LOC": {"precision": 0.1, "recall": 0.1, "f1": 0.1, "support": 9, "predicted": 9}}}
    text = model_card.card(sample.tag(test={}, scored="dev", dev={"f1": 0.4}, tables=weak))
    assert "F1 is below 0.5 for: LOC." in text and "no test set" in text
    assert "below 0.5" not in model_card.card(result)


def test_a_model_without_scores_has_a_card(sample):
    result = sample.classify(before={}, dev={}, test={}, scored="", tables={}, confusion=None)
    text = model_card.card(result)
    assert "no dev or test set to score" in text and "model-index" not in text
