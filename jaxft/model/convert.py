"""Parameter names: those of Hugging Face BERT checkpoints <-> jaxft's parameter tree, bit for bit both ways.

    bert.encoder.layer.7.attention.self.query.weight  [D, D]  (out, in)
    encoder / layers / qkv / kernel                   [N, D, 3, H, Dh]  (layer, in, q k v, head, out)

Layers are stacked on the leading axis; query, key and value lie side by side; dense weights are transposed. `LEAVES`
says it all; the rest reads it in one direction or the other. Old spellings (no `bert.` prefix, LayerNorm.gamma / beta)
and the names of v4 Flax checkpoints are read; what is written has the names of today's PyTorch class.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from jaxft.errors import Problems
from jaxft.model.bert import join_layers
from jaxft.model.config import BertConfig, show
from jaxft.model.heads import HEADS, Head
from jaxft.model.weights import Tensors

Path = tuple[str, ...]
Params = dict[str, Any]


@dataclass(frozen=True)
class Leaf:
    """One parameter: where it is in the tree, the tensors it is made of ({} is the layer), and how."""

    path: Path
    names: tuple[str, ...]
    kind: Literal["plain", "transposed", "qkv kernel", "qkv bias"] = "plain"

    @property
    def stacked(self) -> bool:
        return self.path[:2] == ("encoder", "layers")

    def at(self, layer: int) -> tuple[str, ...]:
        """The tensors' names in one layer."""
        return tuple(name.format(layer) for name in self.names)


def _dense(path: Path, name: str) -> list[Leaf]:
    return [Leaf((*path, "kernel"), (f"{name}.weight",), "transposed"), Leaf((*path, "bias"), (f"{name}.bias",))]


def _norm(path: Path, name: str) -> list[Leaf]:
    return [Leaf((*path, "scale"), (f"{name}.weight",)), Leaf((*path, "bias"), (f"{name}.bias",))]


_EMBEDDINGS, _LAYER = ("encoder", "embeddings"), ("encoder", "layers")
_QKV = tuple(f"encoder.layer.{{}}.attention.self.{part}" for part in ("query", "key", "value"))
_ENCODER = [
    Leaf((*_EMBEDDINGS, "word"), ("embeddings.word_embeddings.weight",)),
    Leaf((*_EMBEDDINGS, "position"), ("embeddings.position_embeddings.weight",)),
    Leaf((*_EMBEDDINGS, "type"), ("embeddings.token_type_embeddings.weight",)),
    *_norm((*_EMBEDDINGS, "norm"), "embeddings.LayerNorm"),
    Leaf((*_LAYER, "qkv", "kernel"), tuple(f"{name}.weight" for name in _QKV), "qkv kernel"),
    Leaf((*_LAYER, "qkv", "bias"), tuple(f"{name}.bias" for name in _QKV), "qkv bias"),
    *_dense((*_LAYER, "out"), "encoder.layer.{}.attention.output.dense"),
    *_norm((*_LAYER, "attention_norm"), "encoder.layer.{}.attention.output.LayerNorm"),
    *_dense((*_LAYER, "up"), "encoder.layer.{}.intermediate.dense"),
    *_dense((*_LAYER, "down"), "encoder.layer.{}.output.dense"),
    *_norm((*_LAYER, "ffn_norm"), "encoder.layer.{}.output.LayerNorm"),
]
_POOLER = _dense(("pooler",), "pooler.dense")
_CLASSIFIER = _dense(("classifier",), "classifier")
_MLM = [
    *_dense(("mlm", "transform"), "cls.predictions.transform.dense"),
    *_norm(("mlm", "norm"), "cls.predictions.transform.LayerNorm"),
    Leaf(("mlm", "bias"), ("cls.predictions.bias",)),
]
_NSP = _dense(("nsp",), "cls.seq_relationship")

_POSITIONS = "embeddings.position_ids"
_DECODER = "cls.predictions.decoder.weight"
_DECODER_BIAS = "cls.predictions.decoder.bias"
_WORDS = "embeddings.word_embeddings.weight"


def leaves(head: str) -> list[Leaf]:
    """The parameters of a model with this head."""
    parts: Head = HEADS[head]
    heads = ((parts.pooler, _POOLER), (parts.classifier, _CLASSIFIER), (parts.mlm, _MLM), (parts.nsp, _NSP))
    return [*_ENCODER, *(leaf for present, some in heads if present for leaf in some)]


@dataclass(frozen=True)
class Found:
    """What a checkpoint gave: parameters, those it lacks (and the tensors' names), and the tensors not used."""

    params: dict[Path, np.ndarray]
    missing: dict[Path, tuple[str, ...]] = field(default_factory=dict)
    extra: tuple[str, ...] = ()


def to_params(
    tensors: Tensors, config: BertConfig, head: str, shapes: dict[Path, tuple[int, ...]], where: str, problems: Problems
) -> Found:
    """Builds each parameter of `shapes` (path -> shape) from a checkpoint's tensors.

    A missing encoder tensor, a wrong shape, one name in two spellings, and an untied decoder are problems; parameters
    of the pooler or head that are not there come back as `missing`.
    """
    found, original = _canonical(tensors, where, problems)
    _drop_buffers(found, config, head, where, problems)
    params, missing, used = {}, {}, set()
    for leaf in leaves(head):
        rows = [leaf.at(layer) for layer in range(config.num_hidden_layers)] if leaf.stacked else [leaf.names]
        names = [name for row in rows for name in row]
        used |= set(names)
        absent = [name for name in names if name not in found]
        if absent:
            missing[leaf.path] = tuple(absent)
            continue
        shape = shapes[leaf.path]
        expected = _tensor_shape(leaf, shape)
        wrong = [name for name in names if found[name].shape != expected]
        for name in wrong:
            came = list(found[name].shape)
            problems.add(where, f"tensor {original[name]} has shape {came}, config.json asks for {list(expected)}")
        if not wrong:
            pieces = [_JOIN[leaf.kind]([found[name] for name in row], shape) for row in rows]
            params[leaf.path] = np.stack(pieces) if leaf.stacked else np.ascontiguousarray(pieces[0])
    lost = [name for path, names in missing.items() if path[0] == "encoder" for name in names]
    if lost:
        what = f"{len(lost)} tensors of the encoder are missing: {show(', '.join(lost), 400)}"
        problems.add(where, what, "the weights and config.json are not of one BERT model")
    extra = tuple(sorted(original[name] for name in found if name not in used))
    return Found(params, missing, extra)


def from_params(params: Params, head: str) -> Tensors:
    """The tensors of a model's parameters, f32, named as the `transformers` class of this head names them."""
    params, tensors = join_layers(params), {}
    for leaf in leaves(head):
        value: Any = params
        for key in leaf.path:
            value = value[key]
        value = np.asarray(value, np.float32)
        for layer, piece in enumerate(value if leaf.stacked else value[None]):
            for name, tensor in zip(leaf.at(layer), _SPLIT[leaf.kind](piece), strict=True):
                tensors[_written(name, head)] = np.ascontiguousarray(tensor)
    return tensors


def from_flax(tensors: Tensors, where: str, problems: Problems) -> Tensors:
    """The tensors of a v4 Flax checkpoint (paths joined by dots) under PyTorch's names and orientation."""
    out = {}
    for name, tensor in tensors.items():
        stem, _, last = name.rpartition(".")
        if last == "kernel" and tensor.ndim != 2:
            problems.add(where, f"{name} has shape {list(tensor.shape)}, expected [in, out]")
        new = {"kernel": "weight", "embedding": "weight", "scale": "weight"}.get(last, last)
        out[f"{stem}.{new}" if stem else new] = tensor.T if last == "kernel" else tensor
    return out


# --- one parameter ---------------------------------------------------------------------------------------------------


def _join_qkv_kernel(tensors: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Three [D out, D in] -> [D in, 3, H, Dh]."""
    return np.stack([tensor.T.reshape(shape[-4], *shape[-2:]) for tensor in tensors], axis=1)


def _join_qkv_bias(tensors: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Three [D] -> [3, H, Dh]."""
    return np.stack([tensor.reshape(shape[-2:]) for tensor in tensors])


def _split_qkv_kernel(value: np.ndarray) -> list[np.ndarray]:
    return [value[:, part].reshape(value.shape[0], -1).T for part in range(3)]


def _split_qkv_bias(value: np.ndarray) -> list[np.ndarray]:
    return [value[part].reshape(-1) for part in range(3)]


_JOIN: dict[str, Callable[[list[np.ndarray], tuple[int, ...]], np.ndarray]] = {
    "plain": lambda tensors, shape: tensors[0],
    "transposed": lambda tensors, shape: tensors[0].T,
    "qkv kernel": _join_qkv_kernel,
    "qkv bias": _join_qkv_bias,
}
_SPLIT: dict[str, Callable[[np.ndarray], list[np.ndarray]]] = {
    "plain": lambda value: [value],
    "transposed": lambda value: [value.T],
    "qkv kernel": _split_qkv_kernel,
    "qkv bias": _split_qkv_bias,
}


def _tensor_shape(leaf: Leaf, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of each of a leaf's tensors in the checkpoint, from the parameter's shape."""
    shape = shape[1:] if leaf.stacked else shape
    if leaf.kind == "qkv kernel":
        return (shape[-2] * shape[-1], shape[0])
    if leaf.kind == "qkv bias":
        return (shape[-2] * shape[-1],)
    return shape[::-1] if leaf.kind == "transposed" else shape


# --- spellings -------------------------------------------------------------------------------------------------------


def _canonical(tensors: Tensors, where: str, problems: Problems) -> tuple[Tensors, dict[str, str]]:
    """Tensors under one spelling (no `bert.`, LayerNorm.weight / bias), and that spelling -> the file's own."""
    found, original = {}, {}
    for name, tensor in tensors.items():
        new = name.removeprefix("bert.")
        for old, today in ((".gamma", ".weight"), (".beta", ".bias")):
            new = new.removesuffix(old) + today if new.endswith(old) else new
        if new in found:
            problems.add(where, f"{show(name)} and {show(original[new])} are the same parameter", "remove one of them")
        found[new], original[new] = tensor, name
    return found, original


def _drop_buffers(found: Tensors, config: BertConfig, head: str, where: str, problems: Problems) -> None:
    """Removes what a checkpoint repeats: position_ids (0, 1, 2 ...), and the decoder tied to the word embeddings."""
    positions = found.pop(_POSITIONS, None)
    if positions is not None and not np.array_equal(positions.ravel(), np.arange(positions.size)):
        problems.add(where, f"{_POSITIONS} is not 0, 1, 2 ...: other position numbers are not supported")
    if not HEADS[head].mlm:
        return
    decoder, words = found.pop(_DECODER, None), found.get(_WORDS)
    if decoder is not None and words is not None and not np.array_equal(decoder, words):
        problems.add(where, f"{_DECODER} differs from {_WORDS}: an untied decoder is not supported")
    bias = found.pop(_DECODER_BIAS, None)
    if bias is not None and not np.array_equal(found.setdefault("cls.predictions.bias", bias), bias):
        problems.add(where, f"{_DECODER_BIAS} differs from cls.predictions.bias, expected the same parameter")


def _written(name: str, head: str) -> str:
    inside = name.startswith(("embeddings.", "encoder.", "pooler."))
    return f"bert.{name}" if inside and head != "none" else name
