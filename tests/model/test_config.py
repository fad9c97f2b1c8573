from __future__ import annotations

import json

import pytest

from jaxft.errors import UserError
from jaxft.model.config import BertConfig, parse, read, to_json

GOOD = {
    "model_type": "bert",
    "vocab_size": 100,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}

# As published, keys and all: an uncased, a multilingual and a fine-tuned BERT.
HUB = {
    "uncased": """{"architectures": ["BertForMaskedLM"], "attention_probs_dropout_prob": 0.1,
        "gradient_checkpointing": false, "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": 768,
        "initializer_range": 0.02, "intermediate_size": 3072, "layer_norm_eps": 1e-12, "max_position_embeddings": 512,
        "model_type": "bert", "num_attention_heads": 12, "num_hidden_layers": 12, "pad_token_id": 0,
        "position_embedding_type": "absolute", "transformers_version": "4.6.0.dev0", "type_vocab_size": 2,
        "use_cache": true, "vocab_size": 30522}""",
    "multilingual": """{"architectures": ["BertForMaskedLM"], "attention_probs_dropout_prob": 0.1,
        "classifier_dropout": null, "directionality": "bidi", "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
        "hidden_size": 768, "initializer_range": 0.02, "intermediate_size": 3072, "layer_norm_eps": 1e-12,
        "max_position_embeddings": 512, "model_type": "bert", "num_attention_heads": 12, "num_hidden_layers": 12,
        "pad_token_id": 0, "pooler_fc_size": 768, "pooler_num_attention_heads": 12, "pooler_num_fc_layers": 3,
        "pooler_size_per_head": 128, "pooler_type": "first_token_transform", "position_embedding_type": "absolute",
        "transformers_version": "4.24.0.dev0", "type_vocab_size": 2, "use_cache": true, "vocab_size": 119547}""",
    "fine-tuned": """{"_num_labels": 3, "architectures": ["BertForTokenClassification"],
        "attention_probs_dropout_prob": 0.1, "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": 768,
        "id2label": {"0": "O", "1": "B-PER", "2": "I-PER"}, "initializer_range": 0.02, "intermediate_size": 3072,
        "label2id": {"B-PER": 1, "I-PER": 2, "O": 0}, "layer_norm_eps": 1e-12, "max_position_embeddings": 512,
        "model_type": "bert", "num_attention_heads": 12, "num_hidden_layers": 12, "output_past": true,
        "pad_token_id": 0, "type_vocab_size": 2, "vocab_size": 28996}""",
}


@pytest.mark.parametrize("name", sorted(HUB))
def test_published_configs_are_read(name):
    config = parse(json.loads(HUB[name]))
    assert (config.hidden_size, config.head_size, config.num_hidden_layers) == (768, 64, 12)
    assert config.labels == (("O", "B-PER", "I-PER") if name == "fine-tuned" else ())


def test_real_folders(minilm, rxnbert):
    assert read(minilm).hidden_size == 384 and read(minilm).architectures == ("BertModel",)
    with pytest.raises(UserError, match='model_type is missing.*add "model_type": "bert"'):
        read(rxnbert)
    assert read(rxnbert, assume_bert=True).vocab_size == 591


@pytest.mark.parametrize("extra", [{}, {"id2label": {0: "a", 1: "b"}, "problem_type": "multi_label_classification"}])
def test_what_transformers_writes_is_read(extra, tmp_path):
    from transformers import BertConfig as Theirs

    Theirs(hidden_size=32, num_attention_heads=4, hidden_act="gelu_new", **extra).save_pretrained(tmp_path)
    config = read(tmp_path)
    assert config.hidden_act == "gelu_new" and config.num_hidden_layers == 12
    assert config.labels == (("a", "b") if extra else ())


@pytest.mark.parametrize("multi_label", [False, True])
def test_what_is_written_is_read_by_transformers_and_by_us(multi_label, tmp_path):
    from transformers import AutoConfig

    config = parse(GOOD | {"classifier_dropout": 0.3, "layer_norm_eps": 1e-5})
    text = to_json(config, "BertForSequenceClassification", ("café", "b c"), multi_label)
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    theirs, ours = AutoConfig.from_pretrained(tmp_path), read(tmp_path)
    problem = "multi_label_classification" if multi_label else "single_label_classification"
    assert theirs.id2label == {0: "café", 1: "b c"} and theirs.label2id == {"café": 0, "b c": 1}
    assert theirs.problem_type == ours.problem_type == problem
    assert theirs.architectures == ["BertForSequenceClassification"] == list(ours.architectures)
    for name in ("vocab_size", "hidden_size", "classifier_dropout", "layer_norm_eps", "hidden_act", "pad_token_id"):
        assert getattr(theirs, name) == getattr(ours, name) == getattr(config, name), name


UNSUPPORTED = {
    "position_embedding_type": ("relative_key", r"position_embedding_type = 'relative_key'.*supported: 'absolute'"),
    "is_decoder": (True, "is_decoder = True.*supported: False"),
    "add_cross_attention": (True, "add_cross_attention"),
    "tie_word_embeddings": (False, "tie_word_embeddings = False.*supported: True"),
    "pruned_heads": ({"0": [1]}, "pruned_heads"),
    "chunk_size_feed_forward": (64, "chunk_size_feed_forward"),
    "is_encoder_decoder": (0, "is_encoder_decoder = 0"),
    "hidden_act": ("silu", r"hidden_act: expected gelu \| gelu_new \| gelu_pytorch_tanh \| relu, came 'silu'"),
    "model_type": ("roberta", "model_type is 'roberta'.*only 'bert'"),
    "attention_window": ([512], r"unknown key 'attention_window' = \[512\]"),
    "auto_map": ({"AutoModel": "modeling.Evil"}, "unknown key 'auto_map'"),
    "quantization_config": ({"bits": 4}, "unknown key 'quantization_config'"),
    "problem_type": ("ranking", "problem_type: expected single_label_classification"),
    "architectures": ("BertModel", "architectures: expected a list"),
    "hidden_size": (33, "hidden_size 33 is not a multiple of num_attention_heads 4"),
    "pad_token_id": (100, "pad_token_id 100 is outside the vocabulary of 100"),
    "vocab_size": (0, "vocab_size: expected a whole number from 1 to 10000000, came 0"),
    "num_hidden_layers": (-1, "num_hidden_layers"),
    "num_attention_heads": (4.0, "num_attention_heads: expected a whole number from 1 to 1024, came 4.0"),
    "intermediate_size": ("64", "intermediate_size.*came '64'"),
    "max_position_embeddings": (10**12, "max_position_embeddings"),
    "type_vocab_size": (True, "type_vocab_size"),
    "layer_norm_eps": (0, "layer_norm_eps"),
    "hidden_dropout_prob": (1.0, "hidden_dropout_prob: expected a rate"),
    "attention_probs_dropout_prob": (-0.1, "attention_probs_dropout_prob"),
    "classifier_dropout": ("0.1", "classifier_dropout"),
    "initializer_range": (None, "initializer_range"),
    "id2label": ({"0": "a", "2": "b"}, r"id2label: expected the keys 0 .. 1"),
    "num_labels": (5, "num_labels is 5, but id2label has 2 entries"),
    "label2id": ({"a": 1, "b": 0}, "label2id .* is not the inverse of id2label"),
}


@pytest.mark.parametrize("key", sorted(UNSUPPORTED))
def test_an_unsupported_value_is_named(key):
    value, message = UNSUPPORTED[key]
    labels = {"id2label": {"0": "a", "1": "b"}} if key in ("num_labels", "label2id") else {}
    with pytest.raises(UserError, match=message) as error:
        parse(GOOD | labels | {key: value})
    assert len(error.value.problems) == 1


def test_all_problems_are_told_at_once():
    bad = {key: value for key, value in GOOD.items() if key != "vocab_size"}
    with pytest.raises(UserError) as error:
        parse(bad | {"model_type": "gpt2", "n_embd": 3, "hidden_size": -1, "is_decoder": True})
    text = str(error.value)
    assert len(error.value.problems) == 5
    assert all(word in text for word in ("gpt2", "n_embd", "hidden_size", "is_decoder", "vocab_size is missing"))


@pytest.mark.parametrize("labels", [{"0": "a", "1": "a"}, {"0": 1}, ["a"], {"x": "a"}])
def test_bad_label_names(labels):
    with pytest.raises(UserError, match="id2label"):
        parse(GOOD | {"id2label": labels})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a readable JSON file"),
        (b"{", "not a readable JSON file"),
        (b"[1]", "expected a JSON object, came list"),
        (b"\xff\xfe{}", "not a readable JSON file"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b'{"vocab_size": 1, "vocab_size": 2}', "'vocab_size' is given twice"),
        (b"[" * 100_000, "not a readable JSON file"),
    ],
)
def test_bad_files(content, message, tmp_path):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        read(tmp_path)
    assert error.value.problems[0].where == str(tmp_path / "config.json")


def test_no_file(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read(tmp_path)


def test_a_hostile_value_does_not_flood_the_terminal():
    with pytest.raises(UserError) as error:
        parse(GOOD | {"x" * 10_000: "y" * 10_000})
    assert len(str(error.value)) < 500


def test_the_defaults_are_those_of_transformers():
    from transformers import BertConfig as Theirs

    ours = BertConfig(30522, 768, 12, 12, 3072)
    theirs = Theirs()
    names = [
        name for name in BertConfig.__dataclass_fields__ if name not in ("architectures", "labels", "problem_type")
    ]
    assert {name: getattr(ours, name) for name in names} == {name: getattr(theirs, name) for name in names}
