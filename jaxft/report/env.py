"""What a run ran on: versions, devices, flags, memory, code revision; for run folders and bug reports."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from jaxft import cpu_threads

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "transformers", "tokenizers", "numpy", "safetensors")
FLAGS = ("XLA_", "JAX_", "LIBTPU_", "NPROC")
"""Beginnings of the environment variables that matter."""


def environment() -> dict[str, Any]:
    """Plain values only, ready for JSON. Starts the JAX backend; `devices` says why where that fails."""
    import jaxft

    return {
        "jaxft": jaxft.__version__,
        "git": git_revision(Path(jaxft.__file__).parent),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "cores_usable": cpu_threads.cores(),
        "memory_gb": memory_gb(),
        "devices": _devices(),
        "cpu_threads": _cpu_threads(),
        "flags": {name: os.environ[name] for name in sorted(os.environ) if name.startswith(FLAGS)},
    }


def git_revision(folder: Path) -> dict[str, Any] | None:
    """Commit and whether files differ from it; None outside a git checkout of jaxft itself."""
    top = _git(folder, "rev-parse", "--show-toplevel")
    # An installed copy may lie inside another project's checkout: its commit would say nothing about jaxft.
    if top is None or Path(top).resolve() != folder.resolve().parent:
        return None
    commit = _git(folder, "rev-parse", "--verify", "--quiet", "HEAD")
    return {"commit": commit, "dirty": bool(_git(folder, "status", "--porcelain"))}


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        run = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return run.stdout.strip() if run.returncode == 0 else None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _devices() -> dict[str, Any]:
    import jax

    try:
        devices = jax.devices()
    except RuntimeError as error:  # a driver that is missing or busy
        return {"error": str(error).strip().partition("\n")[0]}
    return {
        "platform": devices[0].platform,
        "kind": sorted({device.device_kind for device in devices}),
        "count": len(devices),
        "processes": jax.process_count(),
        "runtime": devices[0].client.platform_version.partition("\n")[0],
    }


def _cpu_threads() -> int | None:
    """Of XLA's pool, which decides the bits on CPU; None where an accelerator computes, or none starts."""
    try:
        return cpu_threads.in_use()
    except RuntimeError:  # `devices` says why
        return None


def memory_gb() -> float | None:
    """Of the machine, in GiB; None where it cannot be told."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):  # not a POSIX system
        return None


def cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
