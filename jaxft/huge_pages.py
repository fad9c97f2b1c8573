"""Huge pages for a command that computes on CPU.

XLA asks malloc for one block of temporary memory a step, hundreds of MB, and gives it back: the kernel then maps some
60,000 small pages in every step of a MiniLM run, a third of all processor time. glibc can ask for huge pages instead,
but only if told in the environment before the process starts, so the command starts itself again, once. Nothing to do
where the kernel gives huge pages to everybody or to nobody, or where the C library is not glibc >= 2.35.
"""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

TUNABLE = "glibc.malloc.hugetlb=1"
_SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def ask() -> None:
    """Restarts this process with huge pages where that helps; returns where it does not."""
    if not wanted(dict(os.environ)):
        return
    tunables = [part for part in os.environ.get("GLIBC_TUNABLES", "").split(":") if part]
    environment = os.environ | {"GLIBC_TUNABLES": ":".join([*tunables, TUNABLE])}
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def wanted(environment: dict[str, str]) -> bool:
    """Whether a restart would change anything: never twice, never over the user's own choice."""
    if "glibc.malloc.hugetlb" in environment.get("GLIBC_TUNABLES", "") or not sys.orig_argv[1:]:
        return False
    name, version = platform.libc_ver()
    if name != "glibc" or tuple(map(int, version.split(".")[:2])) < (2, 35):
        return False
    try:
        return "[madvise]" in _SETTING.read_text()
    except OSError:
        return False
