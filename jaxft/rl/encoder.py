"""A BERT encoder as the network of an agent: text in, action values or a policy and a value out.

The head is that of classification, one output an action, and for a policy one more for the value of the state; so an
exported agent opens in `transformers` as a classifier of what to do. Frozen parameters (`train.freeze`) have no
gradient. Dropout is off: what acts and what learns is the same function.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import Array

from jaxft import assets, prng
from jaxft.model import folder as model_folder
from jaxft.model import weights
from jaxft.model.config import read as read_config
from jaxft.model.heads import Bert
from jaxft.rl.networks import Output
from jaxft.rl.recipe import RlRecipe
from jaxft.train.partition import Flat, Partition, partition
from jaxft.train.setup import dtype_of

HEAD = "classify"


class Encoder:
    """The model of a recipe with `outputs` actions; `rl.network.layers` of its bottom layers, or all.

    observation: dict of [B, L] arrays, as model/bert.py has them, and `firsts` [B, 1].
    """

    def __init__(self, recipe: RlRecipe, outputs: int, head: str) -> None:
        """head: values | policy."""
        self.path = Path(assets.resolve_model(recipe.model, progress=True))
        self._outputs, self._with_value = outputs, head == "policy"
        config, layers = read_config(self.path), recipe.rl.network.layers
        self._all, self._tensors = config, weights.read_folder(self.path)
        self._layers = config.num_hidden_layers if layers is None else min(layers, config.num_hidden_layers)
        self._freeze = recipe.train.freeze
        self._dtype = dtype_of(recipe.dtype)
        self.partition, self.config = self._cut(self._built(prng.stream("init", 0)))[1:]

    def _built(self, words: prng.Words) -> tuple[Any, dict[str, Any]]:
        count = self._outputs + self._with_value
        config, params, _ = model_folder.build(
            self._all, self._tensors, str(self.path), HEAD, count, words, keep_head=False
        )
        return config, params

    def _cut(self, built: tuple[Any, dict[str, Any]]) -> tuple[dict[str, Any], Partition, Any]:
        config, params = model_folder.cut(*built, self._layers, "rl.network.layers")
        return params, partition(self._freeze, params, self._layers), config

    def init(self, words: prng.Words) -> tuple[Flat, Flat]:
        """The model's own parameters, and a head drawn from the `init` stream."""
        params, part, _ = self._cut(self._built(words))
        return part.split(params)

    def save(self, folder: Path, trainable: Flat, frozen: Flat, labels: tuple[str, ...]) -> None:
        """A folder that `transformers` opens as a classifier of actions; the value's output stays out."""
        params = self.partition.whole(trainable, frozen)
        classifier = jax.tree.map(lambda x: x[..., : self._outputs], params["classifier"])
        model_folder.copy_tokenizer(self.path, folder)
        model_folder.save(folder, self.config, {**params, "classifier": classifier}, HEAD, labels, False)

    def load(self, folder: Path) -> tuple[Flat, Flat]:
        """(trainable, frozen) parameters of a folder that `save` wrote; the value's output is 0. Raises UserError."""
        _, params, _ = model_folder.load(folder, HEAD, self._outputs)
        if self._with_value:
            widened = {k: np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, 1)]) for k, x in params["classifier"].items()}
            params = {**params, "classifier": widened}
        return self.partition.split(params)

    def apply(self, trainable: Flat, frozen: Flat, observation: Any) -> Output:
        params = self.partition.join(trainable, frozen)
        unroll = self._layers if jax.default_backend() == "cpu" else 1
        model = Bert(
            self.config,
            HEAD,
            self._outputs + self._with_value,
            dtype=self._dtype,
            unroll=unroll,
            frozen_layers=self.partition.frozen_layers,
        )
        logits: Array = model.apply({"params": params}, observation)[:, 0]  # type: ignore[index]
        if self._with_value:
            return Output(logits[:, :-1], logits[:, -1])
        return Output(logits, logits[:, 0] * 0)
