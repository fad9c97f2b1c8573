"""Models in use. Tiny random ones: what they say is arbitrary, how they say it is not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from jaxft.data.examples import Examples
from jaxft.errors import Problems, UserError
from jaxft.evaluate.labeller import Labeller, find
from jaxft.recipe import Data

TAGS = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
TEXTS = ["Peter flew to New York.", "ok", "What a day it was, was it not?", "U.S. envoys met in Geneva"]


@pytest.fixture(scope="module")
def classifier(tiny_model) -> Labeller:
    return Labeller(tiny_model("classify", ("ham", "spam", "unsure")))


@pytest.fixture(scope="module")
def tagger(tiny_model) -> Labeller:
    return Labeller(tiny_model("tag", TAGS, positions=32))


def edit(folder: Path, **keys) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))
    return folder


def named(labels: tuple[str, ...]) -> dict:
    return {
        "id2label": {str(i): label for i, label in enumerate(labels)},
        "label2id": {label: i for i, label in enumerate(labels)},
    }


@pytest.mark.slow
def test_classification_gives_label_and_probabilities_likeliest_first(classifier: Labeller):
    found = classifier.predict(TEXTS)
    assert len(found) == len(TEXTS)
    for row in found:
        values = list(row["probabilities"].values())
        assert set(row["probabilities"]) == {"ham", "spam", "unsure"} and values == sorted(values, reverse=True)
        assert abs(sum(values) - 1) < 1e-5
        assert (row["label"], row["probability"]) == next(iter(row["probabilities"].items()))
    assert [list(row["probabilities"]) for row in classifier.predict(TEXTS, top=1)] == [[row["label"]] for row in found]


def test_one_text_many_texts_and_none(classifier: Labeller, tagger: Labeller):
    assert classifier.predict(TEXTS[0]) == classifier.predict(TEXTS[:1])
    assert classifier.predict([]) == tagger.predict([]) == []
    assert tagger.predict(["", " \n"]) == [{"tokens": [], "spans": []}] * 2
    assert classifier.predict("")[0]["label"] in classifier.labels


@pytest.mark.slow
def test_a_text_is_labelled_alike_in_any_company(classifier: Labeller):
    together = classifier.predict([*TEXTS, *(f"filler number {i} " * (i % 9) for i in range(150))])[: len(TEXTS)]
    for text, row in zip(TEXTS, together, strict=True):
        alone = classifier.predict(text)[0]["probabilities"]
        assert all(abs(alone[label] - value) < 1e-5 for label, value in row["probabilities"].items())


def test_pairs_are_read_as_pairs(classifier: Labeller):
    first, second = classifier.predict(["a b", "a b"], ["c d", "e"])
    assert first["probabilities"] != second["probabilities"]
    assert classifier.predict("a b", "c d") == classifier.predict(["a b"], ["c d"])
    assert first["probabilities"] != classifier.predict("a b c d")[0]["probabilities"]


@pytest.mark.slow
def test_multi_label_gives_the_labels_from_one_half_on(tiny_model):
    labeller = Labeller(tiny_model("classify", ("a", "b", "c", "d"), multi_label=True))
    assert labeller.multi_label
    for row in labeller.predict([f"number {i} of them" for i in range(20)]):
        expected = [label for label, value in row["probabilities"].items() if value >= 0.5]
        assert [entry["label"] for entry in row["labels"]] == expected
        assert all(entry["probability"] == row["probabilities"][entry["label"]] for entry in row["labels"])


def test_offsets_of_tokens_and_spans_point_into_the_text(tagger: Labeller):
    texts = [*TEXTS, "café\u00a0in  北京 — naïve\t😀 ok"]
    found = tagger.predict(texts)
    spans = 0
    for text, row in zip(texts, found, strict=True):
        for entry in [*row["tokens"], *row["spans"]]:
            assert text[entry["start"] : entry["end"]] == entry["text"] != ""
        assert all(token["tag"] in TAGS for token in row["tokens"])
        opened = [token for token in row["tokens"] if token["tag"].startswith("B-")]
        assert [span["start"] for span in row["spans"]] == [token["start"] for token in opened]
        assert [span["label"] for span in row["spans"]] == [token["tag"][2:] for token in opened]
        assert all(0 < span["probability"] <= 1 for span in row["spans"])
        spans += len(row["spans"])
    assert spans > 5


def test_a_list_of_words_is_taken_as_it_is(tagger: Labeller):
    row = tagger.predict([["New York", "didn't", "."]])[0]
    assert [(token["text"], token["start"], token["end"]) for token in row["tokens"]] == [
        ("New York", 0, 8),
        ("didn't", 9, 15),
        (".", 16, 17),
    ]


def test_no_word_of_a_long_text_is_left_out(tagger: Labeller, classifier: Labeller):
    text = " ".join(f"word{i} in Paris" for i in range(60))
    assert tagger.max_tokens == 32
    row = tagger.predict(text)[0]
    assert len(row["tokens"]) == 180
    assert len({token["tag"] for token in row["tokens"]}) > 1
    longer = classifier.predict(text + " and an end that no window but the last can see")
    assert longer != classifier.predict(text)


def test_words_that_the_tokenizer_drops_are_outside(tagger: Labeller):
    row = tagger.predict([["Peter", "\u200b", "ran"]])[0]
    assert [token["text"] for token in row["tokens"]] == ["Peter", "\u200b", "ran"]
    assert row["tokens"][1]["tag"] == "O"


@pytest.mark.slow
def test_few_programs_are_compiled(tiny_model):
    labeller = Labeller(tiny_model("classify", ("a", "b"), positions=128))
    for count in (1, 2, 60, 61, 150):
        labeller.predict([f"text number {i} " * (1 + i % 30) for i in range(count)])
    sizes = [predictor._apply._cache_size() for predictor in (labeller._few, labeller._many)]  # type: ignore[attr-defined]
    assert all(size <= 3 for size in sizes)


def test_predicting_leaves_no_tokens_in_the_cache(classifier: Labeller, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("JAXFT_CACHE", str(tmp_path))
    classifier.predict(["a private text"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "closed", [("O", "S-LOC", "B-LOC", "I-LOC", "E-LOC"), ("O", "U-LOC", "B-LOC", "I-LOC", "L-LOC")]
)
def test_tags_of_other_schemes_come_out_as_iob2(tiny_model, closed: tuple[str, ...]):
    labeller = Labeller(edit(tiny_model("tag", TAGS), **named(closed)))
    chosen = np.eye(5, dtype=np.float32)[[1, 2, 3, 4, 0, 1, 1]]
    tags, spans = labeller._decode(chosen)
    assert tags == ["B-LOC", "B-LOC", "I-LOC", "I-LOC", "O", "B-LOC", "B-LOC"]
    assert spans == [("LOC", 0, 1), ("LOC", 1, 4), ("LOC", 5, 6), ("LOC", 6, 7)]
    with pytest.raises(UserError, match="not IOB2"):
        labeller.score_examples(Examples([["a"]], None, [["O"]], ["x:1"], "x", ""), Data(max_tokens=32))


def test_labels_that_are_no_iob_tags_give_no_spans(tiny_model):
    row = Labeller(tiny_model("tag", ("NOUN", "VERB", "DET"))).predict("the cat sat")[0]
    assert {token["tag"] for token in row["tokens"]} <= {"NOUN", "VERB", "DET"} and row["spans"] == []


def test_scores_agree_with_predictions(classifier: Labeller, tmp_path: Path):
    guesses = [row["label"] for row in classifier.predict(TEXTS)]
    other = next(label for label in classifier.labels if label != guesses[0])
    rows = [{"body": text, "kind": label} for text, label in zip(TEXTS, [other, *guesses[1:]], strict=True)]
    path = tmp_path / "gold.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    scored = classifier.score(str(path), Data(text="body", label="kind", max_tokens=64))
    assert scored.scores["accuracy"] == 0.75
    assert set(scored.tables["label"]) == set(classifier.labels)


def test_tagged_text_is_scored_by_entity(tagger: Labeller, tmp_path: Path):
    rows = tagger.predict([["Peter", "flew", "to", "Paris"], ["Ann", "ran"]])
    lines = "\n\n".join("\n".join(f"{t['text']}\t{t['tag']}" for t in row["tokens"]) for row in rows)
    path = tmp_path / "gold.conll"
    path.write_text(lines)
    assert tagger.score(str(path), Data(max_tokens=32)).scores["accuracy"] == 1


def test_truncation_is_a_warning_and_unknown_labels_are_errors(classifier: Labeller, tmp_path: Path):
    path = tmp_path / "gold.csv"
    path.write_text(f"text,label\n{'long ' * 100},ham\nb,spma\n")
    with pytest.raises(UserError) as caught:
        classifier.score(str(path), Data(max_tokens=64))
    assert str(caught.value) == f"{path}:3: label 'spma' is none of the 3 known — nearest: 'spam'"
    path.write_text(f"text,label\n{'long ' * 100},ham\nb,spam\n")
    problems = Problems()
    classifier.score(str(path), Data(max_tokens=64), problems)
    assert "1 of 2 (50.0 %) examples are longer than 64 tokens" in problems.warnings[0].what
    with pytest.raises(UserError, match="64 positions, is 128"):
        classifier.score(str(path), Data())


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        ({"problem_type": "regression"}, "is a regression"),
        ({"model_type": "roberta"}, "model_type is 'roberta'"),
        ({"architectures": ["BertForQuestionAnswering"]}, "BertForQuestionAnswering"),
        ({"architectures": ["BertModel"]}, "not fine-tuned"),
        ({"id2label": {"0": "x"}, "label2id": {"x": 0}}, "names 1 classes, the classifier has 2"),
    ],
)
def test_folders_that_are_no_classifier_or_tagger_are_refused(tiny_model, keys: dict, what: str):
    folder = edit(tiny_model("classify", ("a", "b")), **keys)
    with pytest.raises(UserError, match=what):
        Labeller(folder)


def test_a_classifier_without_names_numbers_its_labels(tiny_model):
    folder = tiny_model("classify", ("a", "b"))
    raw = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({k: v for k, v in raw.items() if k not in ("id2label", "label2id")}))
    assert Labeller(folder).labels == ("LABEL_0", "LABEL_1")


def test_wrong_arguments(classifier: Labeller, tagger: Labeller):
    with pytest.raises(TypeError, match=r"texts\[1\]: expected text, came int 3"):
        classifier.predict(["a", 3])  # type: ignore[list-item]
    with pytest.raises(TypeError, match=r"texts\[0\]: expected text, came list"):
        classifier.predict([["a", "b"]])
    with pytest.raises(UserError, match="1 second texts for 2 first ones"):
        classifier.predict(["a", "b"], ["c"])
    with pytest.raises(UserError, match="takes one text, not two"):
        tagger.predict(["a"], ["b"])
    with pytest.raises(UserError, match="64 positions, is 65"):
        Labeller(classifier.folder, max_tokens=65)


def test_a_run_that_did_not_finish_has_no_model(tmp_path: Path, tiny_model):
    (tmp_path / "metrics.jsonl").touch()
    with pytest.raises(UserError, match="did not finish"):
        find(tmp_path)
    folder = tiny_model("classify", ("a", "b"))
    assert find(folder) == folder


@pytest.mark.torch
def test_tagging_agrees_with_transformers(tagger: Labeller):
    import torch
    from transformers import AutoModelForTokenClassification

    model = AutoModelForTokenClassification.from_pretrained(str(tagger.folder))
    words = ["Peter", "flew", "to", "Reykjavik", "yesterday"]
    encoded = tagger.tokenizer([words], is_split_into_words=True, return_tensors="pt")
    with torch.no_grad():
        likeliest = model(**encoded).logits[0].argmax(-1).tolist()
    first = [encoded.word_ids(0).index(word) for word in range(len(words))]
    from jaxft.tasks import iob

    expected = iob.repair([TAGS[likeliest[at]] for at in first])
    assert [token["tag"] for token in tagger.predict([words])[0]["tokens"]] == expected
