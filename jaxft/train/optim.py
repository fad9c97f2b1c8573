"""Optimisers with decoupled weight decay (Loshchilov and Hutter 2019): p <- p - lr·u - lr·weight_decay·p.

u is Adam's bias-corrected step (adamw) or the gradient, with momentum if asked (sgd). Biases and LayerNorm parameters
do not decay. Gradients are clipped by their global norm first.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxft.recipe import Optim
from jaxft.train.partition import Flat

NO_DECAY = ("bias", "scale")


def schedule(optim: Optim, num_steps: int) -> optax.Schedule:
    """Learning rate by step: linear warm-up from 0, then constant, or linear or cosine decay to 0 at `num_steps`."""
    warmup_steps = round(optim.warmup * num_steps)
    rest = max(num_steps - warmup_steps, 1)
    peak = optim.learning_rate
    after = {
        "linear": optax.linear_schedule(peak, 0.0, rest),
        "cosine": optax.cosine_decay_schedule(peak, rest),
        "constant": optax.constant_schedule(peak),
    }[optim.schedule]
    if warmup_steps == 0:
        return after
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup_steps), after], [warmup_steps])


def make(optim: Optim, num_steps: int) -> optax.GradientTransformation:
    """The optimiser of a recipe; its parameters are path -> leaf."""
    parts = [] if optim.clip_norm is None else [clip(optim.clip_norm)]
    if optim.name == "adamw":
        parts.append(optax.scale_by_adam(b1=optim.b1, b2=optim.b2, eps=optim.eps))
    elif optim.momentum > 0:
        parts.append(optax.trace(decay=optim.momentum))
    if optim.weight_decay > 0:
        parts.append(optax.add_decayed_weights(optim.weight_decay, mask=decays))
    parts.append(optax.scale_by_learning_rate(schedule(optim, num_steps)))
    return optax.chain(*parts)


def decay_factor(rates: np.ndarray, decays: np.ndarray) -> float:
    """What updates make of a parameter that 1 was and that never has a gradient; learning rate and decay by step."""
    return float(np.prod(1.0 - np.asarray(rates, np.float64) * np.asarray(decays, np.float64)))


def rates(optim: Optim, num_steps: int) -> np.ndarray:
    """f64 [num_steps], the learning rate of each step."""
    return np.asarray(jax.vmap(schedule(optim, num_steps))(jnp.arange(num_steps)), np.float64)


def clip(limit: float) -> optax.GradientTransformation:
    """Clipping by global norm (Pascanu et al. 2013): g <- g · min(1, limit / |g|).

    What `optax.clip_by_global_norm` does by a division of every value; a multiplication is cheap enough for XLA to fuse
    into the update, which saves two passes over the gradients on CPU.
    """

    def update(updates, state, params=None):
        norm = optax.tree.norm(updates)
        scale = jnp.where(norm > limit, limit / norm, 1.0)
        return jax.tree.map(lambda g: g * scale, updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def decays(params: Flat) -> dict[tuple[str, ...], bool]:
    """Path -> whether weight decay applies."""
    return {path: path[-1] not in NO_DECAY for path in params}
