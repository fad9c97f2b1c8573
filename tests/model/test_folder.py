from __future__ import annotations

import json

import jax
import numpy as np
import pytest
from flax.serialization import msgpack_serialize
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from jaxft import prng
from jaxft.errors import UserError
from jaxft.model import folder, weights
from jaxft.model.config import to_json

KEY = prng.stream("init", 0)


def same(one, other) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.fixture
def tagger(small, draw, tmp_path):
    """A saved token classifier, and its parameters."""
    params = draw(small, "tag", 3)
    folder.save(tmp_path / "tagger", small, params, "tag", ("O", "B-X", "I-X"))
    return tmp_path / "tagger", params


# --- load and save ---------------------------------------------------------------------------------------------------


def test_saved_folders_load(tagger):
    config, params, report = folder.load(tagger[0], "tag")
    same(params, tagger[1])
    assert config.labels == ("O", "B-X", "I-X") and config.architectures == ("BertForTokenClassification",)
    assert report == folder.LoadReport()
    assert sorted(path.name for path in tagger[0].iterdir()) == ["config.json", "model.safetensors"]


def test_labels_must_fit_the_classifier(small, draw, tmp_path):
    with pytest.raises(ValueError, match="2 labels for a classifier of 3"):
        folder.save(tmp_path / "x", small, draw(small, "tag", 3), "tag", ("a", "b"))
    assert not (tmp_path / "x").exists()


def test_another_head_starts_from_the_encoder_and_says_so(tagger):
    config, params, report = folder.load(tagger[0], "classify", 2, KEY, keep_head=False)
    assert config.labels == () and params["classifier"]["kernel"].shape == (16, 2)
    assert report.missing == ("pooler.dense.weight", "pooler.dense.bias", "classifier.weight", "classifier.bias")
    assert report.initialised == ("pooler/kernel", "pooler/bias", "classifier/kernel", "classifier/bias")
    assert report.extra == ("classifier.bias", "classifier.weight")
    same(params["encoder"], tagger[1]["encoder"])


def test_a_classifier_of_another_size_is_an_error_unless_drawn_anew(tagger):
    with pytest.raises(UserError, match=r"classifier.weight has shape \[3, 16\], config.json asks for \[5, 16\]"):
        folder.load(tagger[0], "tag", 5, KEY)
    _, params, report = folder.load(tagger[0], "tag", 5, KEY, keep_head=False)
    assert params["classifier"]["bias"].shape == (5,) and "classifier/kernel" in report.initialised


def test_without_a_key_nothing_is_drawn(tagger):
    with pytest.raises(UserError) as error:
        folder.load(tagger[0], "classify")
    text = str(error.value)
    assert len(error.value.problems) == 2 and "pooler.dense.weight of the 'classify' head is missing" in text


def test_a_bare_encoder_has_no_classes(small, draw, tmp_path):
    folder.save(tmp_path, small, draw(small, "none"), "none")
    with pytest.raises(UserError, match=r"no classifier.weight, expected \[C, 16\].*fine-tune"):
        folder.load(tmp_path, "tag")
    assert "id2label" not in json.loads((tmp_path / "config.json").read_text())


def test_unnamed_classes_get_the_names_that_transformers_gives(small, draw, tmp_path):
    folder.save(tmp_path, small, draw(small, "tag", 2), "tag", ("a", "b"))
    (tmp_path / "config.json").write_text(to_json(small, "BertForTokenClassification"))
    assert folder.load(tmp_path, "tag")[0].labels == ("LABEL_0", "LABEL_1")
    (tmp_path / "config.json").write_text(to_json(small, "BertForTokenClassification", ("a", "b", "c")))
    with pytest.raises(UserError, match="config.json names 3 classes, the classifier has 2"):
        folder.load(tmp_path, "tag")


@pytest.mark.parametrize(("classes", "problem"), [(3, "regression"), (1, None)])
def test_a_regression_head_is_refused_and_may_be_replaced(small, draw, tmp_path, classes, problem):
    folder.save(tmp_path, small, draw(small, "classify", classes), "classify", ("a", "b", "c")[:classes])
    config = json.loads((tmp_path / "config.json").read_text()) | {"problem_type": problem}
    (tmp_path / "config.json").write_text(json.dumps(config))
    for read in (lambda: folder.load(tmp_path, "classify"), lambda: folder.convert(tmp_path, tmp_path / "out")):
        with pytest.raises(UserError, match="its head is a regression"):
            read()
    assert folder.load(tmp_path, "classify", 2, KEY, keep_head=False)[0].labels == ()


def test_unknown_head(tagger):
    with pytest.raises(UserError, match="unknown head 'tags'"):
        folder.load(tagger[0], "tags")


def test_real_weights_in_and_out_are_bit_identical(minilm, tmp_path):
    config, params, report = folder.load(minilm, "none")
    assert report == folder.LoadReport()
    folder.save(tmp_path, config, params, "none")
    before, after = load_file(minilm / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    assert set(before) - set(after) == {"embeddings.position_ids"} and set(after) < set(before)
    assert len(after) == 103
    for name, tensor in after.items():
        assert tensor.dtype == before[name].dtype and tensor.tobytes() == before[name].tobytes(), name
    with safe_open(tmp_path / "model.safetensors", "numpy") as file:
        assert file.metadata() == {"format": "pt"}
    # Once more: the same file, byte for byte.
    folder.save(tmp_path / "again", *folder.load(tmp_path, "none")[:2], "none")
    assert (tmp_path / "again/model.safetensors").read_bytes() == (tmp_path / "model.safetensors").read_bytes()
    assert (tmp_path / "again/config.json").read_bytes() == (tmp_path / "config.json").read_bytes()


def test_loading_is_deterministic_and_the_head_hangs_on_the_key(minilm):
    one = folder.load(minilm, "classify", 2, KEY)[1]["classifier"]["kernel"]
    again = folder.load(minilm, "classify", 2, KEY)[1]["classifier"]["kernel"]
    other = folder.load(minilm, "classify", 2, prng.stream("init", 1))[1]["classifier"]["kernel"]
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


# --- tokenizer -------------------------------------------------------------------------------------------------------


def test_the_tokenizer_is_copied_byte_for_byte(minilm, tmp_path):
    names = folder.copy_tokenizer(minilm, tmp_path / "out")
    assert {"tokenizer.json", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json"} == set(names)
    for name in names:
        assert (tmp_path / "out" / name).read_bytes() == (minilm / name).read_bytes()
    assert folder.copy_tokenizer(tmp_path / "out", tmp_path / "out") == names
    with pytest.raises(UserError, match="neither tokenizer.json nor vocab.txt"):
        folder.copy_tokenizer(tmp_path, tmp_path / "other")


# --- convert ---------------------------------------------------------------------------------------------------------


def flax_tree(tensors) -> dict:
    """v4 Flax BERT's tree of a PyTorch checkpoint's tensors."""
    tree: dict = {}
    for name, tensor in tensors.items():
        *path, last = name.split(".")
        if last == "weight":
            last = "scale" if path[-1] == "LayerNorm" else "embedding" if "embeddings" in path[-1] else "kernel"
        node = tree
        for key in path:
            node = node.setdefault(key, {})
        node[last] = tensor.T.copy() if last == "kernel" else tensor
    return tree


@pytest.mark.parametrize("given", ["folder", "file"])
def test_an_old_flax_checkpoint_becomes_a_model_folder(minilm, tmp_path, given):
    before = load_file(minilm / "model.safetensors")
    before.pop("embeddings.position_ids")
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    (old / "flax_model.msgpack").write_bytes(msgpack_serialize(flax_tree(before)))
    (old / "config.json").write_bytes((minilm / "config.json").read_bytes())
    folder.copy_tokenizer(minilm, old)
    with pytest.raises(UserError, match="jaxft convert"):
        folder.load(old, "none")
    head, report = folder.convert(old if given == "folder" else old / "flax_model.msgpack", new)
    assert (head, report) == ("none", folder.LoadReport())
    after = load_file(new / "model.safetensors")
    assert after.keys() == before.keys() and all(after[name].tobytes() == before[name].tobytes() for name in after)
    assert (new / "tokenizer.json").read_bytes() == (minilm / "tokenizer.json").read_bytes()


def test_half_precision_shards_with_a_head_become_a_model_folder(tagger, tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    tensors = {name: tensor.astype(np.float16) for name, tensor in load_file(tagger[0] / "model.safetensors").items()}
    names = sorted(tensors)
    files = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, some in files.items():
        save_file({name: tensors[name] for name in some}, old / file)
    weight_map = {name: file for file, some in files.items() for name in some}
    (old / weights.INDEX).write_text(json.dumps({"weight_map": weight_map}))
    (old / "config.json").write_bytes((tagger[0] / "config.json").read_bytes())
    assert folder.convert(old, new)[0] == "tag"
    config, params, _ = folder.load(new, "tag")
    assert config.labels == ("O", "B-X", "I-X")
    same(params, jax.tree.map(lambda leaf: leaf.astype(np.float16).astype(np.float32), tagger[1]))


@pytest.mark.parametrize("architectures", [["BertForQuestionAnswering"], [], ["BertModel", "BertForMaskedLM"]])
def test_convert_asks_for_the_head_it_cannot_tell(tagger, tmp_path, architectures):
    config = json.loads((tagger[0] / "config.json").read_text()) | {"architectures": architectures}
    (tagger[0] / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="architectures is .* name the head"):
        folder.convert(tagger[0], tmp_path / "out")
    assert folder.convert(tagger[0], tmp_path / "out", "tag")[0] == "tag"


def test_convert_names_what_it_leaves_out(tagger, tmp_path):
    tensors = load_file(tagger[0] / "model.safetensors")
    save_file(tensors | {"qa_outputs.bias": np.zeros(2, np.float32)}, tagger[0] / "model.safetensors")
    assert folder.convert(tagger[0], tmp_path / "out")[1].extra == ("qa_outputs.bias",)


@pytest.mark.parametrize(
    ("name", "message"),
    [("model.bin", "is a pickle"), ("tf_model.h5", "TensorFlow"), ("weights.npz", "not a weight file")],
)
def test_convert_refuses_other_files_and_writes_nothing(tagger, tmp_path, name, message):
    (tagger[0] / name).write_bytes(b"x")
    with pytest.raises(UserError, match=message):
        folder.convert(tagger[0] / name, tmp_path / "out")
    assert not (tmp_path / "out").exists()
