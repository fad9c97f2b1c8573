"""Runs that are killed at random moments: do all of them go on, and end on the hash of the run that was left alone?

    python benchmarks/crashes.py                          # 500 kill -9 and 100 SIGTERM
    python benchmarks/crashes.py --kills 20 --terms 5

A real `jaxft train` of a tiny BERT: 60 steps on text messages with dropout, noise, evaluations and a checkpoint every
other step. It is killed with SIGKILL a random time after it is under way, started again, killed again, until it
ends. Then its parameters' hash, the hash of its last checkpoint, and the records of metrics.jsonl (each step once, with
the loss and digest that it had in the run that was left alone) must be those of the undisturbed run. SIGTERM is sent
from the very start on, so it also meets tokenising and compiling; one kill in ten as well.

Processes are forked off a parent that has imported everything and started nothing, which saves seconds a kill; they are
whole processes all the same. Writes results/crashes.{json,md}.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STEPS, EVERY, EVALUATIONS = 60, 2, 7
"""Steps of the run; steps between checkpoints, and between evaluations, not a multiple of those."""
DONE, TIMEOUT_S = 0, 300
MEAN_WAIT_S, START_S = 0.4, 6.0
"""Mean seconds that a run goes on before it is killed; longest before a signal that may come at the very start."""


@dataclass
class Outcome:
    """What became of disturbed runs. moments: where a signal met the process -> how often."""

    runs: int = 0
    signals: int = 0
    moments: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def recipe(folder: Path, model: Path, data: Path, out: str) -> list[str]:
    """The command line of the run."""
    tree = {
        "task": "classify",
        "model": str(model),
        "data": {"train": str(data), "dev": 0.2, "max_tokens": 48},
        "train": {"steps": STEPS, "batch_size": 16, "micro_batches": 2, "eval_every": EVALUATIONS, "save_every": EVERY},
        "optim": {"learning_rate": 1e-3},
        "noise": {"label": 0.1, "token_drop": 0.1, "token_mask": 0.1},
        "out": str(folder / out),
    }
    path = folder / f"{out}.yaml"
    path.write_text(json.dumps(tree))
    return ["train", str(path), "--quiet"]


def forked(work: Callable[[], int]) -> int:
    """Runs `work`, which gives an exit code, in a forked process; its number."""
    number = os.fork()
    if number:
        return number
    code = 1
    try:
        code = work()
    finally:
        os._exit(code)


def start(line: list[str]) -> int:
    """Starts a command line; the number of its process."""

    def work() -> int:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with open(os.devnull, "w") as null:
            os.dup2(null.fileno(), 1)
            os.dup2(null.fileno(), 2)
        from jaxft.cli.main import main as jaxft_main

        code = jaxft_main(line)
        _finish_saving()  # as a process does that is not a fork
        return code

    return forked(work)


def _finish_saving() -> None:
    from jaxft.checkpoint import store

    store.finish_saving()


def ended(number: int, timeout_s: float = TIMEOUT_S) -> int:
    """Exit code of a process, negative for a signal; kills one that does not end."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        pid, status = os.waitpid(number, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(number, signal.SIGKILL)
    os.waitpid(number, 0)
    raise SystemExit(f"a process did not end within {timeout_s:.0f} s")


def is_alive(number: int) -> bool:
    """Whether a child runs; one that has ended stays to be waited for."""
    return os.waitid(os.P_PID, number, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def wait_until_under_way(number: int, out: Path) -> None:
    """Until the process has logged a step, or ended."""
    before = (0, 0)
    while is_alive(number):
        with contextlib.suppress(FileNotFoundError):
            status = (out / "metrics.jsonl").stat()
            now = (status.st_ino, status.st_size)  # going on begins with a new file
            grown = now[0] == before[0] and now[1] > before[1] > 0
            if grown and '"train"' in (out / "metrics.jsonl").read_text():
                return
            before = now
        time.sleep(0.001)


def moment(out: Path) -> str:
    """What a dead process was at, as its folder tells."""
    names = [path.name for path in (out / "checkpoints").iterdir()] if (out / "checkpoints").is_dir() else []
    if any(name.startswith(".deleting") for name in names):
        return "prune"
    if any(name.startswith(".writing") for name in names):
        return "save"
    if (out / "model").is_dir():
        return "export"
    if not (out / "metrics.jsonl").is_file():
        return "start"
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines() if line.endswith("}")]
    steps = [record["step"] for record in records if record["kind"] == "train"]
    return "step" if steps else "before the first step"


# --- what must agree -------------------------------------------------------------------------------------------------


def facts(out: Path) -> dict[str, Any]:
    """Of a finished run: hash of the parameters, of the last checkpoint, and what each record says. Read in a process
    of its own, since reading starts threads."""
    path = out / "facts.json"
    if ended(forked(lambda: path.write_text(json.dumps(_facts(out))) == 0)) != DONE:
        raise SystemExit(f"{out} cannot be read")
    return json.loads(path.read_text())


def _facts(out: Path) -> dict[str, Any]:
    from jaxft.checkpoint.store import Store

    store = Store(out / "checkpoints")
    saved = store.load(store.steps()[-1])
    digest = hashlib.sha256()
    for name, array in sorted(saved.arrays.items()):
        digest.update(name.encode() + array.tobytes())
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return {
        "params_sha256": json.loads((out / "report.json").read_text())["params_sha256"],
        "state_sha256": f"step {saved.step} {digest.hexdigest()}",
        "records": records,
        "tokens": json.loads((out / "report.json").read_text())["tokens"],
    }


def differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """What of a run is not as in the one that was left alone."""
    return [f"{name} differs" for name in expected if found[name] != expected[name]]


# --- the two kinds of disturbance ------------------------------------------------------------------------------------


def kill(folder: Path, line: list[str], out: Path, most: int, chance: random.Random, outcome: Outcome) -> None:
    """Kills a run, up to `most` times, each time a random while after it has gone on, until it ends by itself."""
    killed = 0
    while True:
        number = start(line)
        if killed < most:
            if chance.random() < 0.1:
                time.sleep(chance.uniform(0.0, START_S))
            else:
                wait_until_under_way(number, out)
                time.sleep(chance.expovariate(1 / MEAN_WAIT_S))
            if is_alive(number):
                os.kill(number, signal.SIGKILL)
                killed += 1
        code = ended(number)
        if code == DONE:
            break
        if code != -signal.SIGKILL:
            outcome.wrong.append(f"exit code {code} after {killed} kills")
            break
        outcome.signals += 1
        outcome.moments[moment(out)] += 1


def term(folder: Path, line: list[str], out: Path, most: int, chance: random.Random, outcome: Outcome) -> None:
    """Sends SIGTERM any time after the start; the process must end by itself, and with 143 once it trains."""
    sent = 0
    while True:
        number = start(line)
        if sent < most:
            time.sleep(chance.uniform(0.0, START_S))
            if is_alive(number):
                os.kill(number, signal.SIGTERM)
                sent += 1
                code = ended(number)
                outcome.signals += code != DONE
                if code == 128 + signal.SIGTERM:
                    outcome.moments["saved, exit code 143"] += 1
                elif code == -signal.SIGTERM:
                    outcome.moments[f"ended at once ({moment(out)})"] += 1
                elif code != DONE:
                    outcome.wrong.append(f"exit code {code} after SIGTERM")
                    return
                if code != DONE:
                    continue
                return
        if ended(number) != DONE:
            outcome.wrong.append("did not go on after SIGTERM")
        return


def disturb(kind: Any, wanted: int, folder: Path, model: Path, data: Path, seed: int, each: int) -> Outcome:
    """Disturbs runs until so many signals were sent; compares each with the undisturbed one."""
    expected = undisturbed(folder, model, data)
    outcome, chance = Outcome(), random.Random(seed)
    while outcome.signals < wanted and len(outcome.wrong) < 5:
        name = f"run{seed}"
        out = folder / name
        shutil.rmtree(out, ignore_errors=True)
        kind(folder, recipe(folder, model, data, name), out, min(each, wanted - outcome.signals), chance, outcome)
        outcome.runs += 1
        if (out / "report.json").is_file():
            outcome.wrong += differences(facts(out), expected)
        print(f"{kind.__name__}: {outcome.signals} of {wanted} in {outcome.runs} runs", outcome.wrong, flush=True)
    return outcome


def undisturbed(folder: Path, model: Path, data: Path) -> dict[str, Any]:
    """The facts of a run that is left alone, made once."""
    out = folder / "alone"
    if not out.is_dir() and ended(start(recipe(folder, model, data, "alone"))) != DONE:
        raise SystemExit("the undisturbed run failed")
    return facts(out)


def prepare(folder: Path) -> tuple[Path, Path]:
    """A BERT of width 32 drawn at random, with MiniLM's tokenizer; 200 text messages."""
    from jaxft import assets, prng
    from jaxft.model import folder as model_folder
    from jaxft.model.config import BertConfig
    from jaxft.model.initial import initialise

    model, minilm = folder / "model", assets.fetch("minilm")
    model.mkdir()

    def draw() -> int:
        config = BertConfig(30522, 32, 2, 4, 64, max_position_embeddings=64, initializer_range=0.2)
        params = initialise(config, "none", 0, prng.stream("init", 0))
        model_folder.save(model, config, params, "none", (), False)
        model_folder.copy_tokenizer(minilm, model)
        return DONE

    if ended(forked(draw)) != DONE:  # drawing starts a backend, which forked processes must not inherit
        raise SystemExit("the model could not be drawn")
    data = folder / "messages.csv"
    lines = assets.splits("sms_spam")["train"].read_text("utf-8").splitlines(keepends=True)
    data.write_text("".join(lines[:201]), "utf-8")
    return model, data


def warm_up() -> None:
    """Imports what a run imports, and starts no backend and no thread."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("MPLBACKEND", "agg")
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # NumPy's threads would not survive a fork
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    import matplotlib.pyplot  # noqa: F401
    import orbax.checkpoint  # noqa: F401
    import seqeval.metrics  # noqa: F401
    import sklearn.metrics  # noqa: F401
    import transformers  # noqa: F401

    import jaxft.cli.train
    import jaxft.train.run  # noqa: F401


# --- the report ------------------------------------------------------------------------------------------------------


def report(outcomes: dict[str, Outcome]) -> str:
    """The table, and the verdict."""
    import tables
    from peers import machine

    head = ["signal", "sent", "runs", "ended otherwise than the undisturbed run", "where it met the process"]
    rows = [
        [name, str(found.signals), str(found.runs), "; ".join(found.wrong) or "0", _listed(found.moments)]
        for name, found in outcomes.items()
    ]
    good = all(not found.wrong for found in outcomes.values())
    verdict = "Every run went on and ended on the same hashes and records." if good else "**Some runs did not repeat.**"
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions("jax", "orbax-checkpoint").items())
    return "\n\n".join([verdict, tables.markdown(head, rows), f"{machine.cpu()}, {machine.today()}, {versions}"])


def _listed(moments: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in moments.most_common())


def disturbed(options: argparse.Namespace) -> dict[str, Outcome]:
    """Signal -> what became of the runs it was sent to."""
    warm_up()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, data = prepare(folder)
        wanted = {"SIGKILL": (kill, options.kills), "SIGTERM": (term, options.terms)}
        return {
            signal_name: disturb(kind, count, folder, model, data, options.seed + at, options.each)
            for at, (signal_name, (kind, count)) in enumerate(wanted.items())
            if count
        }


def shared_out(options: argparse.Namespace) -> dict[str, Outcome]:
    """The same, by several processes side by side, each with seeds and a share of its own."""
    with tempfile.TemporaryDirectory() as name:
        folders = [Path(name) / str(job) for job in range(options.jobs)]
        workers = []
        for job, folder in enumerate(folders):
            folder.mkdir()
            shares = [count // options.jobs + (job < count % options.jobs) for count in (options.kills, options.terms)]
            words = [
                "--kills",
                shares[0],
                "--terms",
                shares[1],
                "--each",
                options.each,
                "--seed",
                options.seed + 2 * job,
            ]
            command = [sys.executable, __file__, *map(str, words), "--results", str(folder)]
            workers.append(subprocess.Popen(command))
        for worker in workers:
            worker.wait()
        trees = [json.loads((folder / "crashes.json").read_text()) for folder in folders]
    return {
        name: Outcome(
            sum(tree[name]["runs"] for tree in trees),
            sum(tree[name]["signals"] for tree in trees),
            sum((Counter(tree[name]["moments"]) for tree in trees), Counter()),
            [line for tree in trees for line in tree[name]["wrong"]],
        )
        for name in trees[0]
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--terms", type=int, default=100)
    parser.add_argument("--each", type=int, default=10, help="most signals a run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="processes side by side")
    parser.add_argument("--results", type=Path, help="folder for the results (default: results/, and README.md)")
    options = parser.parse_args()
    outcomes = disturbed(options) if options.jobs == 1 else shared_out(options)
    text = report(outcomes)
    print(text)
    import tables

    results = options.results or tables.RESULTS
    (results / "crashes.md").write_text(text + "\n", "utf-8")
    tree = {name: vars(found) for name, found in outcomes.items()}
    (results / "crashes.json").write_text(json.dumps(tree, indent=1) + "\n", "utf-8")
    if options.results is None:
        tables.fill("crashes", text)
    sys.exit(any(found.wrong for found in outcomes.values()))


if __name__ == "__main__":
    main()
