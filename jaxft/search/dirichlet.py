"""Dirichlet noise with the bits of `jax.random.dirichlet`, in code that takes a third of the time to compile.

Each number is a gamma variable's logarithm (Marsaglia and Tsang, "A simple method for generating gamma variables",
https://doi.org/10.1145/358407.358414, as `jax.random.loggamma` has it), drawn from a key of its own; a softmax makes
them a distribution. What loops carry of a key are its words, one array, since each output of fused code repeats the
rounds of Threefry that it needs.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxft.search import keys
from jaxft.search.keys import Words


def dirichlet(key: Array, alpha: ArrayLike, shape: tuple[int, int]) -> Array:
    """[B, A], rows of numbers that sum to 1, as `jax.random.dirichlet` draws them. alpha: one, or [A]."""
    if not keys.is_plain(key):
        return jax.random.dirichlet(key, alpha=jnp.full(shape[1:], fill_value=alpha), shape=shape[:1])
    alpha = jnp.broadcast_to(jnp.full(shape[1:], fill_value=alpha, dtype=jnp.float32), shape).reshape(-1)
    # Made before they are used: of rounds fused into rounds some versions of XLA make code that LLVM is minutes at.
    own = jax.lax.optimization_barrier(keys.block(keys.words(key), jnp.arange(alpha.size, dtype=jnp.uint32)))
    return jax.nn.softmax(_log_gamma(own, alpha).reshape(shape), axis=-1)


def _log_gamma(own: Words, alpha: Array) -> Array:
    """Logarithms of gamma variables, f32 [R], from as many keys; below 1, of one more times a power of another draw."""
    boosted = jnp.where(alpha >= 1, alpha, alpha + 1)
    d = boosted - jnp.float32(1 / 3)
    cube = _accepted(keys.hashed(own, 0, axis=0), d, jnp.float32(1 / 3) / jnp.sqrt(d))
    power = -_drawn(jax.random.exponential, keys.block(own, 1))
    power = jnp.where((alpha >= 1) | (power == 0), 0, power * (1 / alpha))
    return jnp.log(d) + jnp.log(cube) + power


def _accepted(words: Array, d: Array, c: Array) -> Array:
    """(1 + c x) ** 3 [R] of the first normal x that is accepted. words: of keys, uint32 [2, R].

    Numbers are carried where jax.random carries them: computed anew, they would be rounded as the code around them is.
    """
    one, zero = jnp.ones_like(d), jnp.zeros_like(d)

    def refused(square: Array, cube: Array, u: Array) -> Array:
        unlikely = u >= 1 - jnp.float32(0.0331) * (square * square)
        return unlikely & (jnp.log(u) >= square * 0.5 + d * ((1 - cube) + jnp.log(cube)))

    def until_positive(now: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        key, again = (now[0][0], now[0][1]), now[2] <= 0
        x = _drawn(jax.random.normal, keys.block(key, 1))
        return keys.hashed(key, 0, axis=0), jnp.where(again, x, now[1]), jnp.where(again, 1 + x * c, now[2])

    def turn(now: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        key, again = (now[0][0], now[0][1]), refused(*now[1:])
        start = keys.hashed(key, 1, axis=0), zero, -one
        _, x, root = jax.lax.while_loop(lambda now: jnp.any(now[2] <= 0), until_positive, start)
        u = _drawn(jax.random.uniform, keys.block(key, 2))
        square, cube, drawn = (
            jnp.where(again, new, old) for new, old in zip((x * x, root * root * root, u), now[1:], strict=True)
        )
        return keys.hashed(key, 0, axis=0), square, cube, drawn

    start = words, zero, one, 2 * one  # refused
    return jax.lax.while_loop(lambda now: jnp.any(refused(*now[1:])), turn, start)[2]


def _drawn(draw: Callable[[Array], Array], own: Words) -> Array:
    """One number of each key, by a function of `jax.random`."""
    return jax.vmap(draw)(keys.straight(jnp.stack(own, axis=-1)))
