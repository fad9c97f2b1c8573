"""Heads on the BERT encoder, and `Bert`: the encoder with one of them.

A head is named as in `HEADS`; each corresponds to a class of `transformers`, whose parameters it has and no others.
Classification reads every example's first token, so a packed row gives one result a segment: `batch["firsts"]`
[B, S] is the index in the row where each example starts (anything in range where a row has fewer examples).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxft.kernels.dense.api import dense
from jaxft.kernels.dropout.api import Implementation, Words, dropout, token_words
from jaxft.model.activations import ACTIVATIONS
from jaxft.model.bert import HEAD_SITE, Batch, BertEncoder, Dense, LayerNorm, Rates, Remat, address_of
from jaxft.model.config import BertConfig

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int, UInt32


@dataclass(frozen=True)
class Head:
    """What a head consists of, and the `transformers` class with the same parameters."""

    architecture: str
    pooler: bool = False
    classifier: bool = False
    mlm: bool = False
    nsp: bool = False


HEADS = {
    "none": Head("BertModel", pooler=True),
    "classify": Head("BertForSequenceClassification", pooler=True, classifier=True),
    "tag": Head("BertForTokenClassification", classifier=True),
    "mlm": Head("BertForMaskedLM", mlm=True),
    "nsp": Head("BertForNextSentencePrediction", pooler=True, nsp=True),
    "pretrain": Head("BertForPreTraining", pooler=True, mlm=True, nsp=True),
}


class MlmHead(nn.Module):
    """Masked language modelling: transform, then a decoder tied to the word embeddings, and a bias a word."""

    config: BertConfig
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "... D"], word: Float[Array, "V D"]) -> Float[Array, "... V"]:
        config = self.config
        x = Dense((config.hidden_size,), self.dtype, config.initializer_range, name="transform")(x)
        x = LayerNorm(config.layer_norm_eps, name="norm")(ACTIVATIONS[config.hidden_act](x))
        bias = self.param("bias", nn.initializers.zeros, (config.vocab_size,))
        return dense(x, word.T, bias, self.dtype)


class Bert(nn.Module):
    """A BERT encoder with a head.

    head: a key of `HEADS`. num_labels: C, for the heads with a classifier. dtype: of the operands of matrix products;
    parameters, sums and results are f32. rates: dropout rates, needed with a dropout_key. The rest: see `BertEncoder`.
    """

    config: BertConfig
    head: str
    num_labels: int = 0
    dtype: Any = jnp.float32
    rates: Rates | None = None
    remat: Remat = "none"
    unroll: int = 1
    frozen_layers: int = 0
    implementation: Implementation | None = None

    def setup(self) -> None:
        parts, config = HEADS[self.head], self.config
        if parts.classifier and self.num_labels < 1:
            raise ValueError(f"the head {self.head!r} needs num_labels, came {self.num_labels}")
        self.encoder = BertEncoder(
            config, self.dtype, self.rates, self.remat, self.unroll, self.frozen_layers, self.implementation
        )
        if parts.pooler:
            self.pooler = Dense((config.hidden_size,), self.dtype, config.initializer_range)
        if parts.classifier:
            self.classifier = Dense((self.num_labels,), self.dtype, config.initializer_range)
        if parts.mlm:
            self.mlm = MlmHead(config, self.dtype)
        if parts.nsp:
            self.nsp = Dense((2,), self.dtype, config.initializer_range)

    @property
    def is_straight(self) -> bool:
        """Whether the layers compile to straight-line code, and not to a loop."""
        return self.remat == "none" and self.unroll >= self.config.num_hidden_layers

    def __call__(
        self, batch: Batch, dropout_key: UInt32[Array, "2"] | None = None, epoch: UInt32[Array, ""] | None = None
    ) -> Any:
        """f32 logits of the head for a batch.

        classify [B, S, C]; tag [B, L, C]; mlm [B, L, V]; nsp [B, S, 2] (0: the second text follows the first);
        pretrain: (mlm, nsp); none: (hidden states [B, L, D], pooled [B, S, D]).
        dropout_key: two words, consumed here; none switches dropout off. epoch: goes with it, part of every address.
        """
        x = self.encoder(batch, dropout_key, epoch)
        if self.head == "tag":
            return self.classifier(self._drop(x, self._words(batch, dropout_key, epoch)))
        if self.head == "mlm":
            return self._predict_words(x)
        pooled = self._pool(x, batch["firsts"])
        if self.head == "classify":
            words = self._words(batch, dropout_key, epoch)
            words = words and Words(*(jnp.take_along_axis(word, batch["firsts"], axis=1) for word in words))
            return self.classifier(self._drop(pooled, words))
        if self.head == "nsp":
            return self.nsp(pooled)
        return (self._predict_words(x), self.nsp(pooled)) if self.head == "pretrain" else (x, pooled)

    def hidden(self, batch: Batch, all_layers: bool = False) -> Any:
        """The encoder's output without dropout: [B, L, D], with all_layers also [N + 1, B, L, D] (embeddings first)."""
        return self.encoder(batch, all_layers=all_layers)

    def _predict_words(self, x: Float[Array, "B L D"]) -> Float[Array, "B L V"]:
        return self.mlm(x, self.encoder.embeddings.word)

    def _pool(self, x: Float[Array, "B L D"], firsts: Int[Array, "B S"]) -> Float[Array, "B S D"]:
        return jnp.tanh(self.pooler(jnp.take_along_axis(x, firsts[..., None], axis=1)))

    def _words(self, batch: Batch, dropout_key: jax.Array | None, epoch: jax.Array | None) -> Words | None:
        address = address_of(batch, dropout_key, epoch, self.rates)
        return address and token_words(address, HEAD_SITE)

    def _drop(self, x: jax.Array, words: Words | None) -> jax.Array:
        rate = self.rates.head if self.rates else 0.0
        return dropout(x, words, rate=rate, implementation=self.implementation)
