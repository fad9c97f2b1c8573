"""The line protocol between `interleave.py` and its workers: commands on standard input, one JSON object a line back.

    (start)      -> {"ready": true, "setting": "...", "device": "...", "versions": {...}, "load_s": 3.1}
    run STEPS    -> {"seconds": 4.2, "cpu_s": 8.3, "steps": 10, "real_tokens": 6400, "computed_tokens": 6500, ...}
    quit         -> (ends)

A worker blocks on standard input between commands, so that only one of several works at a time. Whatever libraries
print goes to standard error. An exception ends the worker with its traceback there and {"error": "..."} here.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

import machine


class Trainer(Protocol):
    """What a peer offers. A step is one update on one batch."""

    def run(self, steps: int) -> tuple[float, int, int]:
        """(seconds, real tokens, computed tokens): batching and copies to the device counted, tokenisation not."""
        ...

    def setting(self) -> str:
        """The choices that matter for speed, in words."""
        ...

    def device_name(self) -> str:
        """What it computes on."""
        ...

    def peak_device_mb(self) -> float | None:
        """Highest memory taken on the accelerator, MiB; none on a CPU."""
        ...


def serve(make: Callable[[], Trainer], *packages: str) -> None:
    """Answers commands with the trainer that `make` builds; `packages` are those whose versions are told."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # from here on, a library's print cannot break the protocol

    def reply(**values: Any) -> None:
        replies.write(json.dumps(values) + "\n")
        replies.flush()

    try:
        start = time.perf_counter()
        trainer = make()
        known = {"setting": trainer.setting(), "device": trainer.device_name(), "versions": machine.versions(*packages)}
        reply(ready=True, load_s=time.perf_counter() - start, **known)
        for line in sys.stdin:
            command, *arguments = line.split()
            if command == "quit":
                return
            reply(**measure(trainer, int(arguments[0])))
    except Exception as error:
        reply(error=f"{type(error).__name__}: {error}")
        raise


def measure(trainer: Trainer, steps: int) -> dict[str, Any]:
    """Runs `steps` updates and tells what they took."""
    before = time.process_time()
    seconds, real, computed = trainer.run(steps)
    cpu_s = time.process_time() - before
    memory = {"peak_memory_mb": machine.peak_memory_mb(), "peak_device_mb": trainer.peak_device_mb()}
    return {
        "seconds": seconds,
        "cpu_s": cpu_s,
        "steps": steps,
        "real_tokens": real,
        "computed_tokens": computed,
        **memory,
    }
