"""How the layers' stacked kernels, [N, K, ...], lie on a device: as one array, or as one a layer.

One a layer suits straight-line code on CPU: a gradient is not copied into a stack, and the optimiser's loops (first
moment, second moment, parameter) find a layer's numbers in the cache, where those over a stack fetch all of it thrice.
Biases and LayerNorm's parameters stay stacked: they are small, and every array takes time to hand over. Code that loops
over the layers wants the stack; so does a run with segments, which cuts the stack where they freeze.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxft.train.partition import LAYERS


@jax.tree_util.register_pytree_node_class
class Layers:
    """A stacked leaf as its arrays, one a layer."""

    def __init__(self, parts: Iterable[Any]) -> None:
        self.parts = tuple(parts)

    def tree_flatten(self) -> tuple[tuple[Any, ...], None]:
        return self.parts, None

    @classmethod
    def tree_unflatten(cls, _: None, parts: Iterable[Any]) -> Layers:
        return cls(parts)


def is_layers(leaf: Any) -> bool:
    """For `is_leaf=` of `jax.tree`."""
    return isinstance(leaf, Layers)


def apart(tree: Any) -> Any:
    """The tree with `Layers` of host arrays for stacked kernels, in any dict by path: an optimiser's too. What is apart
    stays as it is."""

    def one(keys: tuple[Any, ...], leaf: Any) -> Any:
        return Layers(np.asarray(leaf)) if not is_layers(leaf) and any(map(_is_stacked_kernel, keys)) else leaf

    return jax.tree_util.tree_map_with_path(one, tree, is_leaf=is_layers)


def _is_stacked_kernel(key: Any) -> bool:
    path = key.key if isinstance(key, jax.tree_util.DictKey) else None
    return isinstance(path, tuple) and path[:2] == LAYERS and path[-1] == "kernel"


def together(tree: Any) -> Any:
    """The inverse of `apart`, on the device; trees without `Layers` come back as they are."""
    return jax.tree.map(lambda leaf: jnp.stack(leaf.parts) if is_layers(leaf) else leaf, tree, is_leaf=is_layers)


def to_host(tree: Any) -> Any:
    """A numpy copy, put together, of arrays that each device of a mesh has."""

    def one(leaf: Any) -> np.ndarray:
        if is_layers(leaf):
            return np.stack([part.addressable_data(0) for part in leaf.parts])
        return np.array(leaf.addressable_data(0), copy=True)

    return jax.tree.map(one, tree, is_leaf=is_layers)
