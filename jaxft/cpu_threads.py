"""How many threads XLA computes in on CPU: part of what decides a result's bits.

XLA:CPU cuts large matrix products by the size of its thread pool, which decides the order of additions. The pool has as
many threads as the environment variable NPROC says, else as there are cores in use, and never fewer than (emulated)
devices. A run records it; whoever goes on with the run takes the same size, on any number of cores.
"""

from __future__ import annotations

import os

from jaxft.errors import UserError

VARIABLE = "NPROC"


def pin(threads: int) -> None:
    """Sets the pool's size unless the user chose it; without effect once JAX has started its backend."""
    if VARIABLE not in os.environ and not _started():
        os.environ[VARIABLE] = str(threads)


def in_use() -> int | None:
    """Threads of the pool; None where an accelerator computes. Starts the backend."""
    import jax

    if jax.default_backend() != "cpu":
        return None
    return max(_chosen() or cores(), jax.local_device_count())


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _chosen() -> int:
    """What NPROC says, 0 for nothing; UserError where it is no number."""
    text = os.environ.get(VARIABLE, "")
    if text and not text.isdecimal():
        raise UserError(VARIABLE, f"is {text!r}, expected a number of threads", f"unset {VARIABLE}, or set a number")
    return int(text or 0)


def _started() -> bool:
    from jax._src import xla_bridge  # JAX has no public word for it

    return xla_bridge.backends_are_initialized()
