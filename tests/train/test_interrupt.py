"""Signals while training, in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from jaxft.train.interrupt import Watch

CODE = """
import hashlib, signal, sys, time
from jaxft.train.interrupt import Watch
signal.signal(signal.SIGINT, signal.default_int_handler)
with Watch(lambda name: print(name, flush=True)) as watch:
    print("ready", flush=True)
    if sys.argv[1] == "busy":  # one call outside Python, as a compilation is, in which no handler runs
        hashlib.pbkdf2_hmac("sha256", b"x", b"y", 60_000_000)
    while not watch.number:
        time.sleep(0.01)
    if sys.argv[1] == "wait":
        time.sleep(60)
print("saved", flush=True)
"""


@pytest.fixture
def watching(request) -> Iterator[subprocess.Popen]:
    """A process within a `Watch`."""
    process = subprocess.Popen([sys.executable, "-c", CODE, request.param], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize("watching", ["idle"], indirect=True)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_only_noted(watching, number):
    watching.send_signal(number)
    told, _ = watching.communicate(timeout=60)
    assert told == f"{signal.Signals(number).name}\nsaved\n" and watching.returncode == 0


@pytest.mark.parametrize("watching", ["wait", "busy"], indirect=True)
def test_the_second_one_ends_the_process_at_once_even_outside_python(watching):
    watching.send_signal(signal.SIGTERM)
    assert watching.stdout.readline() == "SIGTERM\n"
    watching.send_signal(signal.SIGINT)
    told, _ = watching.communicate(timeout=30)
    assert told == "" and watching.returncode == 128 + signal.SIGINT


def test_afterwards_signals_are_what_they_were():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with Watch():
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] != before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_signals_that_were_ignored_stay_so():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with Watch() as watch:
            os.kill(os.getpid(), signal.SIGTERM)
        assert watch.number is None
    finally:
        signal.signal(signal.SIGTERM, before)


def test_outside_the_main_thread_nothing_is_watched():
    found = []

    def work() -> None:
        with Watch() as watch:
            found.append(watch.number)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [None]
