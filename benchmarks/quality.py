"""Does jaxft reach the scores of PyTorch `transformers` with the same recipe? Entity F1 on CoNLL-2003, seed by seed.

    python benchmarks/quality.py                  # trains both with seeds 0 1 2 (hours on a CPU)
    python benchmarks/quality.py --reuse          # trains only the seeds that results/ lacks
    python benchmarks/quality.py --peers jaxft    # trains jaxft anew, takes PyTorch's scores from results/

jaxft runs by its command line on the shipped recipe `conll2003`; PyTorch by peers/torch_transformers.py. Writes
results/quality_jaxft.json, results/quality_torch.json and the block of README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import tables
from interleave import say
from peers import conll, machine

ALLOWED_LOSS = 0.3  # points of test F1 that jaxft may lie below PyTorch
PEERS = ("jaxft", "torch")


def stored(peer: str) -> Path:
    """The result file of a peer."""
    return tables.RESULTS / f"quality_{peer}.json"


def load(peer: str) -> dict:
    """A peer's results so far; no runs where there are none."""
    return json.loads(stored(peer).read_text()) if stored(peer).exists() else {"runs": []}


def save(peer: str, record: dict) -> None:
    """Writes a peer's results, runs in the order of their seeds."""
    record["runs"].sort(key=lambda run: run["seed"])
    stored(peer).write_text(json.dumps(record, indent=2) + "\n")


def missing(peer: str, options: argparse.Namespace) -> list[int]:
    """The seeds that are to be trained."""
    if peer not in options.peers:
        return []
    done = {run["seed"] for run in load(peer)["runs"]} if options.reuse else set()
    return [seed for seed in options.seeds if seed not in done]


def run_jaxft(seed: int, options: argparse.Namespace) -> dict:
    """Trains the recipe `conll2003` with one seed by the command line; its record of one run."""
    folder = options.runs / f"conll2003_seed{seed}"
    overrides = [*options.override, "--seed", str(seed), "--out", str(folder)]
    subprocess.run(
        [sys.executable, "-m", "jaxft.cli.main", "train", "conll2003", "--overwrite", *overrides], check=True
    )
    report = json.loads((folder / "report.json").read_text())
    names = ("steps", "best_step", "wall_s", "compile_s", "real_tokens_per_s", "numerics", "dtype", "params_sha256")
    run = {"seed": seed, "dev": report["dev"], "test": report["test"], **{name: report[name] for name in names}}
    packages = ("jaxft", "jax", "jaxlib", "flax", "optax", "transformers", "seqeval", "numpy")
    return {
        "peer": "jaxft",
        "command": " ".join(["jaxft train conll2003 --seed SEED", *options.override]),
        "versions": machine.versions(*packages),
        "device": machine.gpu() or machine.cpu(),
        "date": machine.today(),
        "runs": [run],
    }


def run_torch(seed: int, options: argparse.Namespace) -> dict:
    """Trains PyTorch with one seed; its record of one run."""
    data, model = conll.folders(options)
    out = options.runs / f"torch_seed{seed}.json"
    folders = ["--data", str(data), "--model", str(model)]
    script = Path(__file__).parent / "peers" / "torch_transformers.py"
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # see interleave.py
    command = [sys.executable, str(script), *folders, "--seed", str(seed), "--out", str(out)]
    subprocess.run(command, check=True, env=variables | {"HF_HUB_OFFLINE": "1"})
    return json.loads(out.read_text())


def train(options: argparse.Namespace) -> None:
    """Trains what is missing; the result files grow run by run."""
    trainers = {"jaxft": run_jaxft, "torch": run_torch}
    for peer in PEERS:
        for seed in missing(peer, options):
            say(f"{peer}: seed {seed}")
            record = trainers[peer](seed, options)
            record["runs"] += [run for run in load(peer)["runs"] if run["seed"] != seed]
            save(peer, record)


def report() -> str:
    """Both peers side by side, in points (100 = perfect), and whether jaxft is within ALLOWED_LOSS."""
    records = {peer: load(peer) for peer in PEERS}
    seeds = sorted({run["seed"] for record in records.values() for run in record["runs"]})
    head = ["entity F1, points", *(f"{peer} {split}" for split in ("dev", "test") for peer in PEERS)]
    columns = [scores(records[peer], split) for split in ("dev", "test") for peer in PEERS]
    rows = [[f"seed {seed}", *(f"{c[seed]:.2f}" if seed in c else "—" for c in columns)] for seed in seeds]
    rows.append(["mean ± standard deviation", *(mean_and_deviation(list(column.values())) for column in columns)])
    lines = [f"- {peer}: {source(record)}" for peer, record in records.items() if record["runs"]]
    return "\n\n".join([tables.markdown(head, rows), verdict(records), "\n".join(lines)])


def scores(record: dict, split: str) -> dict[int, float]:
    """Seed -> entity F1 in points."""
    return {run["seed"]: 100 * run[split]["f1"] for run in record["runs"]}


def mean_and_deviation(values: list[float]) -> str:
    if not values:
        return "—"
    deviation = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{deviation}"


def verdict(records: dict[str, dict]) -> str:
    """The difference of the test means, against what is allowed."""
    ours, theirs = (list(scores(records[peer], "test").values()) for peer in PEERS)
    if not ours or not theirs:
        return "Not every program has scores yet."
    difference = statistics.mean(ours) - statistics.mean(theirs)
    judged = "within" if difference >= -ALLOWED_LOSS else "**below**"
    counts = f"{len(ours)} and {len(theirs)} seeds"
    return f"jaxft − PyTorch on test: {difference:+.2f} points ({counts}), {judged} the limit of −{ALLOWED_LOSS}."


def source(record: dict) -> str:
    """Command, device, date and versions in one line."""
    versions = ", ".join(f"{package} {version}" for package, version in record["versions"].items())
    return f"`{record['command']}`, {record['device']}, {record['date']}, {versions}"


def main() -> None:
    options = arguments()
    options.runs.mkdir(parents=True, exist_ok=True)
    train(options)
    print(report())
    tables.fill("quality", report())


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    conll.add_folders(parser)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--peers", type=lambda text: text.split(","), default=list(PEERS), help="to train: jaxft,torch")
    parser.add_argument("--reuse", action="store_true", help="do not train seeds that results/ already has")
    parser.add_argument("--runs", type=Path, default=Path("runs/quality"), help="folder for the run folders")
    parser.add_argument("--override", nargs="+", default=[], help="recipe keys for jaxft, such as `dtype=bf16`")
    options = parser.parse_args()
    options.override = [
        part for pair in options.override for part in (f"--{pair.partition('=')[0]}", pair.partition("=")[2])
    ]
    return options


if __name__ == "__main__":
    main()
