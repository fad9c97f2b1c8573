"""Flax BERT of `transformers` version 4 on CoNLL-2003: the step of its token-classification example.

Runs in an environment of its own (`benchmarks/environments.py`), since version 5 dropped Flax. As in that example,
every sentence is padded to 128 tokens, the last partial batch is dropped, dropout is on, AdamW decays all but biases
and LayerNorm scales, the loss is the mean over all positions, padding included, and no gradient is clipped. Unlike
there, one device and `jax.jit` with donated buffers stand in for `pmap`, and metrics are not copied to the host at each
step: both favour this peer.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any

import conll
import jax
import jax.numpy as jnp
import machine
import numpy as np
import optax
import protocol
import transformers

LEARNING_RATE = 5e-5
WARMUP_STEPS = 131
WEIGHT_DECAY = 0.01
TOTAL_STEPS = 10**6  # never reached: the schedule costs the same at any length


class Trainer:
    """Model, optimiser state and an endless stream of batches."""

    def __init__(self, options: argparse.Namespace):
        data, folder = conll.folders(options)
        self.options = options
        self.sentences = conll.encode(data, folder, "train")
        dtype = jnp.bfloat16 if options.dtype == "bf16" else jnp.float32
        flax_bert = getattr(transformers, "FlaxBertForTokenClassification")  # noqa: B009 (version 5 has no such name)
        self.model = flax_bert.from_pretrained(folder, num_labels=len(conll.TAGS), seed=options.seed, dtype=dtype)
        self.optimizer = optax.adamw(linear(), weight_decay=WEIGHT_DECAY, mask=decayed)
        self.params = jax.tree_util.tree_map(jnp.asarray, self.model.params)
        self.state = jax.jit(self.optimizer.init)(self.params)
        self.key = jax.random.PRNGKey(options.seed)
        self.update = jax.jit(self.step, donate_argnums=(0, 1))
        self.batches = batches(self.sentences, options.seed)

    def step(self, params: Any, state: Any, batch: dict[str, Any], key: Any) -> tuple[Any, Any, Any, Any]:
        """One update: (parameters, optimiser state, loss, next dropout key)."""
        dropout_key, next_key = jax.random.split(key)
        labels = batch["labels"]
        inputs = {name: values for name, values in batch.items() if name != "labels"}

        def loss_of(params: Any) -> Any:
            logits = self.model(**inputs, params=params, dropout_rng=dropout_key, train=True)[0]
            hot = jax.nn.one_hot(labels, len(conll.TAGS), dtype=logits.dtype)  # all zero where ignored
            return jnp.mean(optax.softmax_cross_entropy(logits, hot))

        loss, gradients = jax.value_and_grad(loss_of)(params)
        updates, state = self.optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, loss, next_key

    def run(self, steps: int) -> tuple[float, int, int]:
        """(seconds, real tokens, computed tokens) of `steps` updates, batching and copies included."""
        real, computed = 0, 0
        start = time.perf_counter()
        for _ in range(steps):
            batch = next(self.batches)
            real += int(batch["attention_mask"].sum())
            computed += batch["input_ids"].size
            self.params, self.state, _, self.key = self.update(self.params, self.state, batch, self.key)
        jax.block_until_ready(self.params)
        return time.perf_counter() - start, real, computed

    def setting(self) -> str:
        return f"{self.options.dtype}, jit, padded to {conll.MAX_TOKENS}"

    def device_name(self) -> str:
        device = jax.devices()[0]
        return machine.cpu() if device.platform == "cpu" else device.device_kind

    def peak_device_mb(self) -> float | None:
        return machine.jax_peak_device_mb()


def linear() -> optax.Schedule:
    """Linear warm-up, then linear decay."""
    rise = optax.linear_schedule(0.0, LEARNING_RATE, WARMUP_STEPS)
    fall = optax.linear_schedule(LEARNING_RATE, 0.0, TOTAL_STEPS - WARMUP_STEPS)
    return optax.join_schedules([rise, fall], [WARMUP_STEPS])


def decayed(params: Any) -> Any:
    """True for parameters under weight decay: all but biases and LayerNorm scales."""

    def rule(path: Any, _: Any) -> bool:
        names = [entry.key for entry in path]
        return names[-1] != "bias" and names[-2:] != ["LayerNorm", "scale"]

    return jax.tree_util.tree_map_with_path(rule, params)


def batches(sentences: conll.Sentences, seed: int) -> Iterator[dict[str, np.ndarray]]:
    """Full batches padded to MAX_TOKENS in random order, without end; the model's four inputs and labels [B, L]."""
    positions = np.broadcast_to(np.arange(conll.MAX_TOKENS), (conll.BATCH_SIZE, conll.MAX_TOKENS))
    for epoch in conll.order(sentences.lengths, "none", seed):
        for indexes in epoch:
            if len(indexes) < conll.BATCH_SIZE:
                continue
            batch = {name: a.astype(np.int32) for name, a in conll.pad(sentences, indexes, conll.MAX_TOKENS).items()}
            batch["token_type_ids"] = np.zeros_like(batch["input_ids"])
            batch["position_ids"] = positions.astype(np.int32)
            yield batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    conll.add_folders(parser)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32", help="of activations; parameters stay f32")
    parser.add_argument("--serve", action="store_true", required=True, help="be a worker: commands on standard input")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    protocol.serve(lambda: Trainer(options), "transformers", "jax", "jaxlib", "flax", "optax", "numpy")


if __name__ == "__main__":
    main()
