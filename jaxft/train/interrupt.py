"""SIGINT and SIGTERM while training: the first asks for a stop at the next step boundary, a second one ends at once.

Python runs signal handlers between bytecodes only, so none would run while XLA compiles. The signals are therefore
read off a socket, which the operating system's handler writes to, by a thread of its own.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable
from types import TracebackType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """A run stopped by a signal after it was saved. number: of the signal; the exit code is 128 + number."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number


class Watch:
    """Within its `with` block signals no longer end the process. `number`: of the first one, none before.

    on_first: called with its name, in another thread. Signals that were ignored before stay so, and outside the main
    thread, where Python takes none, nothing is watched.
    """

    def __init__(self, on_first: Callable[[str], None] = lambda name: None) -> None:
        self.number: int | None = None
        self._on_first = on_first
        self._before: dict[signal.Signals, object] = {}
        self._wakeup = -1

    def __enter__(self) -> Watch:
        if threading.current_thread() is not threading.main_thread():
            return self
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._wakeup = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in SIGNALS:
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                self._before[number] = signal.signal(number, lambda *_: None)
        self._thread = threading.Thread(target=self._read, name="jaxft-signals", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        signal.set_wakeup_fd(self._wakeup)
        self._writer.close()  # ends the thread, once it has read what came before
        self._thread.join()

    def _read(self) -> None:
        with self._reader:
            while received := self._reader.recv(1):
                number = received[0]
                if number not in self._before:
                    continue
                if self.number is not None:
                    os.write(2, b"\nstopped at once; nothing more was saved\n")
                    os._exit(128 + number)
                self.number = number
                with contextlib.suppress(OSError):  # nobody reads what is said
                    self._on_first(signal.Signals(number).name)
