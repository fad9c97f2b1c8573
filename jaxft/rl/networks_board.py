"""A network for boards: policy and value from one trunk of residual layers on the flattened board.

On a CPU convolutions of few channels cost far more time than their arithmetic; a dense layer of a small board does not.
Heads begin at 0: before any training every move is as likely and every position worth 0. Left out: convolutions, and
the normalisation that deep trunks need.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jax import Array


class BoardNetwork(nn.Module):
    """observation f32 [B, ...] -> (logits [B, A], value [B] in -1 .. 1). width: of the trunk. blocks: pairs of layers,
    each with a way around it."""

    num_actions: int
    width: int = 256
    blocks: int = 2

    @nn.compact
    def __call__(self, observation: Array) -> tuple[Array, Array]:
        x = observation.reshape(observation.shape[0], -1)
        x = nn.relu(nn.Dense(self.width, name="board")(x))
        for number in range(self.blocks):
            y = nn.relu(nn.Dense(self.width, name=f"block_{number}_in")(x))
            x = nn.relu(x + nn.Dense(self.width, name=f"block_{number}_out")(y))
        logits = nn.Dense(self.num_actions, kernel_init=nn.initializers.zeros, name="policy")(x)
        value = nn.Dense(1, kernel_init=nn.initializers.zeros, name="value")(x)
        return logits, jnp.tanh(value[:, 0])
