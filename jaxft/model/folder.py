"""Model folders: config.json, model.safetensors and tokenizer files in, the same out, as `transformers` has them."""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxft import prng
from jaxft.errors import Problems, UserError
from jaxft.model import weights
from jaxft.model.config import BertConfig, read, to_json
from jaxft.model.convert import from_flax, from_params, to_params
from jaxft.model.heads import HEADS
from jaxft.model.initial import initial, nest, shapes

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "special_tokens_map.json",
    "added_tokens.json",
)


@dataclass(frozen=True)
class LoadReport:
    """What reading a folder found. Names of tensors as in the file; `initialised` are parameter paths with slashes."""

    missing: tuple[str, ...] = ()
    """Tensors of the pooler or head that the folder has not."""
    extra: tuple[str, ...] = ()
    """Tensors of the folder that this model does not use."""
    initialised: tuple[str, ...] = ()
    """Parameters that were drawn anew."""


def load(
    folder: str | Path,
    head: str,
    num_labels: int | None = None,
    init_key: prng.Words | None = None,
    *,
    keep_head: bool = True,
    assume_bert: bool = False,
) -> tuple[BertConfig, dict[str, Any], LoadReport]:
    """A folder's configuration and its parameters (numpy f32) for a head of `HEADS`.

    num_labels: C of a classifier; none: as many as the folder's own has.
    init_key: draws the parameters of pooler and head that the folder lacks; without it they are errors.
    keep_head: False draws the classifier anew even where the folder has one (other labels, another task).
    The returned config's `labels` are the folder's, LABEL_0 ... where a classifier has none, () where it is drawn anew.
    Raises UserError with every problem: config, file format, missing or ill-shaped tensors.
    """
    config = read(folder, assume_bert=assume_bert)
    tensors = weights.read_folder(folder)
    return build(config, tensors, str(folder), head, num_labels, init_key, keep_head=keep_head)


def build(
    config: BertConfig,
    tensors: weights.Tensors,
    where: str,
    head: str,
    num_labels: int | None = None,
    init_key: prng.Words | None = None,
    *,
    keep_head: bool = True,
) -> tuple[BertConfig, dict[str, Any], LoadReport]:
    """As `load`, from a configuration and tensors already read."""
    if head not in HEADS:
        raise UserError(where, f"unknown head {head!r}", f"one of {', '.join(HEADS)}")
    classes, replaced = 0, ()
    if HEADS[head].classifier:
        if not keep_head:
            replaced = tuple(sorted(name for name in tensors if name.startswith("classifier.")))
            tensors = {name: tensor for name, tensor in tensors.items() if name not in replaced}
        classes = _classes(config, tensors, where, num_labels)
    problems, every = Problems(), shapes(config, head, classes)
    found = to_params(tensors, config, head, every, where, problems)
    missing = tuple(name for names in found.missing.values() for name in names)
    if init_key is None and not problems.errors:
        for name in missing:
            problems.add(where, f"tensor {name} of the {head!r} head is missing", "fine-tune the model first")
    problems.raise_if_any()
    params = dict(found.params)
    if init_key is not None:
        params |= {path: initial(path, every[path], config, init_key) for path in found.missing}
    if HEADS[head].classifier:
        config = _with_labels(config, where, classes, drawn=("classifier", "kernel") in found.missing)
    drawn = tuple("/".join(path) for path in found.missing)
    return config, nest(params), LoadReport(missing, tuple(sorted((*found.extra, *replaced))), drawn)


def cut(config: BertConfig, params: dict[str, Any], layers: int, where: str) -> tuple[BertConfig, dict[str, Any]]:
    """The model with its bottom `layers` layers only. Raises UserError where it has fewer."""
    if layers > config.num_hidden_layers:
        raise UserError(where, f"asks for {layers} layers, but the model has {config.num_hidden_layers}")
    encoder = params["encoder"]
    kept = jax.tree.map(lambda leaf: leaf[:layers], encoder["layers"])
    config = dataclasses.replace(config, num_hidden_layers=layers)
    return config, {**params, "encoder": {**encoder, "layers": kept}}


def save(
    folder: str | Path,
    config: BertConfig,
    params: dict[str, Any],
    head: str,
    labels: tuple[str, ...] = (),
    multi_label: bool = False,
) -> None:
    """Writes model.safetensors and config.json for the head's `transformers` class, each whole or not at all."""
    folder, parts = Path(folder), HEADS[head]
    classes = np.size(params["classifier"]["bias"]) if parts.classifier else 0
    if parts.classifier and len(labels) != classes:
        raise ValueError(f"{len(labels)} labels for a classifier of {classes} classes")
    tensors = from_params(params, head)
    text = to_json(config, parts.architecture, labels if parts.classifier else (), multi_label)
    weights.write(folder / weights.SINGLE, tensors)
    weights.write_bytes(folder / "config.json", text.encode())


def copy_tokenizer(source: str | Path, target: str | Path) -> tuple[str, ...]:
    """Copies the tokenizer's files byte for byte; their names. Raises UserError where there are none."""
    source, target = Path(source), Path(target)
    names = tuple(name for name in TOKENIZER_FILES if (source / name).is_file())
    if not {"tokenizer.json", "vocab.txt"} & set(names):
        raise UserError(str(source), "has neither tokenizer.json nor vocab.txt", "put the tokenizer's files there")
    target.mkdir(parents=True, exist_ok=True)
    for name in names:
        if (source / name).resolve() != (target / name).resolve():
            shutil.copyfile(source / name, target / name)
    return names


def convert(
    source: str | Path, target: str | Path, head: str | None = None, *, assume_bert: bool = False
) -> tuple[str, LoadReport]:
    """Writes a checkpoint in another format or spelling as a model folder; the head used, and what was found.

    source: a folder with config.json and flax_model.msgpack or safetensors (any spelling, half precision, sharded), or
    such a file with config.json beside it. head: of `HEADS`; none: by the class named in config.json.
    """
    source, target = Path(source), Path(target)
    folder = source.parent if source.is_file() else source
    config = read(folder, assume_bert=assume_bert)
    head = head or head_of(config, str(folder / "config.json"))
    problems = Problems()
    tensors = _read_any(source, problems)
    problems.raise_if_any()
    config, params, report = build(config, tensors, str(source), head)
    save(target, config, params, head, config.labels, config.problem_type == "multi_label_classification")
    if any((folder / name).is_file() for name in ("tokenizer.json", "vocab.txt")):
        copy_tokenizer(folder, target)
    return head, report


def head_of(config: BertConfig, where: str = "config.json") -> str:
    """The head of the `transformers` class named in config.json (with Flax before it or not)."""
    heads = {parts.architecture: name for name, parts in HEADS.items()}
    names = [name.removeprefix("Flax") for name in config.architectures]
    if len(names) == 1 and names[0] in heads:
        return heads[names[0]]
    what = f"architectures is {list(config.architectures)}, supported is one of {', '.join(heads)}"
    raise UserError(where, what, f"name the head: {', '.join(HEADS)} ('none' keeps the encoder and pooler)")


def _read_any(source: Path, problems: Problems) -> weights.Tensors:
    """Tensors under PyTorch's names from a folder or file."""
    if source.is_dir() and not any((source / name).is_file() for name in (weights.SINGLE, weights.INDEX)):
        old = source / weights.MSGPACK
        source = old if old.is_file() else source
    if source.suffix == ".msgpack":
        return from_flax(weights.read_msgpack(source), str(source), problems)
    if source.suffix == ".safetensors":
        return weights.read(source)
    if source.is_file():
        raise weights.refusal(source)
    return weights.read_folder(source)


def _classes(config: BertConfig, tensors: weights.Tensors, where: str, num_labels: int | None) -> int:
    """C: as asked for, else as the classifier in the folder has it."""
    if num_labels is not None:
        return num_labels
    weight = tensors.get("classifier.weight")
    if weight is None or weight.ndim != 2 or weight.shape[0] < 1:
        came = "no classifier.weight" if weight is None else f"a classifier.weight of shape {list(weight.shape)}"
        raise UserError(where, f"has {came}, expected [C, {config.hidden_size}]", "fine-tune the model first")
    return weight.shape[0]


def _with_labels(config: BertConfig, where: str, classes: int, drawn: bool) -> BertConfig:
    """The configuration with the names of the classes that its classifier has; none for one drawn anew."""
    if drawn:
        return dataclasses.replace(config, labels=(), problem_type=None)
    if "BertForSequenceClassification" in config.architectures and (
        config.problem_type == "regression" or (config.problem_type is None and classes == 1)
    ):
        fix = "fine-tune it with labels of its own"
        raise UserError(where, "its head is a regression (transformers takes one class so), not a classifier", fix)
    labels = config.labels or tuple(f"LABEL_{i}" for i in range(classes))
    if len(labels) != classes:
        raise UserError(where, f"config.json names {len(labels)} classes, the classifier has {classes}")
    return dataclasses.replace(config, labels=labels)
