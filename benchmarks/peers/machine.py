"""What a measurement ran on: device names, versions, date, peak memory."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

PLACES = ("--data", "--model", "--out", "--runs")  # options that name folders and files


def cpu() -> str:
    """Processor name and the number of cores this process may use."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":", 1)[1] for line in info.read_text().splitlines() if line.startswith("model name")]
        name = names[0].strip() if names else name
    return f"{name}, {cores()} cores"


def gpu() -> str | None:
    """Name of the first NVIDIA GPU, without any framework; none where there is none."""
    if not shutil.which("nvidia-smi"):
        return None
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    lines = subprocess.run(query, capture_output=True, text=True, check=False).stdout.split("\n")
    return lines[0].strip() or None


def slug(device: str) -> str:
    """A device name fit for a file name: `Intel(R) Xeon(R) Processor, 2 cores` -> `intel-xeon-2-cores`."""
    words = re.sub(r"\((r|tm)\)|\b(processor|cpu)\b|@.*?(?=,|$)", " ", device.lower())
    return re.sub(r"[^a-z0-9]+", "-", words).strip("-")


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions(*packages: str) -> dict[str, str]:
    """Version of Python and of each installed package; others are left out."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def today() -> str:
    """The date, UTC, as YYYY-MM-DD."""
    return datetime.datetime.now(datetime.timezone.utc).date().isoformat()  # noqa: UP017 (Python 3.10 peers)


def peak_memory_mb() -> float:
    """Highest resident memory of this process so far, MiB.

    /proc is preferred: ru_maxrss of a started process also counts the process that started it.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def free_memory_mb() -> float | None:
    """Memory that new processes can take without pushing others out, MiB; none outside Linux."""
    info = Path("/proc/meminfo")
    lines = info.read_text().splitlines() if info.exists() else []
    found = [int(line.split()[1]) / 1024 for line in lines if line.startswith("MemAvailable:")]
    return found[0] if found else None


def jax_peak_device_mb() -> float | None:
    """Highest memory JAX took on its first device, MiB; none on a CPU."""
    import jax

    device = jax.devices()[0]
    statistics = device.memory_stats() if device.platform != "cpu" else None
    return statistics["peak_bytes_in_use"] / 2**20 if statistics else None


def command(script: str, arguments: list[str]) -> str:
    """The command line that repeats a run, without the folders and files of this machine."""
    kept = []
    for at, word in enumerate(arguments):
        named = word.partition("=")[0] in PLACES or (at and arguments[at - 1] in PLACES)
        kept += [] if named else [word]
    return " ".join([f"python benchmarks/{script}", *kept])


def without_places(text: str) -> str:
    """`text` without folders and addresses of this machine, fit for a result file."""
    text = re.sub(r"https?://\S+", "(address)", text)
    return re.sub(r"(?<![\w.])(/[\w.+-]+)+/", ".../", text)


def load() -> list[float]:
    """Load averages over 1, 5 and 15 minutes: above the number of cores, others were at work too."""
    return [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else []
