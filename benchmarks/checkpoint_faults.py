"""Can a checkpoint be restored wrong without a word? Damage of every kind, to files and to the calls that write them.

    python benchmarks/checkpoint_faults.py            # about five minutes on two idle cores; Linux, a C compiler
    python benchmarks/checkpoint_faults.py --flips 200 --harms 50 --stride 5

Files: single bits flipped, files cut, removed, made longer, added; `load` must refuse each, name the file, and take the
checkpoint again once the file is mended. Beside it, what orbax alone makes of the same flipped bit. Calls: each call
that a save makes below its folder fails in turn with ENOSPC, with EIO, as a short write, and every third is the last
before SIGKILL (tests/checkpoint/failing_io.c); afterwards the checkpoint before must load, the failure must have been
told, a new checkpoint must be exact or not there, and the next save must work. SIGKILL also comes at random moments.
Last, what hashing costs a save of a real size. tests/checkpoint runs the same on fewer samples.

Writes results/checkpoint_faults.json and results/checkpoint_faults.md. Left out: loss of power (the tests check the
order of fsync and rename instead), and damage that someone means to do.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import errno
import json
import os
import platform
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import ml_dtypes
import numpy as np

from jaxft.checkpoint import arrays, manifest
from jaxft.checkpoint.store import Damaged, Snapshot, Store

RESULTS = Path(__file__).parent / "results"
SHIM = Path(__file__).parents[1] / "tests" / "checkpoint" / "failing_io.c"
SHORT, KILL = -1, -2
"""Faults of failing_io.c that are no errno."""
FAULTS = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO, "short write": SHORT}
SHARD_BYTES = 2**18
"""So that a small state has several shards too."""
ALWAYS = 10**9


# --- states ----------------------------------------------------------------------------------------------------------


def snapshot(step: int, width: int = 32) -> Snapshot:
    """A small encoder of random numbers with its two moments: 1.2 MB at width 32. The same step gives the same."""
    draw = np.random.default_rng(step)
    shapes = {"embeddings/word": (64 * width, width), "head/bias": (3,)}
    for layer in range(4):
        shapes |= {f"layer_{layer}/{name}": (width, width) for name in ("query", "key", "value", "out")}
        shapes |= {f"layer_{layer}/in": (width, 4 * width), f"layer_{layer}/scale": (width,)}
    values = {
        f"{kind}/{name}": draw.standard_normal(shape, dtype=np.float32)
        for kind in ("trainable", "mu", "nu")
        for name, shape in shapes.items()
    }
    values["half"] = draw.standard_normal((width, 5), dtype=np.float32).astype(ml_dtypes.bfloat16)
    values["key"] = draw.integers(0, 2**32, 2, dtype=np.uint32)
    values["count"] = np.array(step, np.int32)
    return Snapshot(step, values, {"step": step, "seeds": [1, 2, 3], "name": "faults"})


def same(found: Snapshot, expected: Snapshot) -> bool:
    """Whether all bits, dtypes, shapes, names and facts agree."""
    if (found.step, found.facts, list(found.arrays)) != (expected.step, expected.facts, list(expected.arrays)):
        return False
    pairs = ((found.arrays[name], array) for name, array in expected.arrays.items())
    return all((a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes()) for a, b in pairs)


def saved(folder: Path, *snapshots: Snapshot, keep: int = 2) -> Store:
    """A store that holds these."""
    store = Store(folder, keep=keep)
    for one in snapshots:
        store.save(one)
    store.wait()
    failure = store.failure()
    if failure:
        raise failure
    return store


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


# --- damaged files ---------------------------------------------------------------------------------------------------


def flip_bit(path: Path, draw: random.Random) -> str:
    at, bit = draw.randrange(path.stat().st_size), draw.randrange(8)
    with open(path, "r+b", buffering=0) as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1 << bit]))
    return f"bit {bit} of byte {at}"


def cut(path: Path, draw: random.Random) -> str:
    size = draw.randrange(path.stat().st_size)
    os.truncate(path, size)
    return f"cut to {size} bytes"


def remove(path: Path, draw: random.Random) -> str:
    path.unlink()
    return "removed"


def lengthen(path: Path, draw: random.Random) -> str:
    with open(path, "ab") as file:
        file.write(draw.randbytes(draw.randrange(1, 9)))
    return "made longer"


def add_beside(path: Path, draw: random.Random) -> str:
    path.with_name("added").write_bytes(draw.randbytes(draw.randrange(9)))
    return "file added"


HARMS = (cut, remove, cut, remove, lengthen, add_beside)


def damage(store: Store, expected: Snapshot, harms: list[Callable[[Path, random.Random], str]], *, alone: bool = False):
    """Does one harm after another to the files of a checkpoint, in turn, and mends each.

    Returns one dict a harm: file, harm, seen (Damaged was raised), named (and it names the file), mended (no alarm
    afterwards), and, with `alone`, what orbax made of it without the manifest: "raised", "wrong" or "right".
    """
    folder = store.folder / f"step_{expected.step:08d}"
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    draw, rows = random.Random(20), []
    for number, harm in enumerate(harms):
        path = files[number % len(files)]
        kept = path.read_bytes()
        row: dict[str, Any] = {"file": path.relative_to(folder).as_posix(), "harm": harm(path, draw)}
        try:
            store.load(expected.step)
            row |= {"seen": False, "named": False}
        except Damaged as error:
            name = "added" if harm is add_beside else row["file"]
            row |= {"seen": True, "named": any(name in problem for problem in error.problems)}
        if alone:
            row["orbax"] = _orbax_alone(folder / "arrays", expected)
        path.write_bytes(kept)
        path.with_name("added").unlink(missing_ok=True)
        row["mended"] = not manifest.problems(folder)
        if number % 25 == 0:
            row["mended"] = row["mended"] and same(store.load(expected.step), expected)
        rows.append(row)
    return rows


def _orbax_alone(folder: Path, expected: Snapshot) -> str:
    shards, _ = arrays.pack(expected.arrays)
    try:
        found = arrays.read(folder, range(len(shards)))
    except Exception:
        return "raised"
    right = all(np.array_equal(a, b) for a, b in zip(found, shards, strict=True))
    return "right" if right else "wrong"


# --- failing calls ---------------------------------------------------------------------------------------------------


def compile_shim(folder: Path) -> Path | None:
    """failing_io.c as a library; None where there is no Linux or no C compiler."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        return None
    library = folder / "failing_io.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, SHIM, "-ldl"], check=True)
    return library


def worker(job: str, folder: Path, library: Path | None = None, **options: Any) -> list[dict[str, Any]]:
    """Runs one of WORK in a process of its own, with `library` preloaded; the rows it printed."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    if library is not None:
        environment["LD_PRELOAD"] = str(library)
    command = [sys.executable, __file__, "--worker", job, str(folder), json.dumps(options)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def fail_calls(folder: Path, fault: int, stride: int = 1, first: int = 1, lasting: bool = False) -> Iterator[dict]:
    """Lets call number `first`, `first + stride`, ... of a save fail; `lasting`: and all after it. One row each."""
    shim = ctypes.CDLL(None)
    saved(folder / "before", snapshot(1), snapshot(2))
    number = first
    while True:
        store = _copy_of(folder / "before", folder / f"call_{number}")
        shim.failing_io_arm(os.fsencode(store.folder), number, ALWAYS if lasting else number, fault)
        store.save(snapshot(3))
        store.wait()
        calls, hits = shim.failing_io_calls(), shim.failing_io_hits()
        shim.failing_io_arm(b"", 0, 0, 0)
        if number > calls:
            return
        row = {"call": number, "hit": bool(hits), "failure": repr(store.failure()), **_state_after(store)}
        store.save(snapshot(4))
        store.wait()
        row["next save"] = store.failure() is None and same(store.load(4), snapshot(4))
        store.clean()
        row["clean"] = not leftovers(store.folder)
        yield row
        shutil.rmtree(store.folder)
        number += stride


def log_calls(folder: Path) -> Iterator[dict]:
    """The calls of one save that also removes an old checkpoint, in order: call, path, target (of a rename)."""
    shim, log = ctypes.CDLL(None), folder / "calls.log"
    store = saved(folder / "order", snapshot(1), snapshot(2))
    shim.failing_io_log(os.fsencode(log))
    shim.failing_io_arm(os.fsencode(store.folder), 0, 0, 0)
    store.save(snapshot(3))
    store.wait()
    shim.failing_io_arm(b"", 0, 0, 0)
    shim.failing_io_log(None)
    for line in log.read_text().splitlines():
        yield dict(zip(("call", "path", "target"), line.split("\t"), strict=True))


def kill_calls(folder: Path, stride: int = 1, first: int = 1) -> Iterator[dict]:
    """Kills a process at call number `first`, `first + stride`, ... of a save that also removes an old checkpoint."""

    def save(store: Store, number: int) -> None:
        ctypes.CDLL(None).failing_io_arm(os.fsencode(store.folder), number, number, KILL)
        store.save(snapshot(3))
        store.wait()

    _in_child(lambda: saved(folder / "before", snapshot(1), snapshot(2)))
    number = first
    while True:
        store = _copy_of(folder / "before", folder / f"call_{number}")
        pid = _fork(lambda store=store, number=number: save(store, number))
        if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0:
            return
        yield {"call": number, "hit": True, **_in_child(lambda store=store: _after_kill(store, 2, 4))}
        shutil.rmtree(store.folder)
        number += stride


def kill_at_random(folder: Path, count: int, seed: int = 0) -> Iterator[dict]:
    """Kills a process that saves one checkpoint after another, `count` times, each time going on from the last."""

    def save(store: Store, step: int) -> None:
        while True:
            store.save(snapshot(step), protect=[1])
            step += 1

    draw, store, step = random.Random(seed), Store(folder / "random"), 1
    for _ in range(count):
        at_least = store.steps()[-1] + 1 if store.steps() else 1
        pid = _fork(lambda step=step: save(store, step))
        deadline = time.monotonic() + 60
        while not (store.steps() and store.steps()[-1] > at_least) and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(draw.uniform(0, 0.15))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        step = store.steps()[-1] + 1
        left = leftovers(store.folder)
        yield {"step": step - 1, "leftovers": left, **_in_child(lambda step=step: _after_kill(store, step - 1, step))}
        step += 1


def _copy_of(folder: Path, target: Path) -> Store:
    shutil.copytree(folder, target)
    return Store(target)


def _state_after(store: Store) -> dict[str, Any]:
    """last: the checkpoint before loads. new: the new one is "exact", "absent" or "wrong". leftovers: names."""
    new = "absent"
    try:
        if 3 in store.steps():
            new = "exact" if same(store.load(3), snapshot(3)) else "wrong"
        last = same(store.load(2), snapshot(2))
    except Damaged as error:
        return {"last": False, "new": "wrong", "damaged": str(error)}
    return {"last": last, "new": new, "leftovers": leftovers(store.folder)}


def _after_kill(store: Store, last: int, following: int) -> dict[str, Any]:
    """What a new process finds: every committed checkpoint must be exact."""
    steps = store.steps()
    exact = last in steps and all(_loads(store, step) for step in steps)
    store.clean()
    row = {"last": exact, "clean": not leftovers(store.folder) and store.steps() == steps}
    store.save(snapshot(following))
    store.wait()
    return row | {"next save": store.failure() is None and _loads(store, following)}


def _loads(store: Store, step: int) -> bool:
    try:
        return same(store.load(step), snapshot(step))
    except Damaged:
        return False


def _fork(work: Callable[[], Any]) -> int:
    """Starts `work` in a child; its id. The parent must have started no threads: it imports, and forks."""
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            work()
            os._exit(0)
        os._exit(1)
    return pid


def _in_child(work: Callable[[], Any]) -> Any:
    """The result of `work`, done in a child."""
    reading, writing = os.pipe()

    def tell() -> None:
        result = work()
        with open(writing, "w") as file:
            json.dump(result if isinstance(result, dict) else {}, file)

    pid = _fork(tell)
    os.close(writing)
    with open(reading) as file:
        told = file.read()
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0:
        raise RuntimeError("the child failed")
    return json.loads(told)


WORK: dict[str, Callable[..., Iterator[dict]]] = {
    "log_calls": log_calls,
    "fail_calls": fail_calls,
    "kill_calls": kill_calls,
    "kill_at_random": kill_at_random,
}


def good(row: dict[str, Any]) -> bool:
    """Whether a row of a failing call or of a kill is as it must be. A save that failed must have told; one that did
    not tell must be there, which is how a short write ends when it is tried again."""
    told = row.get("failure", "None") != "None"
    silent = "failure" in row and not told and row["new"] != "exact"
    return row["last"] and row.get("new") != "wrong" and row["next save"] and row["clean"] and not silent


# --- what hashing costs ----------------------------------------------------------------------------------------------


def cost(folder: Path, repeats: int) -> dict[str, Any]:
    """Seconds of a save with and without hashing, in turn, of a 12-layer encoder of width 384 with its moments where
    the words that the data lack are frozen: 183 MB."""
    layer = [(384, 384)] * 4 + [(384, 1536), (1536, 384)] + [(384,)] * 10
    trained = [(2048, 384), (512, 384)] + layer * 6
    draw = np.random.default_rng(0)
    values = {
        f"{kind}/{number}": draw.standard_normal(shape, dtype=np.float32)
        for kind in ("trainable", "mu", "nu")
        for number, shape in enumerate(trained)
    }
    values["frozen/word"] = draw.standard_normal((28474, 384), dtype=np.float32)
    with_hashes, without, blocked = [], [], []
    for number in range(repeats + 1):
        for seconds, hashing in ((with_hashes, True), (without, False))[:: 1 if number % 2 else -1]:
            with contextlib.ExitStack() as stack:
                if not hashing:
                    stack.enter_context(mock.patch.object(manifest, "sha256", lambda data: "0" * 64))
                    entry = mock.patch.object(manifest, "_entry", lambda path: manifest.Entry(0, ""))
                    stack.enter_context(entry)
                os.sync()
                store, start = Store(folder / "cost"), time.perf_counter()
                store.save(Snapshot(1, values, {}))
                blocked.append(store.waited_s)
                store.wait()
                took = time.perf_counter() - start
            if store.failure():
                raise RuntimeError(f"the save failed: {store.failure()}")
            if number:  # the first pair imports orbax
                seconds.append(took)
            shutil.rmtree(store.folder)
    start = time.perf_counter()
    for array in values.values():
        manifest.sha256(array.reshape(-1).view(np.uint8).data)
    return {
        "megabytes": sum(array.nbytes for array in values.values()) / 1e6,
        "arrays": len(values),
        "repeats": repeats,
        "save_s": with_hashes,
        "save_without_hashes_s": without,
        "ratio": statistics.median(with_hashes) / statistics.median(without),
        "ratio_of_pairs": statistics.median(a / b for a, b in zip(with_hashes, without, strict=True)),
        "hashing_alone_one_core_s": time.perf_counter() - start,
        "save_blocks_s": statistics.median(blocked[2:]),
        "load_average": os.getloadavg()[0],
    }


# --- the table -------------------------------------------------------------------------------------------------------


def rows_of(record: dict[str, Any]) -> list[list[str]]:
    """Damage, samples, failures of the store, remark."""
    rows = []
    for title, key in (("single bit flipped", "flips"), ("file cut or removed (2 of 3), longer or added", "harms")):
        found = record[key]
        bad = sum(not (row["seen"] and row["named"] and row["mended"]) for row in found)
        told = Counter(row["orbax"] for row in found if "orbax" in row)
        remark = ", ".join(f"{word} {number:,}" for word, number in sorted(told.items()))
        rows.append([title, f"{len(found):,}", str(bad), f"orbax alone: {remark}" if remark else ""])
    for title, found in record["calls"].items():
        bad = sum(not good(row) for row in found)
        hit = [row for row in found if row.get("hit", True)]  # a call that only removes, or is no write, is let through
        outcomes = Counter("failure told" if row.get("failure", "None") != "None" else "saved" for row in hit)
        remark = ", ".join(f"{word} {number}" for word, number in sorted(outcomes.items()))
        rows.append([title, f"{len(hit):,}", str(bad), "" if "SIGKILL" in title else remark])
    return rows


def markdown(record: dict[str, Any]) -> str:
    """The result as a page."""
    price, rows = record["cost"], rows_of(record)
    table = [f"| {' | '.join(row)} |" for row in rows]
    with_hashes, without = (statistics.median(price[key]) for key in ("save_s", "save_without_hashes_s"))
    return "\n".join([
        "# Checkpoints: damaged files, failing calls, kills",
        "",
        (__doc__ or "").split("\n\n")[2],
        "",
        f"{record['bytes']:,} bytes in {len(record['files'])} files; {record['device']}.",
        "",
        "| damage | samples | not as it must be | of these |",
        "| --- | ---: | ---: | --- |",
        *table,
        "",
        f"Cost at {price['megabytes']:.0f} MB in {price['arrays']} arrays, median of {price['repeats']}: a save takes "
        f"{with_hashes:.3f} s with hashing and {without:.3f} s without, {price['ratio_of_pairs']:.2f} times (median of "
        f"pairs); hashing alone takes {price['hashing_alone_one_core_s']:.3f} s of one core. The caller is held up for "
        f"{1000 * price['save_blocks_s']:.1f} ms.",
        "",
    ])  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=2000, help="bits to flip")
    parser.add_argument("--harms", type=int, default=750, help="files to cut or remove (two of three), lengthen or add")
    parser.add_argument("--stride", type=int, default=1, help="every how manieth call fails")
    parser.add_argument("--kill-stride", type=int, default=3, help="every how manieth call is a process's last")
    parser.add_argument("--kills", type=int, default=40, help="kills at random moments")
    parser.add_argument("--repeats", type=int, default=15, help="saves with and without hashing")
    parser.add_argument("--worker", nargs=3, metavar=("JOB", "FOLDER", "OPTIONS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        job, folder, more = options.worker
        arrays.SHARD_BYTES = SHARD_BYTES
        for row in WORK[job](Path(folder), **json.loads(more)):
            print(json.dumps(row), flush=True)
        return
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        record = measure(Path(name), options)
    record["seconds"] = round(time.perf_counter() - start)
    bad = [row[0] for row in rows_of(record) if row[2] != "0"]
    (RESULTS / "checkpoint_faults.json").write_text(json.dumps(_short(record), indent=1) + "\n", "utf-8")
    (RESULTS / "checkpoint_faults.md").write_text(markdown(record), "utf-8")
    print(markdown(record))
    raise SystemExit(f"failed: {', '.join(bad)}" if bad else 0)


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """All of it, as one record."""
    library = compile_shim(folder)
    if library is None:
        raise SystemExit("needs Linux and a C compiler named cc")
    price = cost(folder, options.repeats)
    arrays.SHARD_BYTES = 4 * SHARD_BYTES
    expected = snapshot(7, width=64)
    store = saved(folder / "damage", expected)
    files = [path for path in store.folder.rglob("*") if path.is_file()]
    record: dict[str, Any] = {
        "command": "python benchmarks/checkpoint_faults.py",
        "device": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "bytes": sum(path.stat().st_size for path in files),
        "files": sorted(path.relative_to(store.folder).as_posix() for path in files),
        "cost": price,
        "flips": damage(store, expected, [flip_bit] * options.flips, alone=True),
        "harms": damage(store, expected, [HARMS[n // len(files) % len(HARMS)] for n in range(options.harms)]),
        "calls": {},
    }
    calls = record["calls"]
    for title, fault in FAULTS.items():
        calls[f"a call: {title}"] = worker(
            "fail_calls", folder / title.replace(" ", "_"), library, fault=fault, stride=options.stride
        )
        print(title, len(calls[f"a call: {title}"]), flush=True)
    full = {"fault": errno.ENOSPC, "stride": options.stride, "lasting": True}
    calls["this and all later calls: ENOSPC"] = worker("fail_calls", folder / "full", library, **full)
    calls["SIGKILL at a call"] = worker("kill_calls", folder / "kill_calls", library, stride=options.kill_stride)
    calls["SIGKILL at a random moment"] = worker("kill_at_random", folder / "kills", count=options.kills)
    return record


def _short(record: dict[str, Any]) -> dict[str, Any]:
    """Without the rows that are as they must be; their number stays."""
    short = dict(record, table=rows_of(record))
    for key in ("flips", "harms"):
        short[key] = [row for row in record[key] if not (row["seen"] and row["named"] and row["mended"])]
    short["calls"] = {title: [row for row in rows if not good(row)] for title, rows in record["calls"].items()}
    return short


if __name__ == "__main__":
    main()
