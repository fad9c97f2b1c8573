"""The persistent compilation cache: a step that was compiled once is loaded the next time."""

from __future__ import annotations

import jax

from jaxft import assets


def keep() -> None:
    """Keeps executables under the user's cache, unless JAX_COMPILATION_CACHE_DIR or the caller chose a place."""
    if jax.config.values["jax_compilation_cache_dir"] is None:
        jax.config.update("jax_compilation_cache_dir", str(assets.cache_folder() / "xla"))
