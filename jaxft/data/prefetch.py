"""Prefetch: the host makes the next batches in a thread while the device works on this one."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Prefetch(Generic[Item]):
    """Iterates over make(number) for each of `numbers`, in order, made up to `depth` ahead in a thread.

    stall_s: seconds that the consumer waited. An exception in `make` is raised where its item would have come. Leaving
    the `with` block stops the thread.
    """

    def __init__(self, make: Callable[[int], Item], numbers: Iterable[int], depth: int = 2) -> None:
        self.stall_s = 0.0
        self._make, self._numbers = make, numbers
        self._queue: queue.Queue = queue.Queue(maxsize=depth)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="jaxft-prefetch", daemon=True)

    def __enter__(self) -> Prefetch[Item]:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        while self._thread.is_alive():  # a full queue may be holding it
            self._drain()
            self._thread.join(timeout=0.05)

    def __iter__(self) -> Iterator[Item]:
        while True:
            start = time.perf_counter()
            kind, value = self._queue.get()
            self.stall_s += time.perf_counter() - start
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value

    def _work(self) -> None:
        try:
            for number in self._numbers:
                if self._stopped.is_set():
                    return
                self._queue.put(("item", self._make(number)))
            self._queue.put(("end", None))
        except BaseException as error:
            self._queue.put(("error", error))

    def _drain(self) -> None:
        while True:
            try:
                self._queue.get_nowait()
            except queue.Empty:
                return
