"""How much device memory a training step takes, by a formula, before anything is compiled.

    parameters   4 B each, frozen ones too
    gradients    4 B for each trainable parameter; with M > 1 micro-batches 2 of them, canonical 2 + log2 M
    optimiser    8 B for each (adamw: two moments), 4 B (sgd with momentum), 0 (sgd); with segments always 8 B
    activations  4 B · tokens of a micro-batch · (layers above the frozen ones · kept + working)

    kept = 12 D + 3 F + 3 H L, what the backward pass needs of one layer for one token in a row of L tokens. The factors
    are fitted to XLA's own account on CPU, f32. `remat: full` keeps D, `dots` 6 D + F; one layer's `kept` is working.

An estimate: within 10 % of XLA's account for MiniLM on CPU; accelerators fuse otherwise, and bf16 halves part of it.
Data and evaluation batches are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax

from jaxft.data import pack
from jaxft.model.config import BertConfig
from jaxft.train.setup import Setup

FLOAT_BYTES = 4


@dataclass(frozen=True)
class Memory:
    """Bytes."""

    parameters: int
    gradients: int
    optimiser: int
    activations: int

    @property
    def total(self) -> int:
        return self.parameters + self.gradients + self.optimiser + self.activations

    def __str__(self) -> str:
        names = ("parameters", "gradients", "optimiser", "activations")
        parts = ", ".join(f"{name} {megabytes(getattr(self, name))}" for name in names)
        return f"about {megabytes(self.total)} while training: {parts}"


def estimate(setup: Setup, shapes: tuple[pack.Shape, ...]) -> Memory:
    """shapes: of a micro-batch, those that the run will use; the largest counts."""
    trainable, frozen = (sum(leaf.size for leaf in part.values()) for part in setup.split())
    optim = setup.recipe.optim
    moments = 2 if optim.name == "adamw" or setup.recipe.segments else int(optim.momentum > 0)
    layers = setup.config.num_hidden_layers - setup.partition.frozen_layers
    activations = max(activation_floats(setup.config, shape, layers, setup.recipe.train.remat) for shape in shapes)
    gradients = num_gradients(setup.recipe.train.micro_batches, setup.recipe.numerics)
    counts = (trainable + frozen, gradients * trainable, moments * trainable, activations)
    return Memory(*(FLOAT_BYTES * count for count in counts))


def num_gradients(micro_batches: int, numerics: str) -> int:
    """Gradients alive at once: the sum so far and the newest; canonical: one a level of the tree (train/reduce.py)."""
    if micro_batches == 1:
        return 1
    return 2 + (micro_batches.bit_length() - 1 if numerics == "canonical" else 0)


def activation_floats(config: BertConfig, shape: pack.Shape, layers: int, remat: str) -> int:
    """Numbers kept for the backward pass through the top `layers` layers, for one micro-batch of that shape."""
    width, inner = config.hidden_size, config.intermediate_size
    whole = 12 * width + 3 * inner + 3 * config.num_attention_heads * shape.tokens
    kept = {"none": whole, "dots": 6 * width + inner, "full": width}[remat]
    working = 0 if remat == "none" else whole
    return shape.rows * shape.tokens * (layers * kept + working)


def available() -> tuple[int, str] | None:
    """Bytes of the first device, or of the machine where the device is its CPU, and which it is; none if unknown."""
    device = jax.devices()[0]
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"]), f"the {device.device_kind}"
    if device.platform == "cpu":
        from jaxft.report.env import memory_gb

        size = memory_gb()
        return None if size is None else (int(size * 2**30), "this machine")
    return None


def megabytes(count: int) -> str:
    """Bytes as text."""
    return f"{count / 2**30:.1f} GB" if count >= 10 * 2**30 else f"{count / 2**20:,.0f} MB"
