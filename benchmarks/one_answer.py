"""One answer: does the same recipe give the same bits on any devices, in any process, on any number of cores?

    python benchmarks/one_answer.py             # about half an hour on two cores
    python benchmarks/one_answer.py --fresh 2 --layers 2

Every cell of the table is a process of its own: `jaxft train`, MiniLM's weights in f32, 20 AdamW steps on packed rows
with dropout and all kinds of data noise on. Its hash is SHA-256 over the parameters and the optimiser's state of the
last checkpoint. All cells of one task and number of micro-batches must agree; XLA's thread pool is NPROC=8 in all.
Writes results/one_answer.{json,md} and its block of README.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import tables
from peers import machine

from jaxft import assets
from jaxft.checkpoint.store import Store

STEPS, EXAMPLES = 20, 640
DEVICES = (1, 2, 4, 8)
MICRO_BATCHES = (8, 16)
NOISE = {"label": 0.1, "token_drop": 0.05, "token_swap": 0.05, "token_mask": 0.05, "token_replace": 0.05, "typo": 0.05}


@dataclass(frozen=True)
class Case:
    """One process. devices: that the recipe asks for. emulated: that XLA offers. cores: that it may use. threads: of
    XLA's pool, by NPROC. cached: whether it may load compiled programs."""

    task: str
    micro_batches: int
    devices: int
    emulated: int
    cores: int = 2
    threads: int = 8
    cached: bool = True
    what: str = ""


def cases(fresh: int) -> Iterator[Case]:
    """All that must agree by task and micro-batches."""
    for task in ("classify", "tag"):
        for micro_batches in MICRO_BATCHES:
            for devices in DEVICES:
                yield Case(task, micro_batches, devices, devices, what=f"{devices} device(s)")
            yield Case(task, micro_batches, 2, 8, what="2 of 8 devices")
        yield Case(task, 8, 1, 1, cores=1, what="1 core")
        yield Case(task, 8, 8, 8, cores=1, what="8 devices, 1 core")
        yield Case(task, 8, 1, 1, cached=False, what="compiled anew")
    for number in range(fresh):
        yield Case("tag", 8, DEVICES[number % 4], DEVICES[number % 4], what=f"fresh process {number + 1}")


def unpinned() -> Iterator[Case]:
    """The condition: the pool's size. These need not agree."""
    for threads in (1, 2, 4, 16):
        yield Case("tag", 8, 1, 1, threads=threads, what=f"NPROC={threads}")


def run(case: Case, folder: Path, model: Path) -> str:
    """Trains in a process of its own; the hash of its last checkpoint."""
    out = folder / "run"
    shutil.rmtree(out, ignore_errors=True)
    suffix = "conll" if case.task == "tag" else "csv"
    recipe = {
        "task": case.task,
        "model": str(model),
        "data": {"train": str(folder / f"data.{suffix}"), "max_tokens": 64},
        "train": {"steps": STEPS, "batch_size": 32, "micro_batches": case.micro_batches},
        "optim": {"name": "adamw"},
        "noise": NOISE,
        "dtype": "f32",
        "mesh": {"data": case.devices},
        "out": str(out),
    }
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    flags = f"--xla_force_host_platform_device_count={case.emulated}"
    environment = os.environ | {"XLA_FLAGS": flags, "NPROC": str(case.threads)}
    if not case.cached:
        environment["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(dir=folder)
    command = [sys.executable, "-m", "jaxft.cli.main", "train", str(folder / "recipe.yaml"), "--quiet"]
    if case.cores < len(os.sched_getaffinity(0)):
        command = ["taskset", "-c", ",".join(map(str, range(case.cores))), *command]
    subprocess.run(command, check=True, env=environment)
    return state_sha256(out)


def state_sha256(out: Path) -> str:
    """Over names, types, shapes and bytes of the last checkpoint's arrays: parameters, moments, counts."""
    store = Store(out / "checkpoints")
    saved = store.load(store.steps()[-1])
    if saved.step != STEPS:
        raise SystemExit(f"the last checkpoint of {out} is of step {saved.step}")
    digest = hashlib.sha256()
    for name, array in sorted(saved.arrays.items()):
        digest.update(f"{name}\0{array.dtype}\0{array.shape}\0".encode() + array.tobytes())
    return digest.hexdigest()


def prepare(folder: Path, layers: int) -> Path:
    """Writes the data, and MiniLM's bottom layers; the model's folder."""
    rows = assets.splits("trec")["train"].read_text("utf-8").splitlines(keepends=True)
    (folder / "data.csv").write_text("".join(rows[: EXAMPLES + 1]), "utf-8")
    blocks = assets.splits("conll2003")["train"].read_text("utf-8").split("\n\n")
    (folder / "data.conll").write_text("\n\n".join(blocks[1 : EXAMPLES + 1]) + "\n", "utf-8")
    model = folder / "model"
    shutil.copytree(assets.fetch("minilm"), model)
    config = json.loads((model / "config.json").read_text())
    config["num_hidden_layers"] = layers  # weights above are left over, which is a warning
    (model / "config.json").write_text(json.dumps(config))
    return model


def report(found: list[tuple[Case, str]], others: list[tuple[Case, str]], layers: int) -> str:
    """The table, and the verdict."""
    groups: dict[tuple[str, int], list[tuple[Case, str]]] = {}
    for case, sha256 in found:
        groups.setdefault((case.task, case.micro_batches), []).append((case, sha256))
    head = ["task, micro-batches", "processes", "hashes", "hash", "what they were"]
    rows = []
    for (task, micro_batches), pairs in groups.items():
        hashes = sorted({sha256[:12] for _, sha256 in pairs})
        told = [case.what for case, _ in pairs if not case.what.startswith("fresh")]
        told += [f"{len(pairs) - len(told)} fresh processes"] if len(told) < len(pairs) else []
        rows.append([f"{task}, {micro_batches}", str(len(pairs)), str(len(hashes)), ", ".join(hashes), "; ".join(told)])
    condition = [[case.what, sha256[:12]] for case, sha256 in others]
    verdict = "One hash a row: **holds**." if all(row[2] == "1" for row in rows) else "One hash a row: **broken**."
    where = f"{machine.cpu()}, {machine.today()}, {versions()}; MiniLM, {layers} layers, {STEPS} steps of 32 examples."
    parts = [verdict, tables.markdown(head, rows), where]
    if others:
        parts += ["Other sizes of XLA's thread pool than 8 (tag, 8 micro-batches):"]
        parts += [tables.markdown(["NPROC", "hash"], condition)]
    return "\n\n".join(parts)


def versions() -> str:
    return ", ".join(f"{name} {version}" for name, version in machine.versions("jax", "jaxlib").items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fresh", type=int, default=20, help="fresh processes with one and the same recipe")
    parser.add_argument("--layers", type=int, default=6, help="of MiniLM's 6")
    parser.add_argument("--condition", action=argparse.BooleanOptionalAction, default=True, help="try other pools too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = prepare(folder, options.layers)
        found, others = [], []
        for target, wanted in ((found, cases(options.fresh)), (others, unpinned() if options.condition else ())):
            for case in wanted:
                target.append((case, run(case, folder, model)))
                print(case.task, case.micro_batches, case.what, target[-1][1][:12], flush=True)
    text = report(found, others, options.layers)
    print(text)
    (tables.RESULTS / "one_answer.md").write_text(text + "\n", "utf-8")
    pairs = [{**asdict(case), "sha256": sha256} for case, sha256 in (*found, *others)]
    (tables.RESULTS / "one_answer.json").write_text(json.dumps(pairs, indent=1) + "\n", "utf-8")
    tables.fill("one_answer", text)


if __name__ == "__main__":
    main()
