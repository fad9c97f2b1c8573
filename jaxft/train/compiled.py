"""The executables of a step, and how they make one step of M micro-batches on d devices.

canonical   each micro-batch's gradient comes from one executable, the same whatever M and d are; the gradients are
            added in a fixed tree (train/reduce.py); one executable updates. The result has the same bits on any d that
            divides M. The host puts the pieces together, so that nothing around a gradient changes how it compiles.
fast        one executable: each device adds up its micro-batches in order, an all-reduce adds up the devices.

With one micro-batch both are the same single executable.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, PartitionSpec

from jaxft.mesh import devices
from jaxft.mesh.devices import DATA
from jaxft.train import layers, reduce
from jaxft.train.step import Constants, Part, State, Step, digest

_ALL, _EACH = PartitionSpec(), PartitionSpec(DATA)
_AHEAD = 1
"""Micro-batches that the host hands out before an earlier one is done: each holds a gradient."""
_OPTIONS = {"cpu": {"xla_cpu_prefer_vector_width": 512}}
"""Of the compiler, by platform. Left alone, XLA:CPU makes vectors of 256 bits where the processor has 512."""

Batch = Mapping[str, Any]


class Info(NamedTuple):
    """What a step tells. loss: mean over targets, f32 [1]. grad_norm: before clipping, f32 []. finite: bool
    [M, B, S or L] in parts along M, whether each loss is a number."""

    loss: Array
    grad_norm: Array
    finite: tuple[Array, ...]

    def all_finite(self) -> np.ndarray:
        """`finite` as one array, micro-batches in order."""
        parts = [np.asarray(part) for part in self.finite]  # part i holds micro-batch i of each device
        return np.stack(parts, axis=1).reshape(-1, *parts[0].shape[1:])


class Compiled:
    """Runs steps with one executable a batch shape, so that compilation is seen, timed and counted.

    mesh: of the devices; none: the first one. compile_s: seconds spent compiling.
    """

    def __init__(
        self,
        step: Step,
        mesh: Mesh | None = None,
        *,
        numerics: Literal["canonical", "fast"] = "canonical",
        on_compile: Callable[[str], None] = lambda what: None,
    ) -> None:
        self.mesh = mesh or devices.single()
        self._canonical, self._on_compile = numerics == "canonical", on_compile
        self._by_layer = step.by_layer
        self._options = _OPTIONS.get(self.mesh.devices.flat[0].platform)
        self._programs: dict[tuple, Any] = {}
        self.compile_s = 0.0
        self._whole = jax.jit(partial(_whole, step, self.mesh), donate_argnums=0)
        self._gradient = jax.jit(_on_each_device(step, self.mesh))
        self._across = jax.jit(reduce.across(self.mesh))
        self._update = jax.jit(_on_all_devices(step.update, self.mesh), donate_argnums=0)
        self._add = jax.jit(partial(jax.tree.map, jnp.add), donate_argnums=0)
        self._total_weight = jax.jit(step.total_weight)
        self._digest = jax.jit(_on_all_devices(digest, self.mesh))

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes [M, B, L] of the batches met so far, in order."""
        return tuple(dict.fromkeys(key[0] for key in self._programs if key[1] in ("whole", "gradient")))

    def text(self, shape: tuple[int, ...]) -> str:
        """The optimised HLO of the program that differentiates batches [M, B, L] of that shape; KeyError if there is
        none yet."""
        found = [self._programs[key] for key in self._programs if key[:1] == (shape,)]
        if not found:
            raise KeyError(shape)
        return found[0].as_text()

    def place(self, tree: Any) -> Any:
        """A copy of host arrays, or of a state, on every device of the mesh, kernels lying as the step has them."""
        tree = layers.apart(tree) if self._by_layer else tree
        return jax.device_put(tree, devices.replicated(self.mesh), may_alias=False)

    def __call__(self, state: State, batch: Batch, epoch: int, constants: Constants) -> tuple[State, Info]:
        """One step. batch: host arrays [M, B, L]. state: consumed. state, constants: as `place` gives them."""
        shape, kind = batch["tokens"].shape, batch["targets"].shape
        number = self.place(np.uint32(epoch))
        if self._canonical and shape[0] > 1:
            state, loss, norm, finite = self._in_pieces(state, batch, number, constants)
        else:
            spread = jax.device_put(dict(batch), devices.spread(self.mesh))
            program = self._program((shape, "whole", kind), self._whole, state, spread, number, constants)
            state, loss, norm, finite = program(state, spread, number, constants)
        return state, Info(loss, norm, finite)

    def digest(self, tree: Any) -> str:
        """8 hexadecimal digits of all bits of a state, or a part of one; see step.digest."""
        return f"{int(self._run(f'digest of {len(jax.tree.leaves(tree))}', self._digest, tree)):08x}"

    def _in_pieces(self, state: State, batch: Batch, epoch: Array, constants: Constants):
        shape, kind = batch["tokens"].shape, batch["targets"].shape
        weight = self.place(self._total_weight(np.asarray(batch["targets"]), constants))
        total, finite = reduce.PairwiseSum(partial(self._run, "sum", self._add)), []
        turns = shape[0] // self.mesh.size
        for turn in range(turns):
            micro = {name: values[turn::turns] for name, values in batch.items()}  # of device j: number j·turns + turn
            arguments = (state.trainable, jax.device_put(micro, devices.spread(self.mesh)), epoch, constants, weight)
            part, flags = self._program((shape, "gradient", kind), self._gradient, *arguments)(*arguments)
            finite.append(flags)
            total.push(part)
            del part  # the sum has it; here it would outlive that
            if turn >= _AHEAD:
                finite[turn - _AHEAD].block_until_ready()
        part = total.total()
        if self.mesh.size > 1:
            part = self._run("sum across devices", self._across, part)
        state, norm = self._run("update", self._update, state, part, constants)
        return state, part.loss, norm, tuple(finite)

    def _run(self, name: str, jitted: Any, *arguments: Any) -> Any:
        return self._program((name, "", ()), jitted, *arguments)(*arguments)

    def _program(self, key: tuple, jitted: Any, *arguments: Any) -> Any:
        if key not in self._programs:
            if key[1]:  # the others take no time to speak of
                self._on_compile("{} micro-batch(es) of {} rows x {} tokens".format(*key[0]))
            start = time.perf_counter()
            self._programs[key] = jitted.lower(*arguments).compile(self._options)
            self.compile_s += time.perf_counter() - start
        return self._programs[key]


def _on_each_device(step: Step, mesh: Mesh) -> Callable:
    """The gradient of one micro-batch a device: batches [d, B, L], parts spread over their first axis."""

    def one(trainable, batch, epoch, constants, weight):
        micro = {name: values[0] for name, values in batch.items()}
        part, finite = step.gradient(trainable, micro, epoch, constants, weight)
        return part, finite[None]

    specs = (_ALL, _EACH, _ALL, _ALL, _ALL)
    return jax.shard_map(one, mesh=mesh, in_specs=specs, out_specs=_EACH, check_vma=False)


def _on_all_devices(function: Callable, mesh: Mesh) -> Callable:
    """The same computation on every device."""
    return jax.shard_map(function, mesh=mesh, in_specs=_ALL, out_specs=_ALL, check_vma=False)


def _whole(step: Step, mesh: Mesh, state: State, batch: dict[str, Array], epoch: Array, constants: Constants):
    """A step in one program: (state, loss, norm, finite)."""
    weight = step.total_weight(batch["targets"], constants)
    function = partial(_in_order, step.gradient)
    if mesh.size > 1:
        specs = (_ALL, _EACH, _ALL, _ALL, _ALL)
        summed = partial(_summed, function)
        function = jax.shard_map(summed, mesh=mesh, in_specs=specs, out_specs=(_ALL, _EACH), check_vma=False)
    part, finite = function(state.trainable, batch, epoch, constants, weight)
    state, norm = step.update(state, part, constants)
    return state, part.loss, norm, (finite,)


def _summed(function: Callable, *arguments: Any) -> tuple[Part, Array]:
    part, finite = function(*arguments)
    return jax.lax.psum(part, DATA), finite


def _in_order(gradient: Callable, trainable: Any, batch: dict[str, Array], *rest: Any) -> tuple[Part, Array]:
    """Adds up the parts of micro-batches [M, B, L] in their order; the flags are stacked."""
    first = {name: values[0] for name, values in batch.items()}
    if batch["tokens"].shape[0] == 1:
        part, finite = gradient(trainable, first, *rest)
        return part, finite[None]

    def add(total: Part, micro: dict[str, Array]) -> tuple[Part, Array]:
        part, finite = gradient(trainable, micro, *rest)
        return jax.tree.map(jnp.add, total, part), finite

    shapes, _ = jax.eval_shape(gradient, trainable, first, *rest)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    return jax.lax.scan(add, zeros, batch)
