"""The recipe: everything that decides a run, as frozen dataclasses that read and write YAML.

A recipe file holds the sections below; keys that are left out keep their defaults, unknown keys are errors. `check`
reports every problem of a recipe at once. Nothing here reads data or touches a device.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, TypeVar

import yaml

from jaxft import sections
from jaxft.errors import Problems, UserError
from jaxft.strategy import Segment, check_segments

MAX_SEED = 2**32 - 1
Rule = Callable[[Any, Problems], None]
"""Adds what is wrong with a recipe."""


@dataclass(frozen=True)
class Data:
    """Where labelled text comes from and how it is cut to tokens."""

    train: str = ""
    """Asset name, asset split (name:dev), file, saved `datasets` folder, or hub id (org/name:split)."""
    dev: str | float | None = None
    """Like train, or the fraction of the training set to hold out; none: the asset's own split, else no dev set."""
    test: str | float | None = None
    """Like dev."""
    search: str | float | None = None
    """Like dev: what `jaxft explore` looks at while it searches; never trained on, never reported."""
    limit: int | None = None
    """Train on so many examples only, drawn from the training set, stratified by label."""
    text: str = "text"
    """Column with the text."""
    text_pair: str | None = None
    """Column with the second text of a pair."""
    label: str = "label"
    """Column with the label."""
    id: str | None = None
    """Column with a unique id, checked for duplicates."""
    format: Literal["auto", "csv", "tsv", "jsonl", "parquet", "conll"] = "auto"
    """File format; auto goes by the file's ending."""
    max_tokens: int = 128
    """Longest example, in tokens, special tokens included."""
    overflow: Literal["truncate", "window", "error"] = "truncate"
    """What happens to longer texts: cut, cut into overlapping windows, or refuse."""
    multi_label: bool = False
    """An example may have any number of labels."""
    label_separator: str = "|"
    """Between the labels of one cell (multi-label)."""


@dataclass(frozen=True)
class Train:
    """How long, in what portions, and which parameters."""

    epochs: int = 3
    steps: int | None = None
    """Stop after so many steps, whatever `epochs` says."""
    batch_size: int = 32
    """Examples a step."""
    micro_batches: int = 1
    """Equal parts a step is cut into, a power of two; their gradients are added in one fixed order, whatever devices
    compute them. At most so many devices share a step."""
    row_tokens: int | None = None
    """Tokens of a packed row; none: chosen from the data."""
    packing: bool = True
    """False: one example a row."""
    layers: int | None = None
    """Keep so many of the model's layers, from the bottom; none: all."""
    freeze: str = "none"
    """none | encoder (all but the head) | layers:K (embeddings, bottom K layers) | re:PATTERN on parameter paths."""
    dropout: float = 0.1
    label_smoothing: float = 0.0
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: each class weighs E / (C · its examples)."""
    stop_metric: str | None = None
    """Dev metric that picks the best parameters and stops early; none: the task's own."""
    patience: int | None = None
    """Evaluations without a better dev metric before the run stops; none: never."""
    eval_every: int | None = None
    """Steps between dev evaluations; none: once an epoch."""
    save_every: int | None = None
    """Steps between checkpoints; none: at every evaluation. The best parameters so far are saved in any case."""
    keep_checkpoints: int = 2
    """The newest ones that stay, beside the best."""
    log_every: int = 1
    """Steps between lines of metrics.jsonl."""
    remat: Literal["none", "full", "dots"] = "none"
    """What the backward pass recomputes: nothing, whole layers, or all but matrix products."""


@dataclass(frozen=True)
class Optim:
    """Optimiser with decoupled weight decay: p <- p - lr * update - lr * weight_decay * p."""

    name: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 5e-5
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup: float = 0.1
    """Share of the steps over which the learning rate rises from 0."""
    weight_decay: float = 0.01
    """Not applied to biases and LayerNorm."""
    clip_norm: float | None = 1.0
    momentum: float = 0.0
    """Of sgd."""
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8


@dataclass(frozen=True)
class Noise:
    """Rates of deliberate noise in the training data, off at 0; dev and test stay as they are."""

    label: float = 0.0
    """Targets that become another class, any of the others alike; multi-label: each class of an example flips."""
    label_confusion: str | None = None
    """Instead of `label`: CSV file of P(noisy label | true label), labels in its first row and first column."""
    token_drop: float = 0.0
    token_swap: float = 0.0
    """Tokens that change places with the next one."""
    token_mask: float = 0.0
    """Tokens that become the tokenizer's mask."""
    token_replace: float = 0.0
    """Tokens that become another one of the vocabulary, special ones excepted."""
    typo: float = 0.0
    """Words with one letter swapped with its neighbour, dropped, doubled or replaced, before tokenising."""
    per_epoch: bool = True
    """False: every epoch meets the same noise."""

    @property
    def is_on(self) -> bool:
        """Whether anything is changed at all."""
        rates = (self.label, self.token_drop, self.token_swap, self.token_mask, self.token_replace, self.typo)
        return any(rates) or self.label_confusion is not None

    @property
    def brings_tokens(self) -> bool:
        """Whether training may meet tokens that its texts do not hold."""
        return any((self.token_mask, self.token_replace, self.typo))


@dataclass(frozen=True)
class Mesh:
    """Devices: -1 takes as many as divide `train.micro_batches`."""

    data: int = -1
    fsdp: int = 1
    tensor: int = 1


@dataclass(frozen=True)
class Seeds:
    """Seeds of single streams, 0 .. 2**32 - 1; none: the recipe's `seed`."""

    init: int | None = None
    order: int | None = None
    dropout: int | None = None
    noise: int | None = None
    explore: int | None = None
    subsample: int | None = None
    bootstrap: int | None = None
    environment: int | None = None


@dataclass(frozen=True)
class Recipe:
    """A whole fine-tuning run."""

    task: str = "classify"
    """classify | tag."""
    model: str = "minilm"
    """Asset name, folder with config.json and model.safetensors, or hub id."""
    data: Data = field(default_factory=Data)
    train: Train = field(default_factory=Train)
    optim: Optim = field(default_factory=Optim)
    noise: Noise = field(default_factory=Noise)
    segments: tuple[Segment, ...] = ()
    """Strategies of the first steps, one after the other; see jaxft/strategy.py."""
    numerics: Literal["canonical", "fast"] = "canonical"
    dtype: Literal["auto", "f32", "bf16"] = "auto"
    """Operands of matrix products; auto: f32 on CPU, bf16 elsewhere. Parameters and sums are f32 always."""
    mesh: Mesh = field(default_factory=Mesh)
    seed: int = 0
    seeds: Seeds = field(default_factory=Seeds)
    out: str = "runs/run"
    """The run folder."""

    RULES: ClassVar[tuple[Rule, ...]] = ()


class HasRules(Protocol):
    """What can be checked: a recipe of any kind."""

    RULES: ClassVar[tuple[Rule, ...]]


AnyRecipe = TypeVar("AnyRecipe", bound=HasRules)


# --- YAML in and out -----------------------------------------------------------------------------------------------


def load(path: str | Path, kind: type[AnyRecipe] = Recipe) -> AnyRecipe:
    """Reads a recipe file. Raises one UserError with every unknown key and wrong type.

    kind: `Recipe`, or another dataclass with `RULES`.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(str(path), "no such recipe file", "`jaxft init TASK` prints a starter recipe") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(str(path), f"cannot be read as UTF-8 text: {error}") from None
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise UserError(where, f"is not valid YAML: {getattr(error, 'problem', None) or error}") from None
    return from_tree({} if tree is None else tree, str(path), kind)


def from_tree(tree: Any, where: str = "recipe", kind: type[AnyRecipe] = Recipe) -> AnyRecipe:
    """Builds a recipe from nested dicts, as YAML gives them. Raises UserError; it tells values out of range as well."""
    problems = Problems()
    recipe = sections.build(kind, tree, where, "", problems)
    if problems.errors:  # what else is wrong, but for keys that only look missing because of these
        others = Problems()
        check(recipe, others)
        told = {problem.where for problem in problems.errors}
        problems.errors += [
            problem
            for problem in others.errors
            if _holds(tree, problem.where) and f"{where}: {problem.where}" not in told
        ]
    problems.raise_if_any()
    return recipe


def _holds(tree: Any, path: str) -> bool:
    """Whether nested dicts and lists have a key such as `segments[1].steps`."""
    for key in re.findall(r"[^.\[\]]+", path):
        if isinstance(tree, list) and key.isdecimal() and int(key) < len(tree):
            tree = tree[int(key)]
        elif isinstance(tree, dict) and key in tree:
            tree = tree[key]
        else:
            return False
    return True


def to_tree(recipe: Any) -> dict[str, Any]:
    """Nested dicts of plain values; `from_tree` turns them back into an equal recipe."""
    return _plain(dataclasses.asdict(recipe))


def _plain(value: Any) -> Any:
    """With lists for tuples, as YAML and JSON give them back."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, tuple | list) else value


def dump(recipe: Any) -> str:
    """The recipe as YAML, every key written out."""
    return yaml.safe_dump(to_tree(recipe), sort_keys=False, allow_unicode=True)


# --- checks ----------------------------------------------------------------------------------------------------------


def check(recipe: HasRules, problems: Problems | None = None) -> None:
    """Raises one UserError with every value out of range; with `problems` given, adds to it instead of raising."""
    found = problems or Problems()
    for rule in recipe.RULES:
        rule(recipe, found)
    if problems is None:
        found.raise_if_any()


def _check_task(recipe: Recipe, problems: Problems) -> None:
    from jaxft import tasks

    if recipe.task not in tasks.names():
        near = difflib.get_close_matches(recipe.task, tasks.names(), n=1)
        fix = f"did you mean `{near[0]}`?" if near else ""
        problems.add("task", f"unknown task {recipe.task!r}; known: {', '.join(tasks.names())}", fix)


def _check_data(recipe: Recipe, problems: Problems) -> None:
    data = recipe.data
    if not data.train:
        problems.add("data.train", "no training data named", "an asset (`jaxft assets`), a file, or a hub id")
    if data.max_tokens < 8:
        problems.add("data.max_tokens", f"must be at least 8, is {data.max_tokens}")
    sources = {"data.dev": data.dev, "data.test": data.test, "data.search": data.search}
    shares = {name: share for name, share in sources.items() if isinstance(share, float)}
    for name, share in shares.items():
        if not 0 < share < 1:
            problems.add(name, f"a fraction must lie between 0 and 1, is {share}")
    total = sum(shares.values())
    if total >= 1:
        problems.add(" + ".join(shares), f"leave nothing to train on: they sum to {total}")
    at_least(problems, "data", data, 1, "limit")
    if data.multi_label and recipe.task == "tag":
        problems.add("data.multi_label", "tagging gives one tag a word", "set it to false")


def _check_train(recipe: Recipe, problems: Problems) -> None:
    train = recipe.train
    at_least(
        problems,
        "train",
        train,
        1,
        "epochs",
        "steps",
        "batch_size",
        "micro_batches",
        "patience",
        "eval_every",
        "save_every",
        "keep_checkpoints",
        "log_every",
        "layers",
    )
    rates(problems, "train", train, "dropout", "label_smoothing")
    if train.batch_size >= 1 and train.micro_batches > train.batch_size:
        what = f"{train.micro_batches} micro-batches cannot be cut from {train.batch_size} examples"
        problems.add("train.micro_batches", what, f"at most {train.batch_size}")
    elif train.micro_batches >= 1 and train.micro_batches & (train.micro_batches - 1):
        below = 1 << train.micro_batches.bit_length() - 1
        what = f"must be a power of two, for sums in pairs; is {train.micro_batches}"
        problems.add("train.micro_batches", what, f"{below} or {2 * below}")
    if train.row_tokens is not None and train.row_tokens < recipe.data.max_tokens:
        what = f"{train.row_tokens} tokens a row cannot hold an example of data.max_tokens = {recipe.data.max_tokens}"
        problems.add("train.row_tokens", what, f"null, or at least {recipe.data.max_tokens}")
    kind, _, argument = train.freeze.partition(":")
    if not (
        train.freeze in ("none", "encoder") or (kind == "layers" and argument.isdigit()) or (kind == "re" and argument)
    ):
        problems.add("train.freeze", f"expected none, encoder, layers:K or re:PATTERN, came {train.freeze!r}")


def check_optim(recipe: Any, problems: Problems) -> None:
    """The section `optim` of a recipe of any kind."""
    optim = recipe.optim
    if not 0 < optim.learning_rate < 10:
        problems.add("optim.learning_rate", f"must lie between 0 and 10, is {optim.learning_rate}")
    if optim.weight_decay < 0:
        problems.add("optim.weight_decay", f"must not be negative, is {optim.weight_decay}")
    if optim.clip_norm is not None and not optim.clip_norm > 0:
        problems.add("optim.clip_norm", f"must be positive, is {optim.clip_norm}", "null switches clipping off")
    if not optim.eps > 0:
        problems.add("optim.eps", f"must be positive, is {optim.eps}")
    rates(problems, "optim", optim, "momentum", "b1", "b2")
    if not 0 <= optim.warmup <= 1:
        problems.add("optim.warmup", f"is a share of the steps between 0 and 1, is {optim.warmup}")


def _check_noise(recipe: Recipe, problems: Problems) -> None:
    noise = recipe.noise
    rates(problems, "noise", noise, "label", "token_drop", "token_swap", "token_mask", "token_replace", "typo")
    if noise.label_confusion is None:
        return
    if noise.label:
        what = f"changes labels by a matrix, and noise.label by a rate of {noise.label}"
        problems.add("noise.label_confusion", what, "set one of them: label to 0, or label_confusion to null")
    if recipe.data.multi_label:
        what = "a matrix says what one label becomes, but with data.multi_label an example has any number of them"
        problems.add("noise.label_confusion", what, "set noise.label instead: each class flips at that rate")


def check_seeds(recipe: Any, problems: Problems) -> None:
    """`seed` and the section `seeds` of a recipe of any kind."""
    seeds = {"seed": recipe.seed} | {f"seeds.{key}": value for key, value in dataclasses.asdict(recipe.seeds).items()}
    for name, seed in seeds.items():
        if seed is not None and not 0 <= seed <= MAX_SEED:
            problems.add(name, f"must lie between 0 and {MAX_SEED}, is {seed}")


def check_mesh(recipe: Any, problems: Problems) -> None:
    """The section `mesh` of a recipe of any kind."""
    mesh, micro_batches = recipe.mesh, recipe.train.micro_batches
    if mesh.data != -1 and not (mesh.data >= 1 and micro_batches % mesh.data == 0):
        what = f"{mesh.data} devices cannot share train.micro_batches = {micro_batches} evenly"
        possible = [str(count) for count in range(1, micro_batches + 1) if micro_batches % count == 0]
        problems.add("mesh.data", what, f"-1, or one of {', '.join(possible)}")
    if mesh.fsdp != 1 or mesh.tensor != 1:
        problems.add("mesh", "parameters cut over devices are not available in this version", "{fsdp: 1, tensor: 1}")


Recipe.RULES = (
    _check_task,
    _check_data,
    _check_train,
    check_optim,
    _check_noise,
    check_seeds,
    check_mesh,
    check_segments,
)


def at_least(problems: Problems, section: str, part: Any, least: int, *names: str) -> None:
    """Values of a section that have a least one."""
    for name in names:
        value = getattr(part, name)
        if value is not None and value < least:
            problems.add(f"{section}.{name}", f"must be at least {least}, is {value}")


def rates(problems: Problems, section: str, part: Any, *names: str) -> None:
    """Values of a section that are rates."""
    for name in names:
        value = getattr(part, name)
        if not 0 <= value < 1:
            problems.add(f"{section}.{name}", f"is a rate from 0 up to but not including 1, is {value}")


def stream_seeds(recipe: Any) -> dict[str, int]:
    """Stream name -> seed in force."""
    overrides: Iterable[tuple[str, int | None]] = dataclasses.asdict(recipe.seeds).items()
    return {name: recipe.seed if seed is None else seed for name, seed in overrides}
