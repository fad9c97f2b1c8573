"""The world wholly on the device: for small models, whose steps cost less than handing them out one by one does.

All batches that a run can meet lie on the device in one shape; a segment is a loop, a look at the search split another,
and the search a third around both: nothing returns to the host before the budget is spent. Strategies that freeze alike
and drop alike share a program, and a leaf runs the one that it needs (`lax.switch` on a number, not under vmap), so
frozen layers cost nothing. A state is what a step changes, no more.

The numbers are those of one program: the same path gives the same bits here, but not those of `jaxft train`, whose
steps are compiled by themselves; the world that has those is world.py. Metrics are `accuracy` and `loss`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxft import prng
from jaxft.data.batches import TrainBatches, evaluation_batches
from jaxft.errors import UserError
from jaxft.evaluate.score import LEAST
from jaxft.explore import outlook
from jaxft.explore.account import Account, Path
from jaxft.explore.explorer import Kind, Outcome, Search, Settings, compiled, made_up, turns
from jaxft.explore.plan import Plan
from jaxft.explore.world import SPLIT
from jaxft.search.asked import path_of
from jaxft.search.env import Step
from jaxft.strategy import Strategy
from jaxft.train import memory, optim, parametric, segments, step
from jaxft.train.parametric import Window
from jaxft.train.setup import Setup
from jaxft.train.step import State
from jaxft.train.stepper import constants_of, rule_of
from jaxft.train.vocabulary import WORD

METRICS = ("accuracy", "loss")
_EVALUATION_TOKENS = 2048


class Run(NamedTuple):
    """A training state. decay: what the steps so far made of a word's embedding that no training text holds, f32 [].
    depth: segments so far, i32 []. finite: whether all losses were numbers, bool []."""

    state: State
    decay: Array
    depth: Array
    finite: Array


class OnDevice:
    """The runs of a setup, `depth * segment_steps` steps long, as functions of the device; an `Env` of `jaxft.search`.

    metric: accuracy, or loss, which counts negative. Raises UserError where something has no place here.
    """

    def __init__(
        self,
        setup: Setup,
        strategies: Sequence[Strategy],
        *,
        depth: int,
        segment_steps: int,
        metric: str,
        num_listed: int | None = None,
    ) -> None:
        check(setup, metric)
        self._num_listed = len(strategies) if num_listed is None else num_listed
        self.num_actions, self.depth, self.segment_steps = len(strategies), depth, segment_steps
        self._setup, self._strategies, self._metric = setup, tuple(strategies), metric
        self._rule = rule_of(setup)
        trainable, frozen = setup.split()
        self._trainable = trainable
        self._constants = jax.tree.map(jnp.asarray, constants_of(setup, frozen))
        self._programs, self._program_of = self._grouped()
        hypers = [parametric.hyper(setup.recipe, one) for one in strategies]
        self._hypers = jax.tree.map(lambda *numbers: jnp.stack(numbers), *hypers)
        self._batches, self._epochs, self._variant_of = self._all_batches(depth * segment_steps)
        self._rates = jnp.asarray(optim.rates(setup.recipe.optim, setup.num_steps), jnp.float32)
        self._moves_words = jnp.asarray([WORD not in segments.partition_of(setup, one).frozen for one in strategies])
        self._looked, self._unseen = self._search_split()
        self._model = setup.model(training=True).clone(rates=None, frozen_layers=setup.partition.frozen_layers)

    def initial(self) -> Run:
        """Before the first step."""
        trainable = {path: jnp.asarray(leaf) for path, leaf in self._trainable.items()}
        state = State(trainable, self._rule.init(trainable), jnp.int32(0))
        return Run(state, jnp.float32(1.0), jnp.int32(0), jnp.bool_(True))

    def segment(self, run: Run, action: Array) -> Run:
        """The next segment under a strategy; action: i32 []."""
        constants = self._constants._replace(hyper=jax.tree.map(lambda numbers: numbers[action], self._hypers))
        variant, first = jnp.asarray(self._variant_of)[action], run.depth * self.segment_steps

        def under(made: step.Step) -> Callable[[Run], Run]:
            def one(at: Array, run: Run) -> Run:
                batch = {name: values[variant, first + at] for name, values in self._batches.items()}
                weight = made.total_weight(batch["targets"], constants)
                epoch = self._epochs[first + at]
                part, finite = made.gradient(run.state.trainable, batch, epoch, constants, weight)
                state, _ = made.update(run.state, part, constants)
                rate = self._rates[first + at] * constants.hyper.learning_rate  # type: ignore[union-attr]
                decay = jnp.where(self._moves_words[action], rate * constants.hyper.weight_decay, 0.0)  # type: ignore[union-attr]
                return Run(state, run.decay * (1.0 - decay), run.depth, run.finite & jnp.all(finite))

            return lambda run: jax.lax.fori_loop(0, self.segment_steps, one, run)

        programs = [under(made) for made in self._programs]
        after = jax.lax.switch(jnp.asarray(self._program_of)[action], programs, run)
        return after._replace(depth=run.depth + 1)

    def look(self, run: Run) -> Array:
        """The metric on the search split, f32 []; -inf where training diverged."""
        trainable = dict(run.state.trainable)
        if self._unseen is not None:
            trainable[WORD] = jnp.concatenate([trainable[WORD], self._unseen * run.decay])
        params = self._setup.partition.join(trainable, self._constants.frozen)
        config = self._model.config
        if WORD in trainable:
            config = dataclasses.replace(config, vocab_size=trainable[WORD].shape[0])
        model = self._model.clone(config=config)

        def one(total: Array, batch: dict[str, Array]) -> tuple[Array, None]:
            targets = batch["targets"]
            logits: Any = model.apply({"params": params}, batch)
            there, probabilities = targets >= 0, self._setup.task.probabilities(logits)
            of_gold = jnp.take_along_axis(probabilities, jnp.maximum(targets, 0)[..., None], axis=-1)[..., 0]
            losses = jnp.where(there, -jnp.log(jnp.maximum(of_gold, LEAST)), 0.0)
            right = there & (jnp.argmax(logits, axis=-1) == targets)
            return total + jnp.stack([losses.sum(), right.sum(dtype=jnp.float32), there.sum(dtype=jnp.float32)]), None

        (loss, right, count), _ = jax.lax.scan(one, jnp.zeros(3), self._looked)
        value = -loss / count if self._metric == "loss" else right / count
        return jnp.where(run.finite & jnp.isfinite(value), value, -jnp.inf)

    def expand(self, state: Any, action: Array, key: Array) -> Step:
        """An `Env` for `tree_search`: state (Run, score) with a leading axis B, the leaves one after the other; the
        reward is what a segment adds to the score. Nothing is drawn from the key: runs draw by address."""

        def one(arguments: tuple[tuple[Run, Array], Array]) -> tuple[Run, Array]:
            (run, _), action = arguments
            after = self.segment(run, action)
            return after, self.look(after)

        runs, scores = jax.lax.map(one, (state, action))
        zeros = jnp.zeros_like(scores)
        logits = jnp.zeros((scores.shape[0], self.num_actions))
        done, valid = runs.depth == self.depth, jnp.ones(logits.shape, bool)
        return Step((runs, scores), scores - state[1], 1.0 - done, logits, zeros, done, valid)

    def explore(self, words: Array, turns: int, settings: Settings) -> tuple[Search, Array]:
        """The explorer's search of so many segments: (search, scores [turns + 1] by node); to be compiled whole."""
        shape = outlook.Shape(self.num_actions, self.depth)
        steps = compiled(Kind(shape, self._num_listed, 1, turns + 1, settings))
        root = self.initial()
        runs = jax.tree.map(lambda leaf: jnp.zeros((turns + 1, *leaf.shape), leaf.dtype).at[0].set(leaf), root)
        nothing = jnp.full(turns + 1, jnp.nan)

        def turn(now: tuple[Search, Any, Array, Array]) -> tuple[Search, Any, Array, Array]:
            found, runs, scores, taken = now
            node, parent, action = found.asked.node[0], found.asked.parent[0], found.asked.action[0]
            run = self.segment(jax.tree.map(lambda leaf: leaf[parent], runs), action)
            seen = self.look(run)
            finite = jnp.isfinite(seen)
            known = jnp.where(jnp.isfinite(scores), scores, jnp.nan).at[0].set(taken[0])
            as_if = jnp.where(finite, seen, made_up(jnp.nanmin(known), jnp.nanmax(known), jnp))
            following = steps.go_on(
                words, found, Outcome((as_if - taken[parent])[None], ~finite[None], 1, turns - 1 - found.turn)
            )
            runs = jax.tree.map(lambda all_, leaf: all_.at[node].set(leaf), runs, run)
            return following, runs, scores.at[node].set(seen), taken.at[node].set(as_if)

        start = self.look(root)
        first = nothing.at[0].set(start)
        begin = (steps.begin(words), runs, first, nothing.at[0].set(jnp.where(jnp.isfinite(start), start, 0.0)))

        def goes_on(now: tuple[Search, Any, Array, Array]) -> Array:
            return now[0].asked.fresh[0] & (now[0].turn < turns)

        found, _, scores, _ = jax.lax.while_loop(goes_on, turn, begin)
        return found, scores

    # --- what lies on the device -------------------------------------------------------------------------------------

    def _grouped(self) -> tuple[list[step.Step], list[int]]:
        """The programs, one for each (frozen depth, dropout rate), and each strategy's."""
        setup, keys, made, numbers = self._setup, [], [], []
        for strategy in self._strategies:
            key = (segments.partition_of(setup, strategy), strategy.dropout)
            if key not in keys:
                keys.append(key)
                model, window = segments.model_of(setup, strategy), Window(setup.partition, key[0])
                made.append(step.make_parametric(model, setup.task, self._rule, window))
            numbers.append(keys.index(key))
        return made, numbers

    def _all_batches(self, num_steps: int) -> tuple[dict[str, Array], Array, list[int]]:
        """Arrays [variants, steps, B, L] of one shape, the epochs of the steps, and each strategy's variant."""
        variants: list[TrainBatches] = []
        numbers = []
        for strategy in self._strategies:
            batches = self._setup.batches_of(strategy)
            if batches not in variants:
                variants.append(batches)
            numbers.append(variants.index(batches))
        made = [[batches.make(number) for number in range(num_steps)] for batches in variants]
        arrays = [[{name: x[0] for name, x in one.arrays.items()} for one in row] for row in made]
        epochs = jnp.asarray([one.epoch for one in made[0]], jnp.uint32)
        return jax.tree.map(jnp.asarray, _in_one_shape(arrays)), epochs, numbers

    def _search_split(self) -> tuple[dict[str, Array], Array | None]:
        """Batches [K, B, L] of the search split, and the initial embeddings of its words that training does not hold,
        which are numbered after those."""
        setup = self._setup
        data, unseen = setup.datasets[SPLIT], None
        if setup.vocabulary is not None:
            ids, tokens = setup.vocabulary.ids, data.encoded.tokens
            more = np.setdiff1d(tokens, ids)
            unseen = jnp.asarray(setup.vocabulary.table[more])
            at = np.where(np.isin(tokens, ids), np.searchsorted(ids, tokens), len(ids) + np.searchsorted(more, tokens))
            data = dataclasses.replace(data, encoded=dataclasses.replace(data.encoded, tokens=at.astype(np.int32)))
        widest = (setup.widths[-1],)
        batches = [arrays for _, arrays in evaluation_batches(data, widest, _EVALUATION_TOKENS)]
        names = ("tokens", "types", "positions", "segments", "firsts", "targets", "example", "occurrence")
        return {name: jnp.stack([jnp.asarray(one[name]) for one in batches]) for name in names}, unseen


def check(setup: Setup, metric: str) -> None:
    """Raises UserError where something has no place here."""
    where = "explore.place"
    if metric not in METRICS:
        raise UserError(where, f"on the device the metric is accuracy or loss, not {metric}", "explore.metric, or host")
    if setup.recipe.segments:
        raise UserError(where, "on the device a search begins at the start of a run", "explore.begin_with: '', or host")
    if setup.recipe.train.micro_batches != 1:
        raise UserError(where, "on the device a step is one micro-batch", "train.micro_batches: 1, or host")
    if setup.recipe.data.multi_label:
        raise UserError(where, "multi-label data are scored on the host", "host")
    encoded = setup.datasets[SPLIT].encoded
    if len(encoded.example) != encoded.num_examples:
        raise UserError(where, "examples in several windows are scored on the host", "host, or data.overflow: truncate")


def _in_one_shape(arrays: list[list[dict[str, np.ndarray]]]) -> dict[str, np.ndarray]:
    """Stacks batches [variants][steps] of different shapes: rows, places and segments that are added hold nothing."""
    everyone = [one for row in arrays for one in row]
    found = {}
    for name in everyone[0]:
        largest = tuple(np.max([one[name].shape for one in everyone], axis=0))
        fill = -1 if name == "targets" else 0

        def padded(x: np.ndarray, largest: tuple[int, ...] = largest, fill: int = fill) -> np.ndarray:
            return np.pad(x, [(0, to - size) for size, to in zip(x.shape, largest, strict=True)], constant_values=fill)

        found[name] = np.stack([np.stack([padded(one[name]) for one in row]) for row in arrays])
    return found


def search(world: OnDevice, words: Array, turns: int, settings: Settings) -> tuple[Search, np.ndarray]:
    """Explores `turns` segments in one call of the device; (search, scores by node)."""
    found, scores = jax.jit(partial(world.explore, turns=turns, settings=settings))(words)
    return found, np.asarray(scores)


def states_mb(setup: Setup, plan: Plan) -> float:
    """What all states of a search take, for this one trains none again."""
    trainable, _ = setup.split()
    state = jax.eval_shape(lambda: step.init(trainable, rule_of(setup)))
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    return (1 + turns(plan, plan.budget)) * size / 2**20


def check_room(setup: Setup, plan: Plan, keep_mb: float | None) -> None:
    """Raises UserError where not all states of a search have room: in `keep_mb`, or in the device's memory."""
    there, needed = memory.available(), states_mb(setup, plan)
    what = f"the states of a search on the device take {needed:,.0f} MB"
    if keep_mb is not None and needed > keep_mb:
        fix = f"at least that, null, or explore.place: host; it is {keep_mb:,.0f}"
        raise UserError("explore.keep_mb", what, fix)
    if there is not None and needed * 2**20 > there[0]:
        what += f", and {there[1]} has {memory.megabytes(there[0])}"
        raise UserError("explore.place", what, "host, or a smaller explore.budget")


def seen(world: OnDevice, account: Account, words: prng.Words) -> dict[Path, float]:
    """What `explorer.Explorer` would see if it spent an account: scores by path, computed on the device."""
    count = turns(account.world, account.budget)
    if count < 1:
        return {}
    found, scores = search(world, prng.device_words(words), count, Settings())
    taken = int(found.turn) + 1
    return {path_of(found.tree, node): float(score) for node, score in enumerate(scores[:taken])}
