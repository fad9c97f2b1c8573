"""Setting up: from a recipe to everything a training loop needs, every input validated before the first compile."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxft import assets, prng, recipe, tasks
from jaxft.data import corpus, doctor, pack
from jaxft.data.batches import ByEpoch, Dataset, TrainBatches
from jaxft.data.corpus import Corpus
from jaxft.data.encode import Encoded, encode, load_tokenizer
from jaxft.data.noise import Noisy
from jaxft.data.order import Order
from jaxft.errors import Problem, Problems, UserError
from jaxft.model import folder as model_folder
from jaxft.model import weights
from jaxft.model.bert import Rates
from jaxft.model.config import BertConfig
from jaxft.model.config import read as read_config
from jaxft.model.heads import HEADS, Bert
from jaxft.recipe import Noise, Recipe
from jaxft.strategy import Strategy
from jaxft.tasks.base import Task
from jaxft.train import optim, segments
from jaxft.train.partition import Flat, Partition, partition
from jaxft.train.segments import SegmentBatches
from jaxft.train.vocabulary import WORD, Vocabulary

SHAPE_COST = {"cpu": 6_000, "accelerator": 2_000_000}
"""Half the tokens that could be trained while one more batch shape compiles, for executables are kept, and most serve
more than one run (MiniLM, 2 cores; a guess for one accelerator)."""


@dataclass(frozen=True)
class Setup:
    """What a run consists of. datasets: split -> tokens and targets. params: the initial parameters, numpy f32.
    vocabulary: the words that training holds, none where it holds all. noise: of the training data, none where it is
    off; datasets are without."""

    recipe: Recipe
    task: Task
    corpus: Corpus
    model_path: Path
    tokenizer: Any
    config: BertConfig
    params: dict[str, Any]
    partition: Partition
    vocabulary: Vocabulary | None
    datasets: dict[str, Dataset]
    warnings: tuple[Problem, ...]
    noise: Noisy | None = None
    _batches: dict[Any, TrainBatches] = field(default_factory=dict, init=False, repr=False, compare=False)
    _noisy: dict[Noise, Noisy] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def labels(self) -> tuple[str, ...]:
        return self.corpus.labels

    @property
    def widths(self) -> tuple[int, ...]:
        """Row widths of evaluation: of the recipe, or all that the longest text makes worth having."""
        return self._widths(pack.WIDTHS)

    def _widths(self, among: tuple[int, ...]) -> tuple[int, ...]:
        chosen = self.recipe.train.row_tokens
        if chosen is not None:
            return (chosen,)
        longest = max(int(data.encoded.piece_lengths.max()) for data in self.datasets.values())
        if self.noise is not None and self.recipe.noise.typo:
            longest = self.recipe.data.max_tokens  # misspelt words fall into more tokens
        return pack.widths_for(self.recipe.data.max_tokens, longest, among)

    @property
    def steps_per_epoch(self) -> int:
        return self.order.steps_per_epoch

    @property
    def num_steps(self) -> int:
        return self.recipe.train.steps or self.recipe.train.epochs * self.steps_per_epoch

    @property
    def order(self) -> Order:
        words = prng.stream("order", recipe.stream_seeds(self.recipe)["order"])
        return Order(self.datasets["train"].encoded.num_examples, self.recipe.train.batch_size, words)

    def split(self) -> tuple[Flat, Flat]:
        """The initial parameters as training holds them: trainable, frozen."""
        trainable, frozen = self.partition.split(self.params)
        return (self.vocabulary.narrow(trainable) if self.vocabulary else trainable), frozen

    def widen(self, trainable: Flat, steps: int) -> Flat:
        """Trainable parameters after so many steps, with all words."""
        if self.vocabulary is None:
            return trainable
        return self.vocabulary.widen(trainable, self._decay_factor(steps))

    def _decay_factor(self, steps: int) -> float:
        """What so many steps make of the embedding of a word that no text holds."""
        decays = np.full(steps, self.recipe.optim.weight_decay)
        rates = optim.rates(self.recipe.optim, self.num_steps)[:steps]
        for strategy, first, last in segments.spans(self.recipe.segments, steps):
            if strategy.weight_decay is not None:
                decays[first:last] = strategy.weight_decay
            if WORD in segments.partition_of(self, strategy).frozen:
                decays[first:last] = 0.0
            rates[first:last] *= strategy.learning_rate
        return optim.decay_factor(rates, decays)

    def strategy_at(self, step: int) -> Strategy:
        """The strategy of a step, counted from 0."""
        return segments.strategy_at(self.recipe.segments, step)

    def batches(self) -> TrainBatches | SegmentBatches:
        """The batches of the run, by step."""
        if self.recipe.segments:
            return SegmentBatches(self.batches_of, self.recipe.segments)
        return self.batches_of(segments.DEFAULT)

    def batches_of(self, strategy: Strategy) -> TrainBatches:
        """The batches that the run has if it keeps to one strategy; made once for strategies that agree on them."""
        key = (segments.noise_of(self.recipe.noise, strategy), strategy.batch_size)
        if key not in self._batches:
            self._batches[key] = self._make_batches(*key)
        return self._batches[key]

    def _make_batches(self, noise: Noise, batch_size: int | None) -> TrainBatches:
        train, on_cpu = self.recipe.train, jax.default_backend() == "cpu"
        return TrainBatches(
            self._train_data(noise),
            dataclasses.replace(self.order, take=batch_size),
            self.num_steps,
            micro_batches=train.micro_batches,
            widths=self._widths(pack.FINE_WIDTHS if on_cpu else pack.WIDTHS),
            packing=train.packing,
            shape_cost=SHAPE_COST["cpu" if on_cpu else "accelerator"],
        )

    def _train_data(self, noise: Noise) -> ByEpoch:
        noisy = self.noisy(noise)
        return self._in_use(self.datasets["train"]) if noisy is None else noisy.epochs(self._in_use)

    def noisy(self, noise: Noise) -> Noisy | None:
        """The training data with noise of those rates; none where it is off. Raises UserError where it cannot be."""
        if noise == self.recipe.noise and self.noise is not None:
            return self.noise
        if noise.is_on and noise not in self._noisy:
            targets = self.task.targets(self.corpus.splits["train"], self.labels, Problems())
            changed, clean = dataclasses.replace(self.recipe, noise=noise), self.datasets["train"]
            self._noisy[noise] = _noise(changed, self.corpus, clean, targets, self.tokenizer, self.config)
        return self._noisy.get(noise)

    def _in_use(self, data: Dataset) -> Dataset:
        """The data with tokens counted among the words that training holds."""
        if self.vocabulary is None:
            return data
        return dataclasses.replace(data, encoded=self.vocabulary.renumber(data.encoded))

    def noise_counts(self, steps: int) -> dict[str, dict[str, int]]:
        """What noise changed in the data of the first so many steps that had any; empty without noise."""
        total: dict[str, dict[str, int]] = {}
        for strategy, first, last in segments.spans(self.recipe.segments, steps):
            noisy = self.noisy(segments.noise_of(self.recipe.noise, strategy))
            order = dataclasses.replace(self.order, take=strategy.batch_size)
            for kind, counts in ({} if noisy is None else noisy.counts(order, last, first)).items():
                before = total.get(kind, {})
                total[kind] = {name: count + before.get(name, 0) for name, count in counts.items()}
        return total

    def model(self, *, training: bool) -> Bert:
        """The network; where it trains, with the recipe's dropout rates and the words in use."""
        train = self.recipe.train
        rates = Rates(hidden=train.dropout, attention=train.dropout, head=train.dropout)
        on_cpu = jax.default_backend() == "cpu"
        config = self.config
        if training and self.vocabulary is not None:
            config = dataclasses.replace(config, vocab_size=len(self.vocabulary.ids))
        return Bert(
            config,
            self.task.head,
            len(self.labels),
            dtype=dtype_of(self.recipe.dtype),
            rates=rates if training else None,
            remat=train.remat if training else "none",
            unroll=self.config.num_hidden_layers if on_cpu else 1,
            frozen_layers=self.partition.frozen_layers,
        )

    def class_weights(self) -> np.ndarray | None:
        """f32 [C], E / (C · examples of the class); none without `class_weights: balanced`."""
        if self.recipe.train.class_weights == "none":
            return None
        targets = self.datasets["train"].targets
        counts = targets.sum(0) if targets.ndim == 2 else np.bincount(targets[targets >= 0], minlength=len(self.labels))
        total = len(targets) if targets.ndim == 2 else counts.sum()
        return (total / (len(self.labels) * np.maximum(counts, 1))).astype(np.float32)


def set_up(chosen: Recipe, strategies: Sequence[Strategy] = (), named: str = "explore.strategies[{}]") -> Setup:
    """Reads, checks and encodes everything. Raises UserError with all problems of a stage at once.

    strategies: that its steps may be taken with, beside its segments'; named: what messages call them.
    """
    recipe.check(chosen)
    task = tasks.get(chosen.task)
    found, (model_path, config, tensors) = _read(chosen)
    check_stop_metric(chosen, task, found)
    init_key = prng.stream("init", recipe.stream_seeds(chosen)["init"])
    config, params, report = model_folder.build(
        config, tensors, str(model_path), task.head, len(found.labels), init_key, keep_head=False
    )
    if chosen.train.layers is not None:
        config, params = model_folder.cut(config, params, chosen.train.layers, "train.layers")
    tokenizer = load_tokenizer(model_path)
    encoded = {
        name: encode(examples, tokenizer, max_tokens=chosen.data.max_tokens, overflow=chosen.data.overflow)
        for name, examples in found.splits.items()
    }
    for name, tokens in encoded.items():
        check_tokens(tokens, config, name)
    problems = Problems()
    doctor.examine({}, (), chosen.data, {name: tokens.lengths for name, tokens in encoded.items()}, problems)
    targets = {name: task.targets(examples, found.labels, problems) for name, examples in found.splits.items()}
    datasets = {name: Dataset.of(tokens, targets[name], task.head == "tag") for name, tokens in encoded.items()}
    problems.raise_if_any()
    noise = None
    if chosen.noise.is_on:
        noise = _noise(chosen, found, datasets["train"], targets["train"], tokenizer, config)
    part = partition(chosen.train.freeze, params, config.num_hidden_layers)
    words = None
    holds_all = HEADS[task.head].mlm or segments.brings_tokens(chosen, strategies)  # predicts any word, or may meet it
    if WORD not in part.frozen and not holds_all:
        words = Vocabulary.of(encoded["train"], params["encoder"]["embeddings"]["word"])
    warnings = (*found.warnings, *problems.warnings, *_model_warnings(report, chosen.model))
    made = Setup(chosen, task, found, model_path, tokenizer, config, params, part, words, datasets, warnings, noise)
    segments.check_freezing(made, chosen.segments, "segments[{}]".format)
    segments.check_freezing(made, strategies, named.format)
    for one in (*chosen.segments, *strategies):
        made.noisy(segments.noise_of(chosen.noise, one))  # raises where it does not fit the tokenizer or the labels
    return dataclasses.replace(made, warnings=(*warnings, *segments.warnings_of(made)))


def _noise(chosen: Recipe, found: Corpus, clean: Dataset, targets: list, tokenizer: Any, config: BertConfig) -> Noisy:
    return Noisy(
        chosen.noise,
        clean,
        found.splits["train"],
        targets,
        labels=found.labels,
        data=chosen.data,
        tokenizer=tokenizer,
        vocab_size=config.vocab_size,
        words=prng.stream("noise", recipe.stream_seeds(chosen)["noise"]),
    )


def _read(chosen: Recipe) -> tuple[Corpus, tuple[Path, BertConfig, weights.Tensors]]:
    """The data and the model's files. Raises UserError with the problems of both, unless that takes a download."""
    try:
        found = corpus.load(chosen)
    except UserError as error:
        if not assets.is_at_hand(chosen.model):
            raise
        problems = Problems()
        problems.take(error)
        try:
            _read_model(chosen)
        except UserError as another:
            problems.take(another)
        raise UserError.of(problems.errors) from None
    return found, _read_model(chosen)


def _read_model(chosen: Recipe) -> tuple[Path, BertConfig, weights.Tensors]:
    path = assets.resolve_model(chosen.model, progress=True)
    config = read_config(path)
    check_positions(config, chosen)
    return path, config, weights.read_folder(path)


def check_stop_metric(chosen: Recipe, task: Task, found: Corpus) -> None:
    """Raises UserError where early stopping names an unknown metric, or has no dev set to look at."""
    metric, train = chosen.train.stop_metric, chosen.train
    if "dev" not in found.splits and (metric or train.patience):
        name = "stop_metric" if metric else "patience"
        raise UserError(f"train.{name}", "needs a dev set, and there is none", "set data.dev: a source or a fraction")
    known = metrics(task, found)
    if metric is not None and metric not in known:
        near = difflib.get_close_matches(metric, known, n=1)
        fix = f"did you mean `{near[0]}`?" if near else ""
        raise UserError("train.stop_metric", f"there is no {metric!r}; known: {', '.join(known)}", fix)


def metrics(task: Task, found: Corpus) -> tuple[str, ...]:
    """The metrics that an evaluation of this data gives."""
    one = found.splits["train"].take([0])
    gold = one.labels if one.is_tagged else np.asarray(task.targets(one, found.labels, Problems())).astype(int)
    return (*task.score(gold, gold, found.labels), "loss")


def dtype_of(name: str) -> Any:
    """The operand type of matrix products: `auto` is f32 on CPU, bf16 elsewhere."""
    if name == "auto":
        name = "f32" if jax.default_backend() == "cpu" else "bf16"
    return {"f32": jnp.float32, "bf16": jnp.bfloat16}[name]


def check_positions(config: BertConfig, chosen: Recipe) -> None:
    """Raises UserError where texts may be longer than the model has positions."""
    if chosen.data.max_tokens > config.max_position_embeddings:
        what = f"is {chosen.data.max_tokens}, but {chosen.model} has {config.max_position_embeddings} positions"
        raise UserError("data.max_tokens", what, f"at most {config.max_position_embeddings}")


def check_tokens(encoded: Encoded, config: BertConfig, where: str) -> None:
    """Raises UserError where the tokenizer gives ids that the model has no embedding for."""
    for name, values, size in (
        ("token", encoded.tokens, config.vocab_size),
        ("token type", encoded.types, config.type_vocab_size),
    ):
        if values.size and int(values.max()) >= size:
            what = f"the tokenizer gives {name} id {int(values.max())}, but the model knows ids 0 .. {size - 1}"
            raise UserError(where, what, "use the tokenizer that belongs to the model")


def _model_warnings(report: model_folder.LoadReport, model: str) -> tuple[Problem, ...]:
    """Head parameters that are drawn anew are expected; a pooler that is drawn, or tensors left over, are told."""
    drawn = [path for path in report.initialised if not path.startswith("classifier")]
    warnings = []
    if drawn:
        warnings.append(Problem(model, f"has no {', '.join(drawn)}: drawn anew"))
    left_over = [
        name for name in report.extra if not name.startswith(("cls.", "classifier.", "pooler.", "bert.pooler."))
    ]
    if left_over:
        warnings.append(Problem(model, f"holds tensors that are not used: {', '.join(left_over)}"))
    return tuple(warnings)
