"""The model against PyTorch `transformers` with real weights, f32, ragged batches, padded and packed.

Bounds are those that the project promises: hidden states and head logits 1e-5, MLM and NSP logits 1e-4, gradients 1e-5
relative (of PyTorch in f64, which leaves jaxft's own rounding).
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft.model import folder, weights
from jaxft.model.convert import from_params
from jaxft.model.heads import Bert
from jaxft.prng import stream

pytestmark = pytest.mark.torch

KEY = stream("init", 0)
TEXTS = (
    "Barack Obama was born in Hawaii.",
    "No.",
    "Free entry in 2 a weekly competition to win FA Cup final tickets 21st May 2005, text FA to 87121 now!",
    "What is the capital of Yugoslavia ?",
    "The European Commission said on Thursday it disagreed with German advice to consumers to shun British lamb until "
    "scientists determine whether mad cow disease can be transmitted to sheep.",
)
TAGS = ("O", "B-LOC", "I-LOC", "B-MISC", "I-MISC", "B-ORG", "I-ORG", "B-PER", "I-PER")
PADDED = ([[0], [1], [2], [3], [4]], 48)
PACKED = ([[4, 1], [2, 3], [0]], 48)


@pytest.fixture(scope="module", autouse=True)
def precise():
    with jax.default_matmul_precision("highest"):
        yield


@pytest.fixture(scope="module")
def encoded(minilm) -> list[list[int]]:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(minilm)(list(TEXTS))["input_ids"]


def ours(config, params, head, batch, num_labels=0, **how):
    model = Bert(config, head, num_labels)
    return jax.jit(lambda params: model.apply({"params": params}, batch, **how))(params)


def theirs(model, batch, **how):
    """The PyTorch model on a padded batch."""
    import torch

    inputs = {"input_ids": batch["tokens"], "attention_mask": batch["segments"] > 0, "token_type_ids": batch["types"]}
    with torch.no_grad():
        return model.eval()(**{name: torch.tensor(array).long() for name, array in inputs.items()}, **how)


def places(batch):
    """Example number -> its row and columns."""
    for row in range(len(batch["segments"])):
        for segment in range(1, batch["segments"][row].max() + 1):
            columns = np.flatnonzero(batch["segments"][row] == segment)
            yield int(batch["example"][row, columns[0]]), row, columns


def gap(came, batch, expected, lengths) -> float:
    """Largest difference over real tokens; expected: padded [E, L, ...], came: by the batch's rows."""
    came = np.asarray(came)
    return max(
        float(np.abs(came[row, columns] - expected[number, : lengths[number]]).max())
        for number, row, columns in places(batch)
    )


def test_minilm_hidden_states_of_every_layer(minilm, encoded, pack):
    from transformers import AutoModel

    config, params, _ = folder.load(minilm, "none")
    batch, lengths = pack(encoded, *PADDED, pairs=7), [len(tokens) for tokens in encoded]
    reference = AutoModel.from_pretrained(minilm)
    expected = theirs(reference, batch, output_hidden_states=True)
    _, every = ours(config, params, "none", batch, all_layers=True, method="hidden")
    for layer in range(7):
        assert gap(every[layer], batch, expected.hidden_states[layer].numpy(), lengths) < 1e-5, layer
    exact = theirs(reference.double(), batch).last_hidden_state.numpy()
    assert gap(every[-1], batch, exact, lengths) < 1e-5


def test_minilm_packed_rows(minilm, encoded, pack):
    from transformers import AutoModel

    config, params, _ = folder.load(minilm, "none")
    batch, lengths = pack(encoded, *PACKED, pairs=7), [len(tokens) for tokens in encoded]
    expected = theirs(AutoModel.from_pretrained(minilm), pack(encoded, *PADDED, pairs=7))
    hidden, pooled = ours(config, params, "none", batch)
    assert gap(hidden, batch, expected.last_hidden_state.numpy(), lengths) < 1e-5
    for row, some in enumerate(PACKED[0]):
        for segment, number in enumerate(some):
            np.testing.assert_allclose(pooled[row, segment], expected.pooler_output[number], atol=1e-5, rtol=0)


@pytest.mark.parametrize("head", ["classify", "tag"])
def test_exported_models_give_the_same_predictions(minilm, encoded, pack, tmp_path, head):
    """A head of our own on minilm, saved, opened with AutoModel: the same logits, padded and packed."""
    import transformers

    labels = ("ham", "spam", "other") if head == "classify" else TAGS
    config, params, _ = folder.load(minilm, head, len(labels), KEY)
    # Larger than a fresh head, so that classes lie apart: deviation 0.1, logits up to about 5.
    params["classifier"]["kernel"] = params["classifier"]["kernel"] * 5
    params["classifier"]["bias"] = np.linspace(-1, 1, len(labels), dtype=np.float32)
    folder.save(tmp_path, config, params, head, labels)
    folder.copy_tokenizer(minilm, tmp_path)
    kind = {"classify": "AutoModelForSequenceClassification", "tag": "AutoModelForTokenClassification"}[head]
    reference, info = getattr(transformers, kind).from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    assert reference.config.id2label == dict(enumerate(labels))
    expected = theirs(reference, pack(encoded, *PADDED)).logits.numpy()
    for layout in (PADDED, PACKED):
        batch = pack(encoded, *layout)
        logits = np.asarray(ours(config, params, head, batch, len(labels)))
        for number, row, columns in places(batch):
            segment = batch["segments"][row, columns[0]] - 1
            one = logits[row, segment][None] if head == "classify" else logits[row, columns]
            other = expected[number][None] if head == "classify" else expected[number, : len(columns)]
            np.testing.assert_allclose(one, other, atol=1e-5, rtol=0)
            np.testing.assert_array_equal(one.argmax(-1), other.argmax(-1))


def test_a_multi_label_export_opens(minilm, tmp_path):
    from transformers import AutoConfig

    config, params, _ = folder.load(minilm, "classify", 2, KEY)
    folder.save(tmp_path, config, params, "classify", ("a", "b"), multi_label=True)
    assert AutoConfig.from_pretrained(tmp_path).problem_type == "multi_label_classification"


def test_rxnbert_mlm_and_nsp_logits(rxnbert, pack, tmp_path):
    import torch
    from transformers import BertConfig, BertForPreTraining

    pickled = torch.load(rxnbert / "pytorch_model.bin", weights_only=True)
    weights.write(tmp_path / "model.safetensors", {name: tensor.numpy() for name, tensor in pickled.items()})
    (tmp_path / "config.json").write_bytes((rxnbert / "config.json").read_bytes())
    config, params, report = folder.load(tmp_path, "pretrain", assume_bert=True)
    assert report == folder.LoadReport()
    reference = BertForPreTraining(BertConfig.from_json_file(str(rxnbert / "config.json")))
    missing = reference.load_state_dict(pickled, strict=False).missing_keys
    assert set(missing) <= {"cls.predictions.decoder.bias"}  # shares storage with cls.predictions.bias
    rng = np.random.default_rng(0)
    examples = [[12, *rng.integers(14, 591, length - 1).tolist()] for length in (30, 3, 47, 11)]
    padded, packed = pack(examples, [[0], [1], [2], [3]], 48, pairs=5), pack(examples, [[2], [0, 1, 3]], 48, pairs=5)
    expected = theirs(reference, padded)
    for batch, slots in ((padded, [(i, 0) for i in range(4)]), (packed, [(1, 0), (1, 1), (0, 0), (1, 2)])):
        words, follows = ours(config, params, "pretrain", batch)
        assert gap(words, batch, expected.prediction_logits.numpy(), [30, 3, 47, 11]) < 1e-4
        for number, slot in enumerate(slots):
            np.testing.assert_allclose(follows[slot], expected.seq_relationship_logits[number], atol=1e-4, rtol=0)


def loss_of(logits, targets, mask):
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), targets[..., None], axis=-1)[..., 0]
    return -(chosen * mask).sum()


@pytest.mark.parametrize("head", ["classify", "tag"])
def test_gradients_against_autograd(minilm, encoded, pack, tmp_path, head):
    """Cross-entropy on the bottom two layers of minilm: each tensor's gradient within 1e-5 of its norm."""
    import torch
    import transformers

    num_labels = 5
    config, params, _ = folder.load(minilm, head, num_labels, KEY)
    config = dataclasses.replace(config, num_hidden_layers=2)
    params["encoder"]["layers"] = jax.tree.map(lambda leaf: leaf[:2], params["encoder"]["layers"])
    folder.save(tmp_path, config, params, head, tuple("abcde"))
    padded, batch = pack(encoded, *PADDED), pack(encoded, *PACKED)
    rng = np.random.default_rng(0)
    by_example = rng.integers(0, num_labels, (len(TEXTS), 48))

    kind = {"classify": "BertForSequenceClassification", "tag": "BertForTokenClassification"}[head]
    reference = getattr(transformers, kind).from_pretrained(tmp_path).eval().double()
    inputs = {"input_ids": padded["tokens"], "attention_mask": padded["segments"], "token_type_ids": padded["types"]}
    logits = reference(**{name: torch.tensor(array).long() for name, array in inputs.items()}).logits
    wanted = torch.tensor(np.where(padded["segments"] > 0, by_example, -100)).long()
    wanted = wanted[:, 0] if head == "classify" else wanted
    torch.nn.functional.cross_entropy(logits.flatten(0, -2), wanted.flatten(), reduction="sum").backward()
    expected = {name: p.grad.numpy() for name, p in reference.named_parameters() if p.grad is not None}

    if head == "classify":
        targets, mask = np.zeros((3, 2), np.int32), np.zeros((3, 2), np.float32)
        for row, some in enumerate(PACKED[0]):
            for segment, number in enumerate(some):
                targets[row, segment], mask[row, segment] = by_example[number, 0], 1
    else:
        targets, mask = np.zeros((3, 48), np.int32), (batch["segments"] > 0).astype(np.float32)
        for number, row, columns in places(batch):
            targets[row, columns] = by_example[number, : len(columns)]
    model = Bert(config, head, num_labels)
    gradient = jax.jit(jax.grad(lambda p: loss_of(model.apply({"params": p}, batch), targets, mask)))(params)
    came = from_params(gradient, head)

    assert came.keys() == expected.keys()
    for name, one in came.items():
        # Scores don't change when every key moves by the same vector: the key bias has a zero gradient, so it is
        # measured against the query's.
        scale = np.linalg.norm(expected[name.replace("key.bias", "query.bias")])
        assert np.linalg.norm(one - expected[name]) <= 1e-5 * scale, name
