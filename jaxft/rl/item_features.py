"""Texts as vectors: mean-pooled hidden states of a frozen encoder, reduced by principal components.

What the encoder gives is kept in the user's cache, by the hash of texts, tokenizer and weights; a second run neither
loads nor runs a model.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxft import assets, prng
from jaxft.data import corpus
from jaxft.errors import UserError
from jaxft.recipe import Recipe
from jaxft.rl.utterances import tokenizer_of

_FORMAT = b"1"
"""Part of the cache key: changes when what is stored changes."""
MAX_TOKENS = 64


def some_texts(recipe: Recipe, count: int, seed: int) -> list[str]:
    """So many texts of a recipe's training split, all different, chosen by `seed`."""
    texts = corpus.load(recipe).splits["train"].texts
    if count > len(set(texts)):
        raise UserError("rl.env.items", f"{count} are wanted, but {recipe.data.train} has {len(set(texts))}")
    order = prng.permutation(prng.stream("subsample", seed), len(texts), np.arange(len(texts)))
    return list(dict.fromkeys(texts[at] for at in order))[:count]


def embed(texts: Sequence[str], model: str) -> np.ndarray:
    """Mean hidden state of each text's tokens in a model (asset name, folder or hub id): f32 [N, D]."""
    folder = Path(assets.resolve_model(model))
    path = assets.cache_folder() / "embeddings" / f"{_key(texts, folder)}.npy"
    try:
        with open(path, "rb") as file:
            return np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):  # absent or damaged: made again
        found = _embed(texts, model, folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            np.save(file, found)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
    return found


def principal(vectors: np.ndarray, size: int) -> np.ndarray:
    """Their coordinates along the directions of most variance, with a mean square length of 1: f32 [N, size].

    Signs are such that the largest coordinate along each direction is positive.
    """
    centred = np.asarray(vectors, np.float64) - np.mean(vectors, axis=0, dtype=np.float64)
    if not 1 <= size <= min(centred.shape):
        raise UserError("rl.env.features", f"{size} of {len(centred)} vectors of width {centred.shape[1]}")
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    found = left[:, :size] * values[:size]
    found *= np.sign(found[np.abs(found).argmax(0), np.arange(size)])
    return (found / np.sqrt((found**2).sum(1).mean())).astype(np.float32)


def _embed(texts: Sequence[str], model: str, folder: Path) -> np.ndarray:
    import jax
    import jax.numpy as jnp

    from jaxft.model import folder as model_folder
    from jaxft.model.heads import Bert

    config, params, _ = model_folder.load(folder, "none", init_key=prng.stream("init", 0))
    rows = tokenizer_of(model)(list(texts), truncation=True, max_length=MAX_TOKENS, padding=True, return_tensors="np")
    at = np.arange(rows["input_ids"].shape[1], dtype=np.int32)
    real = rows["attention_mask"].astype(np.int32)
    batch = {
        "tokens": rows["input_ids"].astype(np.int32),
        "types": np.zeros_like(real),
        "positions": at * real,
        "segments": real,
    }
    network = Bert(config, "none")

    def pooled(params: dict, batch: dict) -> jax.Array:
        hidden = network.apply({"params": params}, batch, method="hidden")
        weights = batch["segments"].astype(jnp.float32)[..., None]
        return jnp.sum(hidden * weights, axis=1) / jnp.sum(weights, axis=1)

    return np.asarray(jax.jit(pooled)(params, batch), np.float32)


def _key(texts: Sequence[str], folder: Path) -> str:
    digest = hashlib.sha256(_FORMAT)
    for path in sorted(folder.iterdir()):
        if path.suffix in (".json", ".txt", ".safetensors"):
            with open(path, "rb") as file:
                digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    for text in texts:
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()
