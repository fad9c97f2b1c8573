r"""Canonical sums: the gradients of M micro-batches added in one fixed pairwise tree, whatever devices hold them.

    micro-batch    0   1   2   3   4   5   6   7
                    \ /     \ /     \ /     \ /      the same additions on 1 device (one micro-batch after another),
                     +       +       +       +       on 2 (the halves, then one exchange) and on 8 (three exchanges)
                      \     /         \     /
                         +               +
                          \             /
                                 +

M is a power of two. Device j of d takes the micro-batches from j·M/d on, a whole subtree, so only the top log2 d levels
cross devices. Floating-point addition commutes but does not associate (Goldberg 1991, section 2.2.3): fixing the tree
fixes the bits. Inside a device at most log2 M partial sums wait (pairwise summation as a binary counter, Higham 1993,
section 3). Across devices, recursive halving and doubling (Rabenseifner 2004) moves what an all-reduce moves.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from jaxft.mesh.devices import DATA

LARGE = 2**15
"""Numbers from which on a leaf travels alone, in halves."""

Tree = Any
"""A pytree of arrays."""


class PairwiseSum:
    """Adds parts that come one after another. add(earlier, later): may overwrite `earlier`.

    At most log2 of the number of parts wait at any time; `total` asks for a power of two of them.
    """

    def __init__(self, add: Callable[[Tree, Tree], Tree]) -> None:
        self._add = add
        self._waiting: list[Tree] = []
        self._count = 0

    def push(self, part: Tree) -> None:
        """Takes the next part, and adds up every subtree that it completes."""
        self._count += 1
        count = self._count
        while count % 2 == 0:
            part = self._add(self._waiting.pop(), part)
            count //= 2
        self._waiting.append(part)

    def total(self) -> Tree:
        """The sum; ValueError if the parts are no power of two."""
        if len(self._waiting) != 1:
            raise ValueError(f"{self._count} parts are no power of two")
        return self._waiting.pop()


def across(mesh: Mesh) -> Callable[[Tree], Tree]:
    """Adds one part a device, each leaf spread over its first axis, in tree order; the sum is on every device."""
    add = partial(add_across, size=mesh.size)
    return jax.shard_map(add, mesh=mesh, in_specs=PartitionSpec(DATA), out_specs=PartitionSpec(), check_vma=False)


def add_across(part: Tree, size: int) -> Tree:
    """The same inside a function that is mapped over the axis `data` of `size` devices, each with a part of its own."""
    leaves, structure = jax.tree.flatten(part)
    large = [x.size % size == 0 and x.size >= LARGE for x in leaves]
    small = [x for x, is_large in zip(leaves, large, strict=True) if not is_large]
    together = iter(_apart(_butterfly(_together(small), size), small)) if small else iter(())
    sums = [_halving(x, size) if is_large else next(together) for x, is_large in zip(leaves, large, strict=True)]
    return jax.tree.unflatten(structure, sums)


def add_along(parts: Tree) -> Tree:
    """Adds up parts that are stacked along the first axis of each leaf, a power of two of them, in tree order."""
    while jax.tree.leaves(parts)[0].shape[0] > 1:
        parts = jax.tree.map(lambda x: x[0::2] + x[1::2], parts)
    return jax.tree.map(lambda x: x[0], parts)


def _together(leaves: list[jax.Array]) -> jax.Array:
    """One vector of all of them, so that they travel at once."""
    return jnp.concatenate([x.reshape(-1) for x in leaves])


def _apart(vector: jax.Array, like: list[jax.Array]) -> list[jax.Array]:
    ends = np.cumsum([x.size for x in like])[:-1].tolist()
    return [part.reshape(x.shape) for part, x in zip(jnp.split(vector, ends), like, strict=True)]


def _butterfly(x: jax.Array, size: int) -> jax.Array:
    """At each level two devices exchange all of x: log2 d times its bytes a device."""
    for distance in _distances(size):
        x = x + _exchange(x, distance, size)
    return x


def _halving(x: jax.Array, size: int) -> jax.Array:
    """At each level two devices exchange the half that the other one goes on with, nearest first, as the tree adds;
    device i ends with block i of d, and all gather them: twice (d - 1) / d times the bytes of x a device."""
    place, blocks = jax.lax.axis_index(DATA), x.reshape(size, -1)
    for distance in _distances(size):  # the blocks left are those whose number ends in the bits of the place's
        pairs, odd = blocks.reshape(-1, 2, blocks.shape[-1]), _is_upper(place, distance)
        blocks = pairs[:, odd] + _exchange(pairs[:, 1 - odd], distance, size)
    return jax.lax.all_gather(blocks[0], DATA, tiled=True).reshape(x.shape)


def _distances(size: int) -> list[int]:
    return [2**level for level in range(size.bit_length() - 1)]


def _is_upper(place: jax.Array, distance: int) -> jax.Array:
    """1 where the partner at that distance comes earlier, else 0."""
    return place // distance % 2


def _exchange(x: jax.Array, distance: int, size: int) -> jax.Array:
    """What the partner holds."""
    return jax.lax.ppermute(x, DATA, [(place, place ^ distance) for place in range(size)])
