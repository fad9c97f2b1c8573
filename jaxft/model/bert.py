"""The BERT encoder (https://arxiv.org/abs/1810.04805): token batch in, hidden states [B, L, D] out.

Positions, token types and segments are inputs, so a row that packs several examples is an ordinary row:

    tokens     101 7592  102  101 2204 2154  102    0
    positions    0    1    2    0    1    2    3    0
    segments     1    1    1    2    2    2    2    0        (0 is padding; attention stays inside a segment)

Layers are stacked on a leading parameter axis and scanned. Every dropout mask is a function of the key words given, the
site below, and the token's address (example, occurrence, position); `make_rng` is not used. Token, type and position
ids are checked on the host before they come here; one out of range gives NaN, never a clipped row. Left out: decoding,
cross-attention, relative positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_policies

from jaxft.kernels.attention.api import attention
from jaxft.kernels.dense.api import dense
from jaxft.kernels.dropout.api import Address, Implementation, Words, dropout, token_words
from jaxft.model.activations import ACTIVATIONS
from jaxft.model.config import BertConfig
from jaxft.model.norm import layer_norm

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int, UInt32

Batch = dict[str, jax.Array]
"""[B, L] arrays: tokens, types, positions, segments int32; example, occurrence uint32; heads read more."""

# Dropout sites. Fixed numbers: another depth or head moves no other site's bits.
EMBEDDING_SITE = 0
HEAD_SITE = 1
FIRST_LAYER_SITE, LAYER_STRIDE, LAYER_SITES = 16, 4, 3
"""Layer i: 16 + 4i attention probabilities, 16 + 4i + 1 attention output, 16 + 4i + 2 feed-forward output."""

Remat = Literal["none", "full", "dots"]
"""What the backward pass recomputes: nothing, whole layers, or all of a layer but its products with weights."""


@dataclass(frozen=True)
class Rates:
    """Dropout rates in force: hidden states, attention probabilities, and what goes into the head."""

    hidden: float = 0.0
    attention: float = 0.0
    head: float = 0.0

    @classmethod
    def of(cls, config: BertConfig) -> Rates:
        """The rates that the model's own config.json names."""
        head = config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout
        return cls(config.hidden_dropout_prob, config.attention_probs_dropout_prob, head)


class Dense(nn.Module):
    """x @ kernel + bias: [..., K] -> [..., features], operands in `dtype`, result f32."""

    features: tuple[int, ...]
    dtype: Any
    deviation: float

    @nn.compact
    def __call__(self, x: Float[Array, "... K"]) -> Float[Array, "..."]:
        kernel = self.param("kernel", nn.initializers.normal(self.deviation), (x.shape[-1], *self.features))
        bias = self.param("bias", nn.initializers.zeros, self.features)
        y: Any = dense(x, kernel.reshape(x.shape[-1], -1), bias.reshape(-1), self.dtype)
        return y.reshape(*x.shape[:-1], *self.features)


class LayerNorm(nn.Module):
    """Layer normalisation over the last axis, in f32."""

    eps: float

    @nn.compact
    def __call__(self, x: Float[Array, "... D"]) -> Any:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        return layer_norm(x, scale, bias, self.eps)


class Embeddings(nn.Module):
    """Sum of word, position and token-type embeddings, normalised."""

    config: BertConfig

    def setup(self) -> None:
        config, init = self.config, nn.initializers.normal(self.config.initializer_range)
        self.word = self.param("word", init, (config.vocab_size, config.hidden_size))
        self.position = self.param("position", init, (config.max_position_embeddings, config.hidden_size))
        self.type = self.param("type", init, (config.type_vocab_size, config.hidden_size))
        self.norm = LayerNorm(config.layer_norm_eps)

    def __call__(self, batch: Batch) -> Float[Array, "B L D"]:
        x = _rows(self.word, batch["tokens"]) + _rows(self.position, batch["positions"])
        return self.norm(x + _few_rows(self.type, batch["types"]))


class EncoderLayer(nn.Module):
    """Self-attention, then the feed-forward block, each followed by dropout, residual and LayerNorm (post-norm)."""

    config: BertConfig
    dtype: Any
    rates: Rates
    keep: bool
    """Also give the hidden states out, for `all_layers`."""
    implementation: Implementation | None

    def setup(self) -> None:
        config, heads = self.config, (self.config.num_attention_heads, self.config.head_size)
        deviation = config.initializer_range
        self.qkv = Dense((3, *heads), self.dtype, deviation)
        self.out = Dense((config.hidden_size,), self.dtype, deviation)
        self.attention_norm = LayerNorm(config.layer_norm_eps)
        self.up = Dense((config.intermediate_size,), self.dtype, deviation)
        self.down = Dense((config.hidden_size,), self.dtype, deviation)
        self.ffn_norm = LayerNorm(config.layer_norm_eps)

    def __call__(
        self,
        x: Float[Array, "B L D"],
        words: Words | None,
        segments: Int[Array, "B L"],
        positions: Int[Array, "B L"],
    ) -> tuple[Float[Array, "B L D"], Float[Array, "B L D"] | None]:
        batch, heads = x.shape[:2], (self.config.num_attention_heads, self.config.head_size)
        # Flat: XLA on CPU shares out the first axis among threads, and there are more tokens than rows.
        x = x.reshape(-1, x.shape[-1])
        at = [None if words is None else Words(*(word[site] for word in words)) for site in range(LAYER_SITES)]
        qkv = self.qkv(x).astype(self.dtype).reshape(*batch, 3, *heads)
        q, k, v = (part.squeeze(2) for part in jnp.split(qkv, 3, axis=2))
        a = attention(
            q,
            k,
            v,
            segments,
            words=at[0],
            positions=positions,
            rate=self.rates.attention,
            implementation=self.implementation,
        )
        a = self._drop(self.out(a.reshape(x.shape)), at[1])
        x = self.attention_norm(x + a)
        f = self.down(ACTIVATIONS[self.config.hidden_act](self.up(x)))
        x = self.ffn_norm(x + self._drop(f, at[2])).reshape(*batch, -1)
        return x, x if self.keep else None

    def _drop(self, x: jax.Array, words: Words | None) -> jax.Array:
        words = None if words is None else Words(*(word.reshape(-1) for word in words))
        return dropout(x, words, rate=self.rates.hidden, implementation=self.implementation)


class BertEncoder(nn.Module):
    """Embeddings and the stack of layers.

    frozen_layers: K > 0 cuts the backward pass below the K-th layer, so that neither the embeddings nor the bottom K
        layers cost one. Their parameters then lie under `frozen`, [K, ...], the others under `layers`, [N - K, ...],
        as `split_layers` arranges them.
    unroll: layers a loop step of the scan; the number of layers compiles to straight-line code (faster on CPU). With
        remat it is always 1.
    """

    config: BertConfig
    dtype: Any = jnp.float32
    rates: Rates | None = None
    remat: Remat = "none"
    unroll: int = 1
    frozen_layers: int = 0
    implementation: Implementation | None = None

    def setup(self) -> None:
        if not 0 <= self.frozen_layers <= self.config.num_hidden_layers:
            raise ValueError(f"{self.frozen_layers} frozen layers of {self.config.num_hidden_layers}")
        self.embeddings = Embeddings(self.config)

    @nn.compact
    def __call__(
        self,
        batch: Batch,
        dropout_key: UInt32[Array, "2"] | None = None,
        epoch: UInt32[Array, ""] | None = None,
        all_layers: bool = False,
    ) -> Any:
        """Hidden states [B, L, D]; with all_layers also those after the embeddings and each layer, [N + 1, B, L, D]."""
        rates, address = self.rates or Rates(), address_of(batch, dropout_key, epoch, self.rates)
        at_embeddings, at_layers = _words(address, self.config.num_hidden_layers)
        x = dropout(self.embeddings(batch), at_embeddings, rate=rates.hidden, implementation=self.implementation)
        kept, frozen = [x[None]], self.frozen_layers
        for name, first, last in (("frozen", 0, frozen), ("layers", frozen, self.config.num_hidden_layers)):
            if first < last:
                words = jax.tree.map(lambda word, span=slice(first, last): word[span], at_layers)
                layers = self._stack(last - first, rates, all_layers)
                x, hidden = layers(self.config, self.dtype, rates, all_layers, self.implementation, name=name)(
                    x, words, batch["segments"], batch["positions"]
                )
                kept.append(hidden)
            if name == "frozen" and frozen:
                x, kept = jax.lax.stop_gradient((x, kept))
        return (x, jnp.concatenate(kept)) if all_layers else x

    def _stack(self, length: int, rates: Rates, keep: bool) -> Any:
        """EncoderLayer as a scan over `length` layers."""
        layer, unroll = EncoderLayer, min(self.unroll, length)
        if self.remat != "none":
            # In straight-line code XLA on CPU merges the recomputation with the first run, and no memory is saved.
            unroll = 1
            policy = None if self.remat == "full" else checkpoint_policies.dots_with_no_batch_dims_saveable
            layer = nn.remat(layer, policy=policy, prevent_cse=False)
        axes: Any = (0, nn.broadcast, nn.broadcast)
        return nn.scan(
            layer,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=axes,
            length=length,
            unroll=unroll,
        )


def address_of(
    batch: Batch, dropout_key: UInt32[Array, "2"] | None, epoch: UInt32[Array, ""] | None, rates: Rates | None
) -> Address | None:
    """The addresses of a batch's tokens, none without a key.

    A key without rates or epoch is refused: nothing would drop, or the same in every epoch.
    """
    if dropout_key is None:
        return None
    if rates is None or epoch is None:
        raise ValueError("dropout_key needs epoch= beside it and rates=Rates(...) in the model")
    positions = batch["positions"].astype(jnp.uint32)
    return Address(dropout_key, epoch, batch["example"], batch["occurrence"], positions)


def _words(address: Address | None, layers: int) -> tuple[Words | None, Words | None]:
    """Words of the site after the embeddings, [B, L], and of the layers' sites, [N, 3, B, L]."""
    if address is None:
        return None, None
    sites = FIRST_LAYER_SITE + LAYER_STRIDE * np.arange(layers)[:, None] + np.arange(LAYER_SITES)
    words = token_words(address, jnp.asarray(np.append(EMBEDDING_SITE, sites), jnp.uint32))
    by_layer = (word[1:].reshape(layers, LAYER_SITES, *word.shape[1:]) for word in words)
    return Words(*(word[0] for word in words)), Words(*by_layer)


def split_layers(params: dict[str, Any], count: int) -> dict[str, Any]:
    """A model's parameters with the bottom `count` layers moved to `encoder/frozen`, as `frozen_layers` wants them."""
    encoder = dict(join_layers(params)["encoder"])
    layers = encoder.pop("layers")
    if count:
        encoder["frozen"] = jax.tree.map(lambda leaf: leaf[:count], layers)
    if count < jax.tree.leaves(layers)[0].shape[0]:
        encoder["layers"] = jax.tree.map(lambda leaf: leaf[count:], layers)
    return {**params, "encoder": encoder}


def join_layers(params: dict[str, Any]) -> dict[str, Any]:
    """The inverse of `split_layers`; parameters that are not split come back as they are."""
    encoder = dict(params["encoder"])
    if "frozen" not in encoder:
        return params
    parts = [encoder.pop(name) for name in ("frozen", "layers") if name in encoder]
    join = jnp.concatenate if isinstance(jax.tree.leaves(parts)[0], jax.Array) else np.concatenate
    encoder["layers"] = jax.tree.map(lambda *leaves: join(leaves), *parts) if len(parts) > 1 else parts[0]
    return {**params, "encoder": encoder}


@jax.custom_vjp
def _rows(table: jax.Array, indexes: jax.Array) -> jax.Array:
    """table [N, D] at indexes [...] -> [..., D], NaN where an index is out of range.

    The gradient adds tokens up by word among themselves, then takes each word's sum, the last one, zeros, for a word
    that is not there: one pass over [N, D], where the derived one fills it with zeros first.
    """
    return jnp.take(table, indexes, axis=0, mode="fill", fill_value=jnp.nan)


def _rows_forward(table: jax.Array, indexes: jax.Array):
    return _rows(table, indexes), (indexes, table)  # the table for its size alone


def _rows_backward(saved: tuple[jax.Array, jax.Array], dy: jax.Array):
    indexes, num_words = saved[0].reshape(-1), saved[1].shape[0]
    dy, count = dy.reshape(-1, dy.shape[-1]), indexes.size
    first = jnp.full(num_words, count, jnp.int32).at[indexes].min(jnp.arange(count, dtype=jnp.int32), mode="drop")
    sums = jnp.zeros((count + 1, dy.shape[1]), dy.dtype).at[first[indexes]].add(dy)
    return sums.at[first].get(mode="promise_in_bounds"), None


_rows.defvjp(_rows_forward, _rows_backward)


def _few_rows(table: Float[Array, "N D"], indexes: Int[Array, "B L"]) -> Float[Array, "B L D"]:
    """table[indexes], NaN where an index is out of range; by choice among the rows, as a gather's gradient would add
    every token into one of them."""
    rows = jnp.full((*indexes.shape, table.shape[1]), jnp.nan, table.dtype)
    for at in range(table.shape[0]):
        rows = jnp.where((indexes == at)[..., None], jnp.broadcast_to(table[at], rows.shape), rows)
    return rows
