"""The allocator's settings: each added once, never over the user's own; and a real process keeps its memory by them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from jaxft import allocator

FAULTS = """
import ctypes, resource, threading
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
def work():
    for turn in range(5):
        if turn == 1:
            before.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
        block = libc.malloc(100 << 20)
        ctypes.memset(block, 1, 100 << 20)
        libc.free(block)
before = []
thread = threading.Thread(target=work)
thread.start(); thread.join()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before[0])
"""


@pytest.fixture(autouse=True)
def glibc(monkeypatch):
    if allocator.platform.libc_ver()[0] != "glibc":
        pytest.skip("the C library is not glibc")
    monkeypatch.setattr(allocator, "_ACCELERATORS", ())


def test_what_lacks_is_added_and_the_users_own_stays():
    tuned = allocator.tuned_environment({"A": "b", "GLIBC_TUNABLES": "glibc.malloc.arena_max=4:glibc.pthread.rseq=0"})
    assert tuned is not None and tuned["A"] == "b"
    parts = tuned["GLIBC_TUNABLES"].split(":")
    assert parts[:2] == ["glibc.malloc.arena_max=4", "glibc.pthread.rseq=0"]
    assert sorted(part.partition("=")[0] for part in parts[2:]) == sorted(
        set(allocator.TUNABLES) - {"glibc.malloc.arena_max"}
    )
    assert allocator.tuned_environment(tuned) is None


def test_other_c_libraries_and_machines_with_accelerators_are_left_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(allocator, "_ACCELERATORS", (str(tmp_path),))
    assert allocator.tuned_environment({}) is None
    assert allocator.tuned_environment({"JAX_PLATFORMS": "cpu"}) is not None
    monkeypatch.setattr(allocator.platform, "libc_ver", lambda: ("", ""))
    assert allocator.tuned_environment({"JAX_PLATFORMS": "cpu"}) is None


def test_a_large_block_freed_is_not_mapped_anew():
    """Four times 100 MB in a thread of its own: 25,600 small pages or 50 huge ones a time, if it were."""
    faults, plain = [], {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    for environment in (plain, allocator.tuned_environment(plain)):
        run = subprocess.run(
            [sys.executable, "-c", FAULTS], env=environment, capture_output=True, text=True, check=True
        )
        faults.append(int(run.stdout))
    assert faults[0] > 150 and faults[1] < 50
