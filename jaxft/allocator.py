"""glibc's allocator set up for a command that computes on CPU.

XLA asks malloc for one block of temporary memory a step, hundreds of MB, and frees it again. By default glibc maps it
anew each time, and the kernel clears every page of it: 60,000 small pages a step in a MiniLM run, a third of all
processor time. Kept from step to step, and in huge pages, it costs nothing. glibc can be told so only in the
environment, before the process starts; so the command starts itself again, once.

Left alone: other C libraries, machines with a GPU or TPU (there the device has its own allocator, and the host many
threads), and whatever the user's own GLIBC_TUNABLES set.
"""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

TUNABLES = {
    "glibc.malloc.hugetlb": "1",  # since glibc 2.35; older ones ignore it
    "glibc.malloc.arena_max": "1",  # the other threads' arenas cannot hold a block above 64 MB
    "glibc.malloc.mmap_max": "0",
    "glibc.malloc.trim_threshold": str(2**40),
}
_SINCE = (2, 26)
_ACCELERATORS = ("/dev/nvidiactl", "/dev/kfd", "/dev/accel0", "/dev/vfio/0")


def tune() -> None:
    """Restarts this process with `TUNABLES` where that helps; returns where it does not."""
    tuned = tuned_environment(dict(os.environ))
    if tuned is not None and sys.orig_argv[1:]:
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], tuned)


def tuned_environment(environment: dict[str, str]) -> dict[str, str] | None:
    """The environment with the tunables that it lacks; None if it lacks none, or they would not help."""
    if environment.get("JAX_PLATFORMS") != "cpu" and any(Path(device).exists() for device in _ACCELERATORS):
        return None
    name, version = platform.libc_ver()
    if name != "glibc" or tuple(map(int, version.split(".")[:2])) < _SINCE:
        return None
    given = [part for part in environment.get("GLIBC_TUNABLES", "").split(":") if part]
    names = {part.partition("=")[0] for part in given}
    lacking = [f"{name}={value}" for name, value in TUNABLES.items() if name not in names]
    return environment | {"GLIBC_TUNABLES": ":".join([*given, *lacking])} if lacking else None
