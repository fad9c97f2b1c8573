"""Runs with segments: what each key of a strategy does to a run, what stays still, and that the end is one."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from jaxft import prng
from jaxft.errors import UserError
from jaxft.recipe import Noise, Optim
from jaxft.report.progress import Progress
from jaxft.report.run_folder import RunFolder
from jaxft.strategy import Segment, Strategy, segment
from jaxft.train import optim, segments, step
from jaxft.train.clock import Clock
from jaxft.train.hashes import params_sha256
from jaxft.train.loop import Evaluator, Fitted, fit
from jaxft.train.parametric import LAYERS, Parametric, Window, hyper
from jaxft.train.partition import Flat, flatten
from jaxft.train.setup import Setup, set_up
from jaxft.train.step import Constants, State
from jaxft.train.stepper import Stepper
from jaxft.train.vocabulary import WORD

pytestmark = pytest.mark.usefixtures("promotion_for_optax")

DEFAULT = Strategy()
FAST = Strategy(learning_rate=3.0)
ONE_SHAPE = {"batch_size": 16, "packing": False, "row_tokens": 64}
OPTIM = Optim(learning_rate=1e-3, warmup=0.0, eps=1e-4)
"""Its first step moves something, unlike one of a warm-up; and it makes no rounding error large: keys' biases have no
gradient but that."""


@pytest.fixture(scope="module", autouse=True)
def rolled() -> Iterator[None]:
    """Layers in a loop, which compiles faster."""
    real = segments.model_of
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "model_of", lambda setup, strategy: real(setup, strategy).clone(unroll=1))
        yield


@pytest.fixture(scope="module")
def set_up_with(set_up_on, tmp_path_factory) -> Callable[..., Setup]:
    """A setup with segments."""
    cache = tmp_path_factory.mktemp("cache")

    def make(*parts: Segment, task: str = "classify", **how: Any) -> Setup:
        chosen = set_up_on(task, **{"optim": OPTIM, **ONE_SHAPE, **how}).recipe
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("JAXFT_CACHE", str(cache))
            return set_up(dataclasses.replace(chosen, segments=parts))

    return make


class Compiling(Progress):
    """Counts what it is told is compiled."""

    def __init__(self) -> None:
        super().__init__(0, quiet=True)
        self.told: list[str] = []

    def compiling(self, what: str) -> None:
        self.told.append(what)


class Run:
    """Steps of a setup, by one `Stepper`."""

    def __init__(self, setup: Setup, **how: Any) -> None:
        self.setup, self.progress = setup, Compiling()
        self.stepper = Stepper(setup, self.progress, **how)
        self.losses: list[float] = []

    def take(self, strategies: Iterable[Strategy | None]) -> list[State]:
        """The state before the first step and after each, on the host. none: as the recipe's segments say."""
        state = self.stepper.place(step.init(self.setup.split()[0], self.stepper.optimiser))
        states = [on_host(state)]
        for number, strategy in enumerate(strategies):
            batches = self.setup.batches() if strategy is None else self.setup.batches_of(strategy)
            state, info = self.stepper(state, batches.make(number), strategy)
            states.append(on_host(state))
            self.losses.append(info.loss.item())
        return states


def on_host(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: np.array(leaf.addressable_data(0)), tree)


def same(one: Any, other: Any) -> bool:
    """Every bit."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def assert_close(found: Flat, expected: Flat) -> None:
    assert found.keys() == expected.keys()
    for path, leaf in expected.items():
        np.testing.assert_allclose(found[path], leaf, rtol=1e-5, atol=1e-6, err_msg=str(path))


@pytest.fixture(scope="module")
def run(set_up_with, rolled, promotion_for_optax) -> Run:
    """20 steps, the first three with the recipe's rate, three more with three times that."""
    return Run(set_up_with(segment(DEFAULT, 3), segment(FAST, 3)))


# --- which strategy when ---------------------------------------------------------------------------------------------


def test_stretches_follow_each_other_and_the_recipe_comes_last():
    parts = (segment(FAST, 3), Segment(dropout=0.2, steps=1))
    expected = [FAST] * 3 + [Strategy(dropout=0.2)] + [DEFAULT] * 2
    assert [segments.strategy_at(parts, number) for number in range(6)] == expected
    for end in range(7):
        spans = list(segments.spans(parts, end))
        assert [strategy for strategy, first, last in spans for _ in range(first, last)] == expected[:end]
        assert all(first < last for _, first, last in spans)


@pytest.mark.slow
def test_a_segment_that_changes_nothing_changes_nothing(run, set_up_on):
    plain = Run(set_up_on(optim=OPTIM, **ONE_SHAPE))
    assert run.stepper.is_parametric and not plain.stepper.is_parametric
    without, within = (one.take([DEFAULT] * 6)[-1].trainable for one in (plain, run))
    assert_close(within, without)
    np.testing.assert_allclose(run.losses[-6:], plain.losses, rtol=1e-5)


def test_another_strategy_counts_from_its_first_step_on(run):
    """And the recipe's segments say which."""
    stayed, changed = run.take([DEFAULT] * 6), run.take([None] * 6)
    assert [same(one, other) for one, other in zip(stayed, changed, strict=True)] == [True] * 4 + [False] * 3
    assert same(changed[-1], run.take([DEFAULT] * 3 + [FAST] * 3)[-1])
    assert not any(np.array_equal(changed[-1].trainable[path], leaf) for path, leaf in stayed[-1].trainable.items())


# --- freezing --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("freeze", "layers"), [("layers:0", 0), ("layers:1", 1), ("layers:2", 2), ("encoder", 2)])
def test_what_a_segment_freezes_does_not_move_a_bit(run, freeze, layers):
    """Parameters, moments and counts; the rest goes on, and so does everything afterwards."""
    frozen = Strategy(freeze=freeze, weight_decay=0.5, learning_rate=2.0)
    _, before, _, after, later = run.take([DEFAULT, frozen, frozen, DEFAULT])
    parts = [(before.trainable, after.trainable, later.trainable)]
    parts += zip(before.optimiser, after.optimiser, later.optimiser, strict=True)
    for old, new, last in parts:
        for path in old:
            if path[:2] == LAYERS:
                still = [np.array_equal(new[path][number], old[path][number]) for number in range(2)]
                assert still == [number < layers for number in range(2)], path
            else:
                assert np.array_equal(new[path], old[path]) == (path[:2] == ("encoder", "embeddings")), path
            assert not np.array_equal(last[path], new[path])
    counts = later.optimiser.updates
    assert counts[*LAYERS, "up", "kernel"].tolist() == [2] * layers + [4] * (2 - layers)
    assert (counts[WORD], counts["classifier", "kernel"], later.step) == (2, 4, 4)


@pytest.fixture(scope="module")
def deep(tiny_model) -> Path:
    """A model of 3 layers."""
    return tiny_model(positions=128, layers=3)


def gradient_of(setup: Setup, strategy: Strategy, unroll: int = 1) -> tuple[Any, tuple[Any, ...]]:
    """The function that differentiates under a strategy, and its arguments in the first step."""
    window = Window(setup.partition, segments.partition_of(setup, strategy))
    model, rule = segments.model_of(setup, strategy).clone(unroll=unroll), Parametric(OPTIM, setup.num_steps)
    trainable, frozen = setup.split()
    key = prng.device_words(prng.stream("dropout", 0))
    micro = {name: values[0] for name, values in setup.batches().make(0).arrays.items()}
    constants = Constants(frozen, key, None, hyper(setup.recipe, strategy))
    made = step.make_parametric(model, setup.task, rule, window)
    return made.gradient, (trainable, micro, np.uint32(0), constants, np.float32(16))


@pytest.fixture(scope="module")
def whole_gradient(set_up_with, deep, promotion_for_optax) -> Any:
    """Of all parameters, in the first step: a `Part`."""
    function, arguments = gradient_of(set_up_with(Segment(steps=1), model=deep), DEFAULT)
    return jax.jit(function)(*arguments)[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("base", "freeze", "layers"),
    [
        ("none", "layers:2", 2),
        ("layers:0", "layers:1", 1),
        ("layers:1", None, 1),
        ("layers:1", "layers:2", 2),
        ("layers:1", "encoder", 3),
    ],
)
def test_nothing_is_differentiated_that_is_frozen(set_up_with, deep, whole_gradient, base, freeze, layers):
    """By the recipe or by the segment; what is left is the same gradient of the same loss, dropout included."""
    strategy = Strategy(freeze=freeze)
    setup = set_up_with(segment(strategy, 1), model=deep, freeze=base)
    function, arguments = gradient_of(setup, strategy)
    expected = {
        path: leaf[layers:] if path[:2] == LAYERS else leaf
        for path, leaf in whole_gradient.gradient.items()
        if path[:2] != ("encoder", "embeddings") and not (path[:2] == LAYERS and layers == 3)
    }
    shapes = jax.eval_shape(function, *arguments)[0].gradient
    assert {path: leaf.shape for path, leaf in shapes.items()} == {path: leaf.shape for path, leaf in expected.items()}
    part = jax.jit(function)(*arguments)[0]
    np.testing.assert_allclose(part.loss, whole_gradient.loss, rtol=1e-6)
    scale = max(float(np.abs(leaf).max()) for leaf in expected.values())
    for path, leaf in expected.items():
        np.testing.assert_allclose(part.gradient[path], leaf, rtol=1e-4, atol=1e-6 * scale, err_msg=str(path))


@pytest.mark.slow
def test_frozen_layers_cost_no_backward_pass(set_up_with, deep):
    setup = set_up_with(Segment(steps=1), model=deep)

    def flops(freeze: str) -> float:
        function, arguments = gradient_of(setup, Strategy(freeze=freeze), unroll=3)  # every layer counts
        analysis: Any = jax.jit(function).lower(*arguments).cost_analysis()
        return analysis["flops"]

    everything, two_layers, head_alone = (flops(freeze) for freeze in ("none", "layers:2", "encoder"))
    assert head_alone < two_layers < 0.8 * everything and head_alone < 0.5 * everything


@pytest.mark.slow
def test_a_segment_may_freeze_more_than_the_run_does(set_up_with):
    """The embeddings are frozen throughout, the bottom layer in the second step."""
    run = Run(set_up_with(Segment(steps=1), Segment(freeze="layers:1", steps=1), freeze="layers:0"))
    states = run.take([None] * 3)
    kernel = (*LAYERS, "up", "kernel")
    assert WORD not in states[0].trainable
    moved = [
        [not np.array_equal(new.trainable[kernel][layer], old.trainable[kernel][layer]) for layer in range(2)]
        for old, new in zip(states, states[1:], strict=False)
    ]
    assert moved == [[True, True], [False, True], [True, True]]
    assert states[-1].optimiser.updates[kernel].tolist() == [2, 3]
    whole = flatten(run.setup.partition.whole(states[-1].trainable, run.setup.split()[1]))
    before = flatten(run.setup.params)
    assert {path: leaf.shape for path, leaf in whole.items()} == {path: leaf.shape for path, leaf in before.items()}
    np.testing.assert_array_equal(whole[WORD], before[WORD])
    np.testing.assert_array_equal(whole[kernel], states[-1].trainable[kernel])


@pytest.mark.parametrize(
    ("base", "freeze", "told"),
    [
        ("layers:1", "none", "none trains what train.freeze: layers:1 freezes"),
        ("layers:1", "layers:0", "layers:0 trains what train.freeze: layers:1 freezes"),
        ("encoder", "layers:1", "layers:1 trains what train.freeze: encoder freezes"),
        ("layers:0", "none", "none trains what train.freeze: layers:0 freezes"),
        ("none", "layers:99", "freezes 99 layers of 2"),
    ],
)
def test_freezing_less_than_the_run_or_what_is_not_there_is_refused(set_up_with, base, freeze, told):
    with pytest.raises(UserError) as caught:
        set_up_with(Segment(steps=1), Segment(freeze=freeze, steps=1), freeze=base)
    (problem,) = caught.value.problems
    assert problem.where == "segments[1].freeze" and told in problem.what and problem.fix


def test_what_segments_freeze_wrongly_is_told_at_once(set_up_with):
    with pytest.raises(UserError) as caught:
        set_up_with(Segment(freeze="layers:3", steps=1), Segment(freeze="none", steps=1), freeze="layers:1")
    assert [problem.where for problem in caught.value.problems] == ["segments[0].freeze", "segments[1].freeze"]


# --- what else a strategy sets ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_rates_of_a_strategy_are_those_of_a_recipe(run, set_up_on):
    """Against a run without segments whose recipe has them."""
    rates: dict[str, Any] = {"label_smoothing": 0.3, "dropout": 0.4}
    plain = Run(set_up_on(optim=OPTIM, **ONE_SHAPE, **rates))
    expected, found = (one.take([strategy] * 2)[-1] for one, strategy in ((plain, DEFAULT), (run, Strategy(**rates))))
    assert_close(found.trainable, expected.trainable)
    np.testing.assert_allclose(run.losses[-2:], plain.losses, rtol=1e-5)
    for other in (DEFAULT, Strategy(label_smoothing=0.3), Strategy(dropout=0.4)):
        run.take([other])
        assert abs(run.losses[-1] - plain.losses[0]) > 1e-4


@pytest.mark.slow
def test_only_another_depth_or_dropout_compiles_a_program(run, compilations):
    """And only once."""

    def programs(*strategies: Strategy) -> int:
        """How many take two steps with each to compile."""
        made = [(number, run.setup.batches_of(one).make(number), one) for number, one in enumerate(strategies)]
        state = run.stepper.place(step.init(run.setup.split()[0], run.stepper.optimiser))
        before, told = len(compilations), len(run.progress.told)
        for _, batch, strategy in made * 2:
            state, _ = run.stepper(state, batch, strategy)
        assert len(compilations) - before == len(run.progress.told) - told
        return len(run.progress.told) - told

    assert programs(DEFAULT) <= 1  # unless a test before this one has
    data = [Strategy(learning_rate=rate) for rate in (0.0, 0.5, 2.0)]
    data += [Strategy(optimizer="sgd"), Strategy(weight_decay=0.0), Strategy(weight_decay=0.2)]
    data += [Strategy(label_smoothing=0.1), Strategy(label_noise=0.3), Strategy(freeze="none"), Strategy(dropout=0.1)]
    assert programs(*data) == 0
    assert programs(Strategy(dropout=0.25)) == 1
    assert programs(Strategy(dropout=0.25, learning_rate=2.0), Strategy(dropout=0.25, optimizer="sgd")) == 0
    assert programs(Strategy(freeze="layers:1", dropout=0.25)) == 1
    assert programs(Strategy(freeze="layers:1", dropout=0.25, learning_rate=2.0), Strategy(dropout=0.25)) == 0
    assert run.stepper.compile_s > 0 and len(run.stepper.shapes) == 1


# --- batches ---------------------------------------------------------------------------------------------------------


def arrays_differ(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> set[str]:
    assert one.keys() == other.keys()
    return {name for name in one if not np.array_equal(one[name], other[name])}


@pytest.mark.parametrize(
    ("strategy", "noise", "changes"),
    [
        (Strategy(label_noise=0.3), Noise(label=0.3), "targets"),
        (Strategy(token_noise=0.3), Noise(token_replace=0.3), "tokens"),
    ],
    ids=["label_noise", "token_noise"],
)
def test_noise_of_a_strategy_is_that_of_a_recipe(set_up_with, set_up_on, strategy, noise, changes):
    setup = set_up_with(segment(DEFAULT, 2), segment(strategy, 2))
    batches, noisy = setup.batches(), set_up_on(optim=OPTIM, noise=noise, **ONE_SHAPE).batches()
    clean = setup.batches_of(DEFAULT)
    for number in range(6):
        batch, expected = batches.make(number), (noisy if number in (2, 3) else clean).make(number)
        assert not arrays_differ(batch.arrays, expected.arrays)
        assert arrays_differ(batch.arrays, clean.make(number).arrays) == ({changes} if number in (2, 3) else set())
        assert batch.step == number and batch.examples.tolist() == expected.examples.tolist()
    assert setup.noise is None and (setup.vocabulary is None) == (changes == "tokens")


def test_a_strategy_may_switch_off_the_recipes_noise(set_up_with):
    noise = Noise(label=0.3, token_drop=0.1)
    setup = set_up_with(Segment(label_noise=0.0, steps=1), Segment(label_noise=0.6, steps=1), noise=noise)
    made = [setup.batches().make(number) for number in range(3)]
    clean = setup.datasets["train"].targets
    changed = [int((targets_by_example(batch.arrays) != clean[batch.examples]).sum()) for batch in made]
    assert changed[0] == 0 and changed[1] > changed[2] > 0
    lengths = setup.datasets["train"].encoded.piece_lengths
    dropped = [lengths[batch.examples].sum() - batch.real_tokens for batch in made]
    assert min(dropped) > 0  # token_drop stays on throughout


def targets_by_example(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """One example a row here."""
    return arrays["targets"][0, :, 0]


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_a_smaller_batch_has_the_first_examples_of_the_step(set_up_with, micro_batches):
    small = Strategy(batch_size=6)
    setup = set_up_with(segment(DEFAULT, 9), segment(small, 3), micro_batches=micro_batches)
    batches, usual = setup.batches(), setup.batches_of(DEFAULT)
    for number in (8, 9, 10, 11, 12):
        size = 6 if 9 <= number < 12 else 16
        batch, whole = batches.make(number), usual.make(number)
        assert batch.examples.tolist() == whole.examples[:size].tolist()
        assert (batch.epoch, batch.shape) == (whole.epoch, (micro_batches, size // micro_batches, 64))
        assert batch.real_tokens == setup.datasets["train"].encoded.piece_lengths[batch.examples].sum()
    assert setup.num_steps == 20 and setup.steps_per_epoch == 10  # a step is a step
    assert {shape.rows for shape in batches.shapes} == {6 // micro_batches, 16 // micro_batches}


def test_an_epochs_short_last_step_may_be_smaller_still(set_up_with):
    setup = set_up_with(Segment(batch_size=10, steps=8), batch_size=48)  # 160 examples: 48, 48, 48, 16
    sizes = [len(setup.batches().make(number).examples) for number in range(4)]
    assert sizes == [10, 10, 10, 10]
    sizes = [len(setup.batches_of(Strategy(batch_size=20)).make(number).examples) for number in range(4)]
    assert sizes == [20, 20, 20, 16]


# --- what a run tells ------------------------------------------------------------------------------------------------


def test_noise_is_counted_where_it_was(set_up_with):
    """Over two epochs and a half of a third strategy, of which some steps are smaller."""
    parts = (Segment(label_noise=0.3, batch_size=8, steps=5), Segment(steps=2), Segment(label_noise=0.2, steps=12))
    setup = set_up_with(*parts)
    clean, changed, of = setup.datasets["train"].targets, 0, 0
    for number in range(20):
        batch = setup.batches().make(number)
        noisy = number < 5 or 7 <= number < 19
        wrong = int((targets_by_example(batch.arrays) != clean[batch.examples]).sum())
        assert noisy or wrong == 0
        changed, of = changed + wrong, of + noisy * len(batch.examples)
        assert setup.noise_counts(number + 1) == {"labels": {"changed": changed, "of": of}}
    assert 0 < changed < of == 5 * 8 + 12 * 16
    assert set_up_with(Segment(learning_rate=2.0, steps=5)).noise_counts(20) == {}


def test_what_comes_to_nothing_or_means_something_else_is_a_warning(set_up_with):
    def told(*parts: Segment, **how: Any) -> list[str]:
        return [str(one) for one in set_up_with(*parts, **how).warnings if one.where in ("segments", "optim.name")]

    assert told(Segment(steps=20)) == []
    assert told(Segment(steps=20), Segment(steps=1)) == ["segments: have 21 steps in all, but the run ends after 20"]
    sgd = Optim("sgd", learning_rate=0.1)
    (warned,) = told(Segment(steps=1), optim=sgd)
    assert warned.startswith("optim.name: in a run with segments, sgd is a mean of the gradients: it has the momentum")
    assert told(optim=sgd) == []


# --- words that no text holds ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_training_on_the_words_in_use_is_training_on_all(set_up_with):
    """After each number of steps, with all that moves the others; the last one goes by the recipe."""
    chosen = Optim(learning_rate=1e-2, weight_decay=0.2, warmup=0.1, eps=1e-4)
    parts = (
        Segment(weight_decay=0.4, steps=2),
        Segment(freeze="layers:0", weight_decay=0.4, steps=1),
        Segment(optimizer="sgd", learning_rate=3.0, steps=2),
        Segment(weight_decay=0.0, steps=1),
    )
    setup = set_up_with(*parts, optim=chosen)
    assert setup.vocabulary is not None
    unused = np.setdiff1d(np.arange(len(setup.vocabulary.table)), setup.vocabulary.ids)
    found, expected = (one.take([None] * 7) for one in (Run(setup), Run(dataclasses.replace(setup, vocabulary=None))))
    rates, factor = optim.rates(chosen, setup.num_steps), 1.0
    for done in range(8):
        widened, whole = setup.widen(found[done].trainable, done), expected[done].trainable
        np.testing.assert_allclose(widened[WORD][unused], whole[WORD][unused], rtol=2e-6)
        np.testing.assert_allclose(whole[WORD][unused], factor * setup.vocabulary.table[unused], rtol=2e-6)
        factor *= 1 - rates[done] * (0.4, 0.4, 0.0, 0.6, 0.6, 0.0, 0.2, 0.2)[done]
    for path, leaf in whole.items():
        np.testing.assert_allclose(widened[path], leaf, rtol=1e-5, atol=1e-5 * np.abs(leaf).max(), err_msg=str(path))


def test_words_are_all_held_where_a_segment_may_bring_them(set_up_with):
    assert set_up_with(Segment(token_noise=0.1, steps=1)).vocabulary is None
    assert set_up_with(Segment(label_noise=0.1, steps=1)).vocabulary is not None
    setup = set_up_with(Segment(token_noise=0.0, steps=1), noise=Noise(token_replace=0.1))
    assert setup.vocabulary is None  # the steps after it may


# --- the same end ----------------------------------------------------------------------------------------------------

ALL_KINDS = (
    Segment(learning_rate=2.0, label_noise=0.2, token_noise=0.1, freeze="layers:1", steps=3),
    Segment(optimizer="sgd", weight_decay=0.5, dropout=0.3, label_smoothing=0.2, batch_size=8, steps=3),
)
STEPS = 6


class NoDev:
    """In place of an Evaluator."""

    has_dev = False


@pytest.fixture(scope="module")
def setup(set_up_with) -> Setup:
    """6 steps of 16 examples in 8 micro-batches, a checkpoint after each; on one device."""
    train = {"steps": STEPS, "micro_batches": 8, "save_every": 1, "keep_checkpoints": STEPS}
    return on_devices(set_up_with(*ALL_KINDS, **train), 1)


def on_devices(setup: Setup, count: int) -> Setup:
    mesh = dataclasses.replace(setup.recipe.mesh, data=count)
    return dataclasses.replace(setup, recipe=dataclasses.replace(setup.recipe, mesh=mesh))


def trained(setup: Setup, path: Path) -> Fitted:
    """Trains in a run folder, or goes on there."""
    folder = RunFolder(path).create(resume=True)
    evaluator: Any = Evaluator(setup) if "dev" in setup.datasets else NoDev()
    with Progress(STEPS, quiet=True) as progress:
        return fit(setup, folder, progress, evaluator, Clock())


@pytest.fixture(scope="module")
def whole(setup, tmp_path_factory, promotion_for_optax) -> tuple[Fitted, Path]:
    """The run that nothing interrupts, with all its checkpoints."""
    path = tmp_path_factory.mktemp("runs") / "whole"
    return trained(setup, path), path


@pytest.mark.slow
def test_rates_and_tokens_of_the_segments_are_in_metrics_jsonl(setup, whole):
    records = RunFolder(whole[1]).records()
    rates = optim.rates(OPTIM, STEPS) * ([2.0] * 3 + [1.0] * 3)
    assert [record["learning_rate"] for record in records] == pytest.approx(rates.tolist(), rel=1e-6)
    batches = setup.batches()
    assert [record["real_tokens"] for record in records] == [batches.make(n).real_tokens for n in range(STEPS)]
    assert [len(batches.make(n).examples) for n in range(STEPS)] == [16] * 3 + [8] * 3
    assert whole[0].clock.real_tokens == sum(record["real_tokens"] for record in records)


@pytest.mark.slow
@pytest.mark.parametrize("after", [2, 4])
def test_a_run_killed_within_a_segment_ends_as_the_uninterrupted_one(setup, whole, tmp_path, after):
    """Parameters and every record, to the bit; on another number of devices."""
    fitted, path = whole
    to = tmp_path / "run"
    to.mkdir()
    records = RunFolder(path).records()
    (to / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records if r["step"] <= after + 1))
    name = f"checkpoints/step_{after:08d}"
    shutil.copytree(path / name, to / name)
    found = trained(on_devices(setup, after), to)
    assert (found.num_devices, found.steps) == (after, STEPS)
    assert params_sha256(found.params) == params_sha256(fitted.params)
    assert RunFolder(to).records() == records


@pytest.mark.slow
def test_a_state_goes_on_only_with_the_same_segments(setup, whole, tmp_path):
    shutil.copytree(whole[1], tmp_path / "run")
    other = (ALL_KINDS[0], dataclasses.replace(ALL_KINDS[1], dropout=0.2))
    changed = dataclasses.replace(setup, recipe=dataclasses.replace(setup.recipe, segments=other))
    with pytest.raises(UserError, match="segments: is .*'dropout': 0.2.*, but the unfinished run in .* has"):
        trained(changed, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4, 8])
def test_one_answer_on_any_number_of_devices(setup, whole, tmp_path, count):
    fitted, path = whole
    found = trained(on_devices(setup, count), tmp_path / "run")
    assert found.num_devices == count and fitted.num_devices == 1
    assert params_sha256(found.params) == params_sha256(fitted.params)
    assert RunFolder(tmp_path / "run").records() == RunFolder(path).records()


@pytest.mark.slow
def test_fast_numerics_agree_within_rounding(set_up_with):
    """A tagger, on two devices."""
    parts = (Segment(freeze="layers:1", label_smoothing=0.2, steps=2), Segment(optimizer="sgd", batch_size=8, steps=2))
    setup = on_devices(set_up_with(*parts, task="tag", micro_batches=2), 2)
    fast = dataclasses.replace(setup, recipe=dataclasses.replace(setup.recipe, numerics="fast"))
    one, other = Run(setup), Run(fast)
    canonical, quick = one.take([None] * 4)[-1], other.take([None] * 4)[-1]
    np.testing.assert_allclose(other.losses, one.losses, rtol=1e-5)
    assert_close(quick.trainable, canonical.trainable)
    counts = quick.optimiser.updates
    assert counts[*LAYERS, "up", "kernel"].tolist() == [2, 4] and counts[WORD] == 2
