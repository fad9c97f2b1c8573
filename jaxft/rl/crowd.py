"""The runs of several seeds side by side.

Apart       one compiled program, run once for each seed. On CPU the runs share the cores, as each is handed out before
            an earlier one is done. A seed's bits are those that it has alone; a seed that stopped costs nothing more.
Together    one program for all seeds, vectorised. Better where a single seed cannot fill the device; the last bits are
            others than those of a seed alone, and all seeds compute until the last one stops.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jaxft import draws
from jaxft.mesh import devices
from jaxft.mesh.devices import DATA
from jaxft.rl.alphazero import SelfPlayProgram
from jaxft.rl.program import Program, Report, State
from jaxft.rl.setup import Setup
from jaxft.train.partition import Flat

Tree = Any


class Crowd(Protocol):
    """Seeds under way. compile_s: seconds spent compiling."""

    compile_s: float

    def advance(self, seeds: Iterable[int], iterations: int) -> dict[int, Report]:
        """So many iterations of those seeds; seed -> what they tell, on the host."""
        ...

    def score(self, seeds: Iterable[int], round: int) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """Seed -> (returns [E], lengths [E]) of the evaluation after a round."""
        ...

    def to_host(self, seed: int) -> State:
        """A copy of a seed's state."""
        ...

    def put(self, seed: int, state: State) -> None:
        """Sets a seed's state, from host arrays."""
        ...


class _Compiling:
    """Compiles each function once, before it is first needed, and takes the time."""

    def __init__(self, on_compile: Callable[[str], None]) -> None:
        self._on_compile, self._compiled = on_compile, {}
        self.compile_s = 0.0

    def _run(self, name: str, jitted: Any, *arguments: Any) -> Any:
        if name not in self._compiled:
            self._on_compile(name)
            since = time.perf_counter()
            self._compiled[name] = jitted.lower(*arguments).compile()
            self.compile_s += time.perf_counter() - since
        return self._compiled[name](*arguments)


class Apart(_Compiling):
    """See above."""

    def __init__(self, setup: Setup, on_compile: Callable[[str], None] = lambda what: None) -> None:
        super().__init__(on_compile)
        program = setup.program()
        self.mesh = program.mesh
        self._advance = jax.jit(program.advance_fn, donate_argnums=0)
        self._score = jax.jit(program.score)
        self._words = {seed: self._place(setup.words(seed)) for seed in setup.seeds}
        self._states = {seed: self._placed(self._begun(setup, program, seed)) for seed in setup.seeds}

    def _begun(self, setup: Setup, program: Program | SelfPlayProgram, seed: int) -> State:
        trainable, frozen = jax.tree.map(jnp.asarray, setup.parameters(seed))
        begin = jax.jit(program.begin)
        return self._run("the beginning", begin, trainable, frozen, setup.words(seed))

    def _place(self, tree: Tree) -> Tree:
        return jax.device_put(tree, devices.replicated(self.mesh))

    def _placed(self, state: State) -> State:
        groups = jax.device_put(state.groups, NamedSharding(self.mesh, PartitionSpec(DATA)))
        return State(jax.device_put(state.learner, devices.replicated(self.mesh)), groups)

    def advance(self, seeds: Iterable[int], iterations: int) -> dict[int, Report]:
        count, reports = self._place(jnp.int32(iterations)), {}
        for seed in seeds:
            arguments = (self._states[seed], self._words[seed], count)
            self._states[seed], reports[seed] = self._run("collecting and learning", self._advance, *arguments)
        return {seed: jax.tree.map(np.asarray, report) for seed, report in reports.items()}

    def score(self, seeds: Iterable[int], round: int) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        found = {}
        for seed in seeds:
            learner = self._states[seed].learner
            words = self._place(draws.fold_in(self._words[seed].evaluation, round))
            found[seed] = self._run("evaluation", self._score, learner.trainable, learner.frozen, words)
        return {seed: jax.tree.map(np.asarray, scores) for seed, scores in found.items()}

    def to_host(self, seed: int) -> State:
        return jax.tree.map(lambda x: np.array(x, copy=True), self._states[seed])

    def put(self, seed: int, state: State) -> None:
        self._states[seed] = self._placed(jax.tree.map(jnp.array, state))


class Together(_Compiling):
    """See above."""

    def __init__(self, setup: Setup, on_compile: Callable[[str], None] = lambda what: None) -> None:
        super().__init__(on_compile)
        program = setup.program()
        self.mesh, self._at = program.mesh, {seed: at for at, seed in enumerate(setup.seeds)}
        self._advance = jax.jit(jax.vmap(program.advance_fn, in_axes=(0, 0, None)), donate_argnums=0)
        self._score = jax.jit(jax.vmap(program.score))
        self._words = _stacked([setup.words(seed) for seed in setup.seeds])
        begun = [jax.tree.map(jnp.asarray, setup.parameters(seed)) for seed in setup.seeds]
        begin = jax.jit(jax.vmap(program.begin))
        self._state = self._run("the beginning", begin, *_stacked(begun), self._words)

    def advance(self, seeds: Iterable[int], iterations: int) -> dict[int, Report]:
        arguments = (self._state, self._words, jnp.int32(iterations))
        self._state, report = self._run("collecting and learning", self._advance, *arguments)
        return self._of(jax.tree.map(np.asarray, report), seeds)

    def score(self, seeds: Iterable[int], round: int) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        learner, words = self._state.learner, draws.fold_in(self._words.evaluation, round)
        found = self._run("evaluation", self._score, learner.trainable, learner.frozen, words)
        return self._of(jax.tree.map(np.asarray, found), seeds)

    def to_host(self, seed: int) -> State:
        return jax.tree.map(lambda x: np.array(x[self._at[seed]], copy=True), self._state)

    def put(self, seed: int, state: State) -> None:
        at = self._at[seed]
        self._state = jax.tree.map(lambda all, one: all.at[at].set(jnp.asarray(one)), self._state, state)

    def _of(self, tree: Tree, seeds: Iterable[int]) -> dict[int, Any]:
        def one(at: int) -> Any:
            return jax.tree.map(lambda x: x[at], tree)

        return {seed: one(self._at[seed]) for seed in seeds}


def of(setup: Setup, on_compile: Callable[[str], None] = lambda what: None) -> Apart | Together:
    """As the recipe's numerics want it."""
    kind = Apart if setup.recipe.numerics == "canonical" else Together
    return kind(setup, on_compile)


def _stacked(trees: list[Tree]) -> Tree:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def host_params(state: State) -> Flat:
    """The trainable parameters of a state on the host."""
    return dict(state.learner.trainable)


__all__ = ["Apart", "Crowd", "Together", "host_params", "of"]
