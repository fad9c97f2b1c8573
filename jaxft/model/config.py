"""The configuration of a BERT model, parsed from a model folder's config.json by allow-list.

Every key of the file is either used, allowed at the values that this implementation computes, or listed as bookkeeping
without effect on the numbers; any other key or value is an error that names it. All problems of a file are told at
once. Key names are those of `transformers.BertConfig`. Left out: decoders, cross-attention, relative positions.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from jaxft.errors import Problems, UserError
from jaxft.model.activations import ACTIVATIONS

PROBLEM_TYPES = ("single_label_classification", "multi_label_classification", "regression")

# Keys whose only allowed values are those that this implementation computes; absent is allowed too.
FIXED: dict[str, tuple[Any, ...]] = {
    "position_embedding_type": ("absolute", None),
    "is_decoder": (False,),
    "add_cross_attention": (False,),
    "is_encoder_decoder": (False,),
    "tie_word_embeddings": (True,),
    "tie_encoder_decoder": (False,),
    "cross_attention_hidden_size": (None,),
    "pruned_heads": ({}, None),
    "chunk_size_feed_forward": (0,),
    "directionality": ("bidi",),
    "pooler_type": ("first_token_transform",),
    "use_bfloat16": (False,),
}

# Keys that say nothing about what the model computes: provenance, storage, outputs asked for, text generation, and the
# pooler sizes that the original release wrote and never read.
_BOOKKEEPING = """
    _name_or_path _commit_hash _attn_implementation _attn_implementation_autoset attn_implementation language prefix
    transformers_version torch_dtype dtype torchscript use_cache return_dict output_attentions output_hidden_states
    output_past gradient_checkpointing finetuning_task task_specific_params tokenizer_class model_max_length xla_device
    bos_token_id eos_token_id eos_token_ids sep_token_id cls_token_id mask_token_id unk_token_id decoder_start_token_id
    pooler_fc_size pooler_num_attention_heads pooler_num_fc_layers pooler_size_per_head
    do_sample early_stopping num_beams num_beam_groups num_return_sequences diversity_penalty length_penalty
    repetition_penalty encoder_no_repeat_ngram_size no_repeat_ngram_size temperature top_k top_p typical_p min_length
    max_length bad_words_ids begin_suppress_tokens suppress_tokens forced_bos_token_id forced_eos_token_id
    exponential_decay_length_penalty remove_invalid_values return_dict_in_generate output_scores tf_legacy_loss
"""
BOOKKEEPING = frozenset(_BOOKKEEPING.split())


@dataclass(frozen=True)
class BertConfig:
    """Sizes and choices of a BERT encoder; see the letters D, H, F, V in the field notes."""

    vocab_size: int
    """V."""
    hidden_size: int
    """D."""
    num_hidden_layers: int
    num_attention_heads: int
    """H; divides D."""
    intermediate_size: int
    """F."""
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    classifier_dropout: float | None = None
    """None: hidden_dropout_prob."""
    max_position_embeddings: int = 512
    """Longest example, in tokens."""
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = 0
    architectures: tuple[str, ...] = ()
    """Class names in `transformers` that the folder was saved from."""
    labels: tuple[str, ...] = ()
    """Names of the classes in order (`id2label`)."""
    problem_type: str | None = None

    @property
    def head_size(self) -> int:
        """Width of one attention head, D / H."""
        return self.hidden_size // self.num_attention_heads


def read(folder: str | Path, *, assume_bert: bool = False) -> BertConfig:
    """Reads FOLDER/config.json. Raises one UserError with every problem; see `parse`."""
    path = Path(folder) / "config.json"
    return parse(read_json(path), str(path), assume_bert=assume_bert)


def parse(raw: Mapping[str, Any], where: str = "config.json", *, assume_bert: bool = False) -> BertConfig:
    """The configuration in a parsed config.json.

    `assume_bert` accepts a file without `model_type` (written before that key existed); a wrong one is refused always.
    Raises UserError with one problem for each unknown key, unsupported value, wrong type and absurd size.
    """
    problems = Problems()
    _check_model_type(raw, where, assume_bert, problems)
    _check_fixed(raw, where, problems)
    _check_unknown(raw, where, problems)
    values = {}
    for name, check in _CHECKS.items():
        if name in raw:
            values[name] = raw[name]
            complaint = check(raw[name])
            if complaint:
                problems.add(where, f"{name}: expected {complaint}, came {show(raw[name])}")
        elif name in _REQUIRED:
            problems.add(where, f"{name} is missing", "a BERT config.json states it")
    values["labels"] = _labels(raw, where, problems)
    values["architectures"] = tuple(_architectures(raw, where, problems))
    values["problem_type"] = raw.get("problem_type")
    if values["problem_type"] not in (None, *PROBLEM_TYPES):
        problems.add(where, f"problem_type: expected {' | '.join(PROBLEM_TYPES)}, came {show(values['problem_type'])}")
    problems.raise_if_any()
    config = BertConfig(**values)
    _check_relations(config, where, problems)
    problems.raise_if_any()
    return config


def to_json(config: BertConfig, architecture: str, labels: tuple[str, ...] = (), multi_label: bool = False) -> str:
    """The text of a config.json that `transformers` reads: the model's keys, sorted, and the classes, if any."""
    own = ("architectures", "labels", "problem_type")
    raw: dict[str, Any] = {f.name: getattr(config, f.name) for f in fields(config) if f.name not in own}
    raw |= {"architectures": [architecture], "model_type": "bert", "dtype": "float32"}
    if labels:
        raw["id2label"] = {str(i): label for i, label in enumerate(labels)}
        raw["label2id"] = {label: i for i, label in enumerate(labels)}
    if labels and architecture == "BertForSequenceClassification":
        raw["problem_type"] = PROBLEM_TYPES[1] if multi_label else PROBLEM_TYPES[0]
    return json.dumps(raw, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Refuses repeated keys, other encodings than UTF-8, and anything but an object."""
    try:
        text = path.read_text(encoding="utf-8")
        raw = json.loads(text, object_pairs_hook=unique_keys, parse_constant=_no_constant)
    except FileNotFoundError:
        raise UserError(str(path), "no such file", "a model folder holds config.json and model.safetensors") from None
    except (OSError, ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise UserError(str(path), f"not a readable JSON file: {error}") from None
    if not isinstance(raw, dict):
        raise UserError(str(path), f"expected a JSON object, came {type(raw).__name__}")
    return raw


# --- the allow-list ------------------------------------------------------------------------------------------------


def _whole(least: int, most: int) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        good = isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
        return "" if good else f"a whole number from {least} to {most}"

    return check


def _number(least: float, most: float, *, none: bool = False) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value is None and none:
            return ""
        if isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most:
            return ""
        return f"a number from {least} to {most}"

    return check


def _rate(value: Any, *, none: bool = False) -> str:
    complaint = _number(0, 1, none=none)(value)
    return "a rate from 0 up to but not including 1" if complaint or value == 1 else ""


def _activation(value: Any) -> str:
    return "" if isinstance(value, str) and value in ACTIVATIONS else " | ".join(ACTIVATIONS)


# The upper bounds only catch nonsense before memory is asked for.
_CHECKS: dict[str, Callable[[Any], str]] = {
    "vocab_size": _whole(1, 10_000_000),
    "hidden_size": _whole(1, 65_536),
    "num_hidden_layers": _whole(1, 1_000),
    "num_attention_heads": _whole(1, 1_024),
    "intermediate_size": _whole(1, 262_144),
    "hidden_act": _activation,
    "hidden_dropout_prob": _rate,
    "attention_probs_dropout_prob": _rate,
    "classifier_dropout": lambda value: _rate(value, none=True),
    "max_position_embeddings": _whole(1, 1_000_000),
    "type_vocab_size": _whole(1, 1_000),
    "initializer_range": _number(0, 10),
    "layer_norm_eps": _number(1e-30, 1),
    "pad_token_id": lambda value: "" if value is None else _whole(0, 10_000_000)(value),
}
_REQUIRED = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
_OTHER = ("model_type", "architectures", "id2label", "label2id", "num_labels", "_num_labels", "problem_type")


def _check_model_type(raw: Mapping[str, Any], where: str, assume_bert: bool, problems: Problems) -> None:
    if "model_type" in raw and raw["model_type"] != "bert":
        problems.add(where, f"model_type is {show(raw['model_type'])}", "only 'bert' is supported")
    elif "model_type" not in raw and not assume_bert:
        fix = 'if this is a BERT model, add "model_type": "bert" to the file'
        problems.add(where, "model_type is missing, expected 'bert'", fix)


def _check_fixed(raw: Mapping[str, Any], where: str, problems: Problems) -> None:
    for name, allowed in FIXED.items():
        # Compared with the type: False == 0 and True == 1 in Python.
        if name in raw and not any(type(raw[name]) is type(value) and raw[name] == value for value in allowed):
            supported = " or ".join(show(value) for value in allowed)
            problems.add(where, f"{name} = {show(raw[name])} is not supported", f"supported: {supported}")


def _check_unknown(raw: Mapping[str, Any], where: str, problems: Problems) -> None:
    known = {*_CHECKS, *_OTHER, *FIXED, *BOOKKEEPING}
    for name in sorted(set(raw) - known):
        what = f"unknown key {show(name)} = {show(raw[name])}"
        problems.add(where, what, "remove it if it does not change what the model computes")


def _architectures(raw: Mapping[str, Any], where: str, problems: Problems) -> list[str]:
    names = raw.get("architectures") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        problems.add(where, f"architectures: expected a list of class names, came {show(names)}")
        return []
    return names


def _labels(raw: Mapping[str, Any], where: str, problems: Problems) -> tuple[str, ...]:
    """The class names of id2label in order; checks that label2id and num_labels say the same."""
    by_id = raw.get("id2label") or {}
    if not isinstance(by_id, dict) or not all(isinstance(label, str) for label in by_id.values()):
        problems.add(where, f"id2label: expected number -> name, came {show(by_id)}")
        return ()
    if sorted(by_id) != sorted(str(i) for i in range(len(by_id))):
        problems.add(where, f"id2label: expected the keys 0 .. {len(by_id) - 1}, came {show(sorted(by_id))}")
        return ()
    labels = tuple(by_id[str(i)] for i in range(len(by_id)))
    if len(set(labels)) != len(labels):
        repeated = sorted({label for label in labels if labels.count(label) > 1})
        problems.add(where, f"id2label names a class twice: {show(repeated)}")
    by_label = raw.get("label2id")
    if by_label and labels and by_label != {label: i for i, label in enumerate(labels)}:
        problems.add(where, f"label2id {show(by_label)} is not the inverse of id2label {show(by_id)}")
    for name in ("num_labels", "_num_labels"):
        if labels and raw.get(name) not in (None, len(labels)):
            what = f"{name} is {show(raw[name])}, but id2label has {len(labels)} entries"
            problems.add(where, what, "remove the one that is wrong")
    return labels


def _check_relations(config: BertConfig, where: str, problems: Problems) -> None:
    if config.hidden_size % config.num_attention_heads:
        what = f"hidden_size {config.hidden_size} is not a multiple of num_attention_heads {config.num_attention_heads}"
        problems.add(where, what)
    if config.pad_token_id is not None and config.pad_token_id >= config.vocab_size:
        problems.add(where, f"pad_token_id {config.pad_token_id} is outside the vocabulary of {config.vocab_size}")


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For json.loads(object_pairs_hook=): a dict, or ValueError where a key is repeated."""
    unique = dict(pairs)
    if len(unique) < len(pairs):
        key, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise ValueError(f"the key {show(key)} is given twice")
    return unique


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def show(value: Any, most: int = 80) -> str:
    """repr, cut: a hostile file must not flood the terminal."""
    text = repr(value)
    return text if len(text) <= most else text[:most] + "…"
