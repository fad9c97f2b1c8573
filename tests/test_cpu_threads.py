"""The size of XLA's thread pool: pinned in time, left to the user, told truly."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from jaxft import cpu_threads
from jaxft.errors import UserError
from tests.conftest import DEVICES

CODE = """
import os, sys
from jaxft import cpu_threads
if "late" in sys.argv:
    import jax
    jax.devices()
cpu_threads.pin(8)
print(os.environ.get("NPROC"), cpu_threads.in_use())
"""


def told(*arguments: str, **environment: str) -> list[str]:
    """What a fresh process says; its environment has neither NPROC nor XLA_FLAGS of its own."""
    clean = {name: value for name, value in os.environ.items() if name not in ("NPROC", "XLA_FLAGS")}
    command = [sys.executable, "-c", CODE, *arguments]
    found = subprocess.run(command, env=clean | environment, check=True, capture_output=True, text=True)
    return found.stdout.split()


def test_the_pool_is_pinned_before_the_backend_starts():
    assert told() == ["8", "8"]


def test_the_users_choice_stays():
    assert told(NPROC="3") == ["3", "3"]


def test_a_choice_that_is_no_number_is_refused(monkeypatch):
    monkeypatch.setenv("NPROC", "auto")
    with pytest.raises(UserError, match="NPROC: is 'auto', expected a number"):
        cpu_threads.in_use()


def test_more_devices_make_more_threads():
    assert told(XLA_FLAGS="--xla_force_host_platform_device_count=12") == ["8", "12"]


def test_after_the_backend_has_started_the_truth_is_told():
    assert told("late") == ["None", str(len(os.sched_getaffinity(0)))]


def test_in_these_tests_there_are_as_many_as_devices():
    assert cpu_threads.in_use() == max(DEVICES, int(os.environ.get("NPROC") or cpu_threads.cores()))


@pytest.mark.parametrize("value", ["", "0"])
def test_no_number_is_the_cores(value, monkeypatch):
    monkeypatch.setenv("NPROC", value)
    assert cpu_threads.in_use() == max(DEVICES, cpu_threads.cores())
