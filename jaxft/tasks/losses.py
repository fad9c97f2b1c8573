"""Classification losses per target, in f32, with label smoothing and class weights.

Each function returns (losses, weights) of one shape, both 0 where there is no target; the mean loss over any set of
targets is sum(losses) / sum(weights), divided once however the set was cut up. Absent targets are masked before they
select anything: JAX would wrap an index of -1 to the last class without a word. JAX is imported when first called, so
that naming the tasks costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from jax import Array


def cross_entropy(
    logits: Any, targets: Any, *, label_smoothing: float = 0.0, class_weights: Any | None = None
) -> tuple[Array, Array]:
    """Softmax cross-entropy with integer targets.

    With s = label_smoothing (Szegedy et al. 2016, section 7), class weights w and p = softmax(logits), a target y gives

        loss = (1 - s) · w[y] · -log p[y]  +  s / C · sum over c of w[c] · -log p[c],      weight = w[y],

    which is `torch.nn.functional.cross_entropy(weight=w, label_smoothing=s)`: its "sum" is sum(losses), its "mean" is
    sum(losses) / sum(weights). In the smoothing term each class carries its own weight, not the target's.

    logits: [..., C], any float type. targets: int [...], 0 .. C-1, or negative where there is none.
    class_weights: [C] or None for all 1. Returns losses and weights, f32 [...].
    """
    import jax
    import jax.numpy as jnp

    num_labels = logits.shape[-1]
    present = targets >= 0
    logits = _blank_absent(logits, present)
    chosen = jax.nn.one_hot(targets, num_labels, dtype=jnp.float32)  # a negative target chooses nothing; no gather
    weights = _over_classes(class_weights, chosen)
    smoothed = (1.0 - label_smoothing) * chosen + label_smoothing / num_labels
    losses = -jnp.sum(weights * smoothed * jax.nn.log_softmax(logits, axis=-1), axis=-1)
    return jnp.where(present, losses, 0.0), jnp.sum(weights * chosen, axis=-1)


def binary_cross_entropy(
    logits: Any, targets: Any, *, label_smoothing: float = 0.0, class_weights: Any | None = None
) -> tuple[Array, Array]:
    """Sigmoid cross-entropy of each class by itself (multi-label), as a mean over the classes of an example.

    With s = label_smoothing, targets y in {0, 1} are pulled towards a half, y' = (1 - s) · y + s / 2, and

        loss = 1/C · sum over c of w[c] · (-y'[c] · log σ(x[c]) - (1 - y'[c]) · log σ(-x[c])),   weight = mean of w.

    Without weights the mean equals `torch.nn.functional.binary_cross_entropy_with_logits`. 1 - σ(x) is σ(-x), so both
    logarithms come from `log_sigmoid`, which neither overflows nor cancels.

    logits: [..., C]. targets: float [..., C] of 0 and 1, or -1 throughout where there is no example. Returns f32 [...].
    """
    import jax
    import jax.numpy as jnp

    present = targets[..., 0] >= 0
    logits = _blank_absent(logits, present)
    weights = _over_classes(class_weights, logits)
    smoothed = (1.0 - label_smoothing) * targets.astype(jnp.float32) + 0.5 * label_smoothing
    terms = -smoothed * jax.nn.log_sigmoid(logits) - (1.0 - smoothed) * jax.nn.log_sigmoid(-logits)
    losses = jnp.mean(weights * terms, axis=-1)
    return jnp.where(present, losses, 0.0), jnp.where(present, jnp.mean(weights, axis=-1), 0.0)


def _blank_absent(logits: Any, present: Any) -> Array:
    """Logits in f32, 0 where no target is: an infinity there would turn the masked gradient into 0 · inf = NaN."""
    import jax.numpy as jnp

    return jnp.where(present[..., None], logits.astype(jnp.float32), 0.0)


def _over_classes(class_weights: Any | None, like: Any) -> Array:
    """Class weights [C] spread to the shape of `like` [..., C]; ones for None."""
    import jax.numpy as jnp

    if class_weights is None:
        return jnp.ones_like(like)
    return jnp.broadcast_to(jnp.asarray(class_weights, jnp.float32), like.shape)


def softmax(logits: Any) -> Array:
    """Softmax over the last axis in f32."""
    import jax
    import jax.numpy as jnp

    return jax.nn.softmax(jnp.asarray(logits, jnp.float32), axis=-1)


def sigmoid(logits: Any) -> Array:
    """Sigmoid in f32."""
    import jax
    import jax.numpy as jnp

    return jax.nn.sigmoid(jnp.asarray(logits, jnp.float32))


def balanced_weights(targets: Iterable[Any], num_labels: int) -> np.ndarray:
    """Class weights that give every class the same say: E / (C · its targets), f32 [num_labels].

    C counts the classes that occur, so that the weights of all E targets average 1; a class that never occurs weighs 1.
    targets: as a task's `targets` gives them: class numbers, arrays of them, or (float) vectors of 0 and 1 by class.
    """
    counts = np.zeros(num_labels, np.int64)
    for target in targets:
        target = np.asarray(target)
        is_vector = np.issubdtype(target.dtype, np.floating)
        counts += target.astype(np.int64) if is_vector else np.bincount(target.reshape(-1), minlength=num_labels)
    occurring = counts > 0
    weights = counts.sum() / (max(occurring.sum(), 1) * np.maximum(counts, 1))
    return np.where(occurring, weights, 1.0).astype(np.float32)
