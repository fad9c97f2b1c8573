"""The devices of a run, as a mesh with the axis `data`: each takes the same number of a step's micro-batches."""

from __future__ import annotations

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxft.errors import UserError

DATA = "data"
"""Name of the mesh axis over which micro-batches are spread."""


def choose(wanted: int, micro_batches: int) -> Mesh:
    """A mesh of `wanted` devices, or, for -1, of as many of those there are as divide `micro_batches`.

    wanted, micro_batches: of a recipe that was checked. Raises UserError where there are fewer.
    """
    devices = jax.devices()
    fitting = [count for count in range(1, len(devices) + 1) if micro_batches % count == 0]
    count = fitting[-1] if wanted == -1 else wanted
    if count > len(devices):
        what = f"{count} devices are wanted, there are {len(devices)} ({devices[0].device_kind})"
        raise UserError("mesh.data", what, f"-1, or one of {', '.join(map(str, fitting))}: the result is the same")
    return Mesh(np.array(devices[:count]), (DATA,))


def single(number: int = 0) -> Mesh:
    """One device alone."""
    return Mesh(np.array(jax.devices()[number : number + 1]), (DATA,))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same value on every device."""
    return NamedSharding(mesh, PartitionSpec())


def spread(mesh: Mesh) -> NamedSharding:
    """The first axis cut into one part a device."""
    return NamedSharding(mesh, PartitionSpec(DATA))
