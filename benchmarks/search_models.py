"""Models for searches to ask: hashes that cost next to nothing, a small network, a MiniLM-sized encoder.

Every number is a function of the state, which is a hash of the path: no structure that would hide a mistake, and no
two paths that meet.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

mctx: Any = importlib.import_module("mctx")
"""Without the types of its chex dataclasses, which type checkers do not see through."""
Facts = dict[str, Any]
"""reward, discount, prior_logits, value: what a recurrent_fn tells beside the next state."""
RecurrentFn = Callable[[Any, jax.Array, jax.Array, Any], tuple[Facts, Any]]


def mixed(state: Any, action: Any) -> Any:
    """uint32 -> uint32, on NumPy or JAX: the state after an action."""
    word = state * np.uint32(2654435761) + action.astype(np.uint32) * np.uint32(40503) + np.uint32(12345)
    word = word ^ (word >> np.uint32(15))
    word = word * np.uint32(2246822519)
    return word ^ (word >> np.uint32(13))


def number(state: Any, salt: int) -> Any:
    """f32 in [-0.5, 0.5): a fact of the state."""
    word = state * np.uint32(2 * salt + 1) + np.uint32(salt * 7919)
    word = word ^ (word >> np.uint32(16))
    return (word >> np.uint32(8)).astype(np.float32) * np.float32(2**-24) - np.float32(0.5)


def hashed(num_actions: int, discount: Any = 0.97, noise: float = 0.0) -> RecurrentFn:
    """States uint32 [B]. noise: of the reward, drawn from the key."""

    def model(params: Any, key: jax.Array, action: jax.Array, state: jax.Array) -> tuple[Facts, jax.Array]:
        state = mixed(state, action)
        reward = number(state, 1)
        if noise:
            reward += noise * jax.random.uniform(key, state.shape)
        logits = jnp.stack([4 * number(state, 20 + a) for a in range(num_actions)], -1)
        facts = {"reward": reward, "prior_logits": logits, "value": number(state, 2)}
        return facts | {"discount": jnp.broadcast_to(jnp.float32(discount), state.shape)}, state

    return model


def network(num_actions: int, width: int = 64) -> tuple[Any, RecurrentFn]:
    """(params, recurrent_fn): two dense layers on a state f32 [B, width]."""
    rng = np.random.default_rng(0)

    def weights(*shape: int) -> np.ndarray:
        return (rng.normal(size=shape) / shape[0] ** 0.5).astype(np.float32)

    params = {
        "in": weights(width + num_actions, width),
        "on": weights(width, width),
        "out": weights(width, 2 + num_actions),
    }

    def model(params: Any, key: jax.Array, action: jax.Array, state: jax.Array) -> tuple[Facts, jax.Array]:
        x = jnp.concatenate([state, jax.nn.one_hot(action, num_actions)], -1)
        state = jnp.tanh(jax.nn.relu(x @ params["in"]) @ params["on"])
        return read_out(state @ params["out"]), state

    return params, model


def encoder(num_actions: int, tokens: int = 16) -> tuple[Any, RecurrentFn]:
    """(params, recurrent_fn): MiniLM's encoder (6 layers, 384 wide) over the last `tokens` actions taken, its first
    hidden state read out. State int32 [B, tokens]."""
    from jaxft import assets, prng
    from jaxft.model import folder
    from jaxft.model.bert import BertEncoder

    config, params, _ = folder.load(assets.fetch("minilm"), "none", init_key=prng.seed_words(0))
    bert = BertEncoder(config, unroll=config.num_hidden_layers)
    rng = np.random.default_rng(0)
    out = (rng.normal(size=(config.hidden_size, 2 + num_actions)) / config.hidden_size**0.5).astype(np.float32)

    def model(params: Any, key: jax.Array, action: jax.Array, state: jax.Array) -> tuple[Facts, jax.Array]:
        state = jnp.concatenate([state[:, 1:], 1000 + action[:, None]], -1)
        positions = jnp.broadcast_to(jnp.arange(tokens), state.shape)
        zero = jnp.zeros_like(state)
        batch = {"tokens": state, "types": zero, "positions": positions, "segments": zero + 1}
        hidden: Any = bert.apply({"params": params["bert"]}, batch)
        return read_out(hidden[:, 0] @ params["out"]), state

    return {"bert": params["encoder"], "out": out}, model


def read_out(y: jax.Array) -> Facts:
    """y [B, 2 + A]: reward, value, logits."""
    reward, value = jnp.tanh(y[:, 0]), jnp.tanh(y[:, 1])
    return {"reward": reward, "discount": jnp.full_like(reward, 0.97), "prior_logits": y[:, 2:], "value": value}


def searched(module: Any, policy: str, model: RecurrentFn, **settings: Any) -> Callable[..., Any]:
    """`module`'s (mctx's, or jaxft.search's) muzero_policy or gumbel_muzero_policy as a function of
    (params, key, states, logits [B, A], value [B])."""
    function = {"muzero": module.muzero_policy, "gumbel": module.gumbel_muzero_policy}[policy]

    def step(*arguments: Any) -> Any:
        facts, state = model(*arguments)
        return module.RecurrentFnOutput(**facts), state

    def run(params: Any, key: jax.Array, state: Any, logits: jax.Array, value: jax.Array, **more: Any) -> Any:
        root = module.RootFnOutput(prior_logits=logits, value=value, embedding=state)
        return function(params, key, root, step, **settings, **more)

    return run
