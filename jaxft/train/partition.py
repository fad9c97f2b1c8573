"""Freezing: which parameters train and which stay.

Frozen parameters take no part in differentiation and have no optimiser state. Where the embeddings and the bottom K
layers are frozen, the backward pass ends above them.

    none         everything trains
    encoder      all but the head (the pooler belongs to the head)
    layers:K     embeddings and the bottom K layers
    re:PATTERN   parameters whose path, such as encoder/embeddings/word, the pattern is found in
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import jax

from jaxft.errors import UserError
from jaxft.model.bert import join_layers, split_layers

Path = tuple[str, ...]
Flat = dict[Path, Any]

LAYERS = ("encoder", "layers")
"""Where the paths of the stacked layers' parameters begin, those that are not under `frozen`."""


@dataclass(frozen=True)
class Partition:
    """frozen: paths that stay. frozen_layers: bottom layers below which nothing trains."""

    frozen: frozenset[Path]
    frozen_layers: int

    def split(self, params: dict[str, Any]) -> tuple[Flat, Flat]:
        """A model's parameters as (trainable, frozen), path -> leaf."""
        flat = flatten(split_layers(params, self.frozen_layers))
        trainable = {path: leaf for path, leaf in flat.items() if path not in self.frozen}
        return trainable, {path: leaf for path, leaf in flat.items() if path in self.frozen}

    def join(self, trainable: Flat, frozen: Flat) -> dict[str, Any]:
        """The tree that `Bert(frozen_layers=...)` takes."""
        return nest({**trainable, **frozen})

    def whole(self, trainable: Flat, frozen: Flat) -> dict[str, Any]:
        """The tree without a split of the layers, as it was loaded."""
        return join_layers(self.join(trainable, frozen))


def partition(freeze: str, params: dict[str, Any], num_layers: int) -> Partition:
    """Reads `train.freeze`. Raises UserError where it freezes nothing it names, or everything."""
    kind, _, argument = freeze.partition(":")
    frozen_layers = {"encoder": num_layers, "layers": int(argument) if kind == "layers" else 0}.get(kind, 0)
    if frozen_layers > num_layers:
        raise UserError(
            "train.freeze", f"freezes {frozen_layers} layers of {num_layers}", f"layers:{num_layers}, or fewer"
        )
    paths = list(flatten(split_layers(params, frozen_layers)))
    if kind == "re":
        frozen = _matching(argument, paths)
    else:
        below = (("encoder", "embeddings"), ("encoder", "frozen"))
        frozen = {path for path in paths if kind in ("encoder", "layers") and path[:2] in below}
    if len(frozen) == len(paths):
        raise UserError("train.freeze", f"{freeze!r} freezes all {len(paths)} parameters, so nothing would train")
    return Partition(frozenset(frozen), frozen_layers)


def _matching(pattern: str, paths: list[Path]) -> set[Path]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UserError("train.freeze", f"re:{pattern} is not a regular expression: {error}") from None
    found = {path for path in paths if compiled.search("/".join(path))}
    if not found:
        known = ", ".join("/".join(path) for path in paths[:4])
        raise UserError(
            "train.freeze", f"re:{pattern} matches none of {len(paths)} parameters", f"paths look like {known}"
        )
    return found


def flatten(tree: dict[str, Any]) -> Flat:
    """Path -> leaf of nested dicts, in the order of `jax.tree`."""
    leaves, _ = jax.tree.flatten_with_path(tree)
    return {tuple(key.key for key in path): leaf for path, leaf in leaves}


def nest(flat: Flat) -> dict[str, Any]:
    """The inverse of `flatten`."""
    tree: dict[str, Any] = {}
    for path, leaf in flat.items():
        node = tree
        for key in path[:-1]:
            node = node.setdefault(key, {})
        node[path[-1]] = leaf
    return tree
