"""Python environments of peers that cannot share jaxft's: made once in the user's cache folder with pinned packages."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

FLAX_V4 = ("transformers==4.57.6", "jax==0.10.2", "jaxlib==0.10.2", "flax==0.12.8", "optax==0.2.8", "numpy==2.4.6")
FLAX_V4_GPU = "jax[cuda12]==0.10.2"
CLEANRL = ("jax==0.10.2", "jaxlib==0.10.2", "flax==0.12.8", "optax==0.2.8", "gymnasium==1.3.0", "numpy==2.4.6")


def cache() -> Path:
    """The folder of all these environments: $JAXFT_CACHE/peers, else ~/.cache/jaxft/peers."""
    return Path(os.environ.get("JAXFT_CACHE") or Path.home() / ".cache" / "jaxft") / "peers"


def python(name: str, packages: tuple[str, ...], say: Callable[[str], None]) -> Path:
    """The interpreter of environment `name`, made with venv and pip if absent. Raises CalledProcessError if pip fails.

    Its folder is named by the packages and this Python, so that a changed pin makes a new one; a half-made one is
    removed.
    """
    address = hashlib.sha256("\n".join([sys.version, *packages]).encode()).hexdigest()[:12]
    folder = cache() / f"{name}-{address}"
    interpreter = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    done = folder / "complete"
    if done.exists():
        return interpreter
    say(f"{name}: making its environment in {folder} (once): {', '.join(packages)}")
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, capture_output=True, text=True)
    install = [str(interpreter), "-m", "pip", "install", "--quiet", *packages]
    subprocess.run(install, check=True, capture_output=True, text=True)
    done.touch()
    return interpreter


def flax_v4(on_gpu: bool, say: Callable[[str], None]) -> Path:
    """The interpreter of the environment with transformers 4 and Flax."""
    return python("flax_v4", (*FLAX_V4, FLAX_V4_GPU) if on_gpu else FLAX_V4, say)


def cleanrl(say: Callable[[str], None]) -> Path:
    """The interpreter of the environment with what CleanRL's dqn_jax imports, without PyTorch and TensorBoard."""
    return python("cleanrl", CLEANRL, say)
