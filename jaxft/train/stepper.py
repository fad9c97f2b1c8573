"""The steps of a run: which executable takes a step, and what it reads.

A run without segments has one optimiser and one set of executables. With segments it has the parametric optimiser and
one set for each (frozen depth, dropout rate) that its strategies have: all else that a strategy sets is data.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxft import prng, recipe
from jaxft.data.batches import StepBatch
from jaxft.mesh import devices
from jaxft.report.progress import Progress
from jaxft.strategy import Strategy
from jaxft.train import optim, parametric, segments, step
from jaxft.train.compiled import Compiled, Info
from jaxft.train.parametric import Parametric, Window
from jaxft.train.partition import Flat
from jaxft.train.setup import Setup
from jaxft.train.step import Constants, State


class Stepper:
    """Takes steps of a setup. is_parametric: for strategies; none: where the recipe has segments. mesh: the devices;
    none: those that the recipe wants."""

    def __init__(
        self, setup: Setup, progress: Progress, *, is_parametric: bool | None = None, mesh: Mesh | None = None
    ) -> None:
        self._setup, self._progress, train = setup, progress, setup.recipe.train
        self.is_parametric = bool(setup.recipe.segments) if is_parametric is None else is_parametric
        self._rule = rule_of(setup)
        self.optimiser: Any = self._rule if self.is_parametric else optim.make(setup.recipe.optim, setup.num_steps)
        self.mesh = mesh or devices.choose(setup.recipe.mesh.data, train.micro_batches)
        if self.mesh.size < len(jax.devices()):
            told = f"{self.mesh.size} of {len(jax.devices())} devices compute(s): train.micro_batches is"
            progress.message(f"{told} {train.micro_batches}, mesh.data {setup.recipe.mesh.data}")
        self._programs: dict[Any, Compiled] = {}
        self._plain = self._program(segments.DEFAULT)
        self._constants: dict[Strategy, Constants] = {}

    def __call__(self, state: State, batch: StepBatch, strategy: Strategy | None = None) -> tuple[State, Info]:
        """One step. state: consumed, as `place` gives it. strategy: none: the recipe's at that step."""
        chosen = self._setup.strategy_at(batch.step) if strategy is None else strategy
        return self._program(chosen)(state, batch.arrays, batch.epoch, self._constants_of(chosen))

    def place(self, tree: Any) -> Any:
        """A copy of host arrays on every device."""
        return self._plain.place(tree)

    def digest(self, tree: Any) -> str:
        """8 hexadecimal digits of all bits."""
        return self._plain.digest(tree)

    @property
    def compile_s(self) -> float:
        """Seconds spent compiling."""
        return sum(program.compile_s for program in self._programs.values())

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the batches met so far."""
        return tuple(dict.fromkeys(shape for program in self._programs.values() for shape in program.shapes))

    def _program(self, strategy: Strategy) -> Compiled:
        setup = self._setup
        within = segments.partition_of(setup, strategy)
        dropout = setup.recipe.train.dropout if strategy.dropout is None else strategy.dropout
        key = (within, dropout)
        if key not in self._programs:
            model = segments.model_of(setup, strategy)
            if self.is_parametric:
                made = step.make_parametric(model, setup.task, self._rule, Window(setup.partition, within))
            else:
                smoothing = setup.recipe.train.label_smoothing
                made = step.make(model, setup.task, self.optimiser, setup.partition, smoothing)
            numerics, told = setup.recipe.numerics, self._progress.compiling
            self._programs[key] = Compiled(made, self.mesh, numerics=numerics, on_compile=told)
        return self._programs[key]

    def _constants_of(self, strategy: Strategy) -> Constants:
        if not self._constants:
            self._base = self._plain.place(constants_of(self._setup, self._setup.split()[1]))
        if strategy not in self._constants:
            numbers = parametric.hyper(self._setup.recipe, strategy) if self.is_parametric else None
            self._constants[strategy] = self._base._replace(hyper=self._plain.place(numbers))
        return self._constants[strategy]


def rule_of(setup: Setup) -> Parametric:
    """The optimiser of a setup's runs with segments."""
    return Parametric(setup.recipe.optim, setup.num_steps)


def constants_of(setup: Setup, frozen: Flat) -> Constants:
    """What the steps of a run read, on the host."""
    words = prng.stream("dropout", recipe.stream_seeds(setup.recipe)["dropout"])
    weights = setup.class_weights()
    return Constants(frozen, prng.device_words(words), None if weights is None else jnp.asarray(weights))
