"""A call in a loop of at most one turn, for what `lax.cond` and fusion do around it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array


def once(needed: Array, function: Callable[..., Any], *arguments: Any) -> Any:
    """function(*arguments) if `needed` (a bool that the compiler cannot know), else zeros.

    A loop has its arguments in places of their own. So the arrays that they were read from can be written where they
    are, which `lax.cond` prevents by copying; and nothing is fused across its edge, so that the bits of the result do
    not depend on how the arguments were computed.
    """
    nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(function, *arguments))

    def turn(now: tuple[Array, Any, Any]) -> tuple[Array, Any, Any]:
        return jnp.zeros_like(now[0]), now[1], function(*now[1])

    return jax.lax.while_loop(lambda now: now[0], turn, (needed, arguments, nothing))[2]
