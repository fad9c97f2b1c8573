"""Initial values of parameters, each a function of the key and the parameter's own path.

As BERT has them: kernels and embeddings normal with deviation `initializer_range`, biases 0, LayerNorm scales 1, the
padding token's embedding 0. A layer's slice of a stacked parameter has its own address, so another number of layers or
another head moves no other value. Random bits come from threefry; the normal quantile is taken on the host in f64, so
that the values are the same on every device.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import ndtri

from jaxft import prng
from jaxft.model.config import BertConfig
from jaxft.model.heads import Bert

Path = tuple[str, ...]


def shapes(config: BertConfig, head: str, num_labels: int = 0) -> dict[Path, tuple[int, ...]]:
    """Path -> shape of every parameter, as the Linen module itself declares them."""
    ints, words = jax.ShapeDtypeStruct((1, 1), jnp.int32), jax.ShapeDtypeStruct((1, 1), jnp.uint32)
    batch = dict.fromkeys(("tokens", "types", "positions", "segments", "firsts"), ints)
    batch |= dict.fromkeys(("example", "occurrence"), words)
    tree = jax.eval_shape(Bert(config, head, num_labels).init, jax.random.key(0), batch)["params"]
    flat, _ = jax.tree.flatten_with_path(tree)
    return {tuple(key.key for key in path): leaf.shape for path, leaf in flat}


def initialise(config: BertConfig, head: str, num_labels: int, init_key: prng.Words) -> dict[str, Any]:
    """A model's parameters from scratch, numpy f32. init_key: words of the `init` stream, consumed here."""
    every = shapes(config, head, num_labels)
    return nest({path: initial(path, shape, config, init_key) for path, shape in every.items()})


def initial(path: Path, shape: tuple[int, ...], config: BertConfig, init_key: prng.Words) -> np.ndarray:
    """One parameter's initial value."""
    if path[-1] in ("bias", "scale"):
        return np.full(shape, float(path[-1] == "scale"), np.float32)
    words = prng.path_words(init_key, "/".join(path))
    if path[:2] == ("encoder", "layers"):
        slices = [normal(prng.fold_in(words, layer), shape[1:]) for layer in range(shape[0])]
        return (np.stack(slices) * config.initializer_range).astype(np.float32)
    value = (normal(words, shape) * config.initializer_range).astype(np.float32)
    if path[-1] == "word" and config.pad_token_id is not None:
        value[config.pad_token_id] = 0
    return value


def nest(flat: dict[Path, Any]) -> dict[str, Any]:
    """A tree of dicts from path -> leaf."""
    tree: dict[str, Any] = {}
    for path, leaf in flat.items():
        node = tree
        for key in path[:-1]:
            node = node.setdefault(key, {})
        node[path[-1]] = leaf
    return tree


def normal(words: prng.Words, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal numbers, f64, the same on every device. words: consumed."""
    with jax.threefry_partitionable(True):  # the numbers depend on it
        bits = np.asarray(jax.random.bits(prng.key(words), shape, jnp.uint32))
    return ndtri((bits + 0.5) / 2**32)
