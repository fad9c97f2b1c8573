"""Measures several training programs in turn: one worker process a peer, rounds of a few steps each.

Every peer is started and warmed up first; then each round gives every peer the same number of steps, one after
another, beginning with another peer each round. Noise of the machine, which comes and goes over seconds and minutes,
so falls on all alike, and ratios are taken within a round. Other processes' share of the processors is measured beside
each turn (Linux), and rounds in which it passed a limit can be left out, for all peers at once. Leaves out what a peer
is: `finetune.py` and `torch_settings.py` know.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peers import machine

PEERS = Path(__file__).parent / "peers"
CPU = "CPU seconds per 1,000 real tokens"
MAX_BUSY = "leave out rounds in which other processes used more than this share of the processors"
WORKER_MB = 5000  # of the hungriest peer, and some to spare
Say = Callable[[str], None]


def say(line: str) -> None:
    """Prints at once, also into a file."""
    print(line, flush=True)


@dataclass(frozen=True)
class Peer:
    """A program to measure."""

    name: str
    script: str  # file in peers/
    arguments: tuple[str, ...] = ()
    python: Path | str = sys.executable
    share: float = 1.0  # of the steps of a round; less for a slow peer whose steps all cost the same
    environment: dict[str, str] = field(default_factory=dict)


class Absent(Exception):
    """A peer that cannot run here; the text says why."""


class Worker:
    """A running peer: starts on construction, `run` blocks until its reply."""

    def __init__(self, peer: Peer, arguments: tuple[str, ...] = ()):
        self.peer = peer
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed with the worker)
        command = [str(peer.python), str(PEERS / peer.script), "--serve", *peer.arguments, *arguments]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True, env=environment(peer)
        )
        self.hello = self.reply()

    def run(self, steps: int) -> dict[str, Any]:
        """Measures `steps` updates; see peers/protocol.py for the reply. Raises Absent if the worker failed."""
        assert self.process.stdin
        before = others_ticks(self.process.pid)
        begin = time.perf_counter()
        try:
            self.process.stdin.write(f"run {steps}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Absent(self.reason()) from None
        values = self.reply()
        after = others_ticks(self.process.pid)
        if before is not None and after is not None:
            whole = (time.perf_counter() - begin) * machine.cores()
            values["others_busy"] = max(0.0, round((after - before) / os.sysconf("SC_CLK_TCK") / whole, 3))
        return values

    def reply(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        values = json.loads(line) if line else {"error": self.reason()}
        if "error" in values:
            self.close()
            raise Absent(values["error"])
        return values

    def reason(self) -> str:
        """The last line the worker wrote to standard error, and its exit code."""
        code = self.process.wait()
        self.errors.seek(0)
        lines = [line for line in self.errors.read().splitlines() if line.strip()]
        return f"{lines[-1].strip() if lines else 'no message'} (exit code {code})"

    def close(self) -> None:
        """Ends the worker."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def others_ticks(pid: int) -> int | None:
    """Clock ticks that all processes but `pid` have used so far, hypervisor's steal included; none outside Linux."""
    try:
        columns = Path("/proc/stat").read_text().split("\n")[0].split()[1:9]
        user, nice, system, _, _, irq, softirq, steal = map(int, columns)
        own = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, ValueError):
        return None
    return user + nice + system + irq + softirq + steal - int(own[11]) - int(own[12])


def environment(peer: Peer) -> dict[str, str]:
    """The variables of a worker: offline, no tokeniser threads, and a GPU shared with the other workers.

    PYTHONPATH goes: with the root of this repository on it, transformers would take `kernels/` for another project.
    """
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if peer.script == "jaxft_worker.py" and "PYTHONPATH" in os.environ:
        variables["PYTHONPATH"] = os.environ["PYTHONPATH"]
    variables |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    return variables | peer.environment


@dataclass
class Entry:
    """What was measured of one peer; `absent` tells why there is nothing."""

    peer: Peer
    hello: dict[str, Any] = field(default_factory=dict)
    warm_s: float | None = None
    rounds: list[dict[str, Any]] = field(default_factory=list)
    absent: str | None = None

    @property
    def rates(self) -> list[float]:
        """Real tokens a second, one a round that counts."""
        return [rate(one) for one in self.rounds if not one["left_out"]]

    def tree(self) -> dict[str, Any]:
        """Plain values for the result file."""
        if self.absent is not None:
            return {"absent": machine.without_places(self.absent)}
        real, computed = (sum(one[name] for one in self.rounds) for name in ("real_tokens", "computed_tokens"))
        peaks = {name: self.rounds[-1][name] for name in ("peak_memory_mb", "peak_device_mb")}
        times = {"warm_s": self.warm_s, "real_tokens_per_s": spread(self.rates)}
        times["cpu_s_per_1000_real_tokens"] = 1000 * statistics.median(
            one["cpu_s"] / one["real_tokens"] for one in self.rounds if not one["left_out"]
        )
        return {**self.hello, **times, "real_share": real / computed, **peaks, "rounds": self.rounds}


def spread(values: list[float]) -> dict[str, float]:
    """Median, least and greatest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def measure(
    peers: list[Peer],
    arguments: tuple[str, ...],
    *,
    rounds: int,
    steps: int,
    warm_up: int,
    max_busy: float,
    say: Say,
) -> dict[str, Entry]:
    """Starts, warms up and measures all peers; entries by name, absent ones included."""
    entries = {peer.name: Entry(peer) for peer in peers}
    workers = {peer.name: worker for peer in peers if (worker := start(entries[peer.name], arguments, warm_up, say))}
    try:
        for number in range(rounds):
            names = list(workers)
            turn = number % max(len(names), 1)
            for name in names[turn:] + names[:turn]:
                measure_once(entries[name], workers, steps, say, f"round {number + 1}/{rounds}")
    finally:
        for worker in workers.values():
            worker.close()
    leave_out(entries, max_busy, say)
    return entries


def leave_out(entries: dict[str, Entry], max_busy: float, say: Say) -> None:
    """Marks the rounds in any turn of which others used over `max_busy` of the processors; keeps two at least."""
    present = [entry.rounds for entry in entries.values() if entry.absent is None]
    busy = [max(turn.get("others_busy", 0.0) for turn in turns) for turns in zip(*present, strict=True)]
    keep = [number for number, share in enumerate(busy) if share <= max_busy]
    if len(keep) < min(2, len(busy)):
        keep = list(range(len(busy)))
        say(f"other processes were busy in nearly every round (worst: {max(busy):.0%}): all rounds are kept")
    for entry in entries.values():
        for number, one in enumerate(entry.rounds):
            one["left_out"] = number not in keep
    if len(keep) < len(busy):
        dropped = f"{len(busy) - len(keep)} of {len(busy)} rounds are left out"
        say(f"{dropped}: other processes used over {max_busy:.0%} of the processors")


def rate(one: dict[str, Any]) -> float:
    """Real tokens a second of one turn."""
    return one["real_tokens"] / one["seconds"]


def start(entry: Entry, arguments: tuple[str, ...], warm_up: int, say: Say) -> Worker | None:
    """Starts a peer and runs its warm-up; none if it cannot run here, with the reason in the entry."""
    begin = time.perf_counter()
    try:
        check_memory()
        worker = Worker(entry.peer, arguments)
        entry.hello = {name: value for name, value in worker.hello.items() if name != "ready"}
        entry.warm_s = worker.run(portion(entry.peer, warm_up))["seconds"]
    except (Absent, OSError) as reason:
        entry.absent = str(reason)
        say(f"{entry.peer.name}: absent: {reason}")
        return None
    say(f"{entry.peer.name}: ready in {time.perf_counter() - begin:.0f} s ({entry.hello['setting']})")
    return worker


def check_memory() -> None:
    """Raises Absent where one more worker might exhaust the machine's memory, which could end anybody's process."""
    free = machine.free_memory_mb()
    if free is not None and free < WORKER_MB:
        raise Absent(f"{free:,.0f} MiB of memory free, a worker may need {WORKER_MB:,}: measure fewer at once")


def measure_once(entry: Entry, workers: dict[str, Worker], steps: int, say: Say, when: str) -> None:
    """One peer's turn of one round; a peer that fails leaves the race, and its entry says so."""
    try:
        entry.rounds.append(workers[entry.peer.name].run(portion(entry.peer, steps)))
    except Absent as reason:
        entry.absent = f"failed in {when}: {reason}"
        say(f"{entry.peer.name}: {entry.absent}")
        workers.pop(entry.peer.name)
        return
    one = entry.rounds[-1]
    busy = f", others {one['others_busy']:.0%} busy" if one.get("others_busy", 0) > 0.05 else ""
    say(f"{when}: {entry.peer.name}: {rate(one):.0f} real tokens/s{busy}")


def portion(peer: Peer, steps: int) -> int:
    """The peer's share of `steps`, at least 2."""
    return max(2, round(peer.share * steps))


def contention(entries: dict[str, dict[str, Any]]) -> str:
    """A sentence on what share of the processors other processes took in the turns that count; empty if unknown.

    entries: as `Entry.tree` gives them.
    """
    turns = [one for entry in entries.values() for one in entry.get("rounds", []) if not one["left_out"]]
    busy = [one["others_busy"] for one in turns if "others_busy" in one]
    if not busy:
        return ""
    return f"Other processes took {statistics.median(busy):.0%} of the processors (median of {len(busy)} turns)."


def ratios(ours: Entry, theirs: Entry) -> dict[str, float] | None:
    """Spread over rounds of ours over theirs in real tokens a second; none where either is absent."""
    if ours.absent is not None or theirs.absent is not None:
        return None
    return spread([a / b for a, b in zip(ours.rates, theirs.rates, strict=True)])
