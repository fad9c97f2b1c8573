"""How fast does jaxft fine-tune, beside PyTorch `transformers` and Flax BERT of `transformers` 4, on this machine?

    python benchmarks/finetune.py                      # every peer; f32 and bf16
    python benchmarks/finetune.py --peers jaxft,torch --dtype f32 --rounds 4

All train MiniLM on CoNLL-2003, 32 sentences a step, in turn (see `interleave.py`). A rate is real tokens, padding not
counted, a second; it includes batching (or packing) of tokenised sentences and the copy to the device, and excludes
tokenisation and compilation. Writes results/finetune_DEVICE.json and its block of README.md. A peer that cannot run
here is listed as absent, with the reason.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import environments
import interleave
import tables
from interleave import Entry, Peer, say
from peers import conll, machine

from jaxft import allocator

NAMES = ("jaxft", "torch", "torch_compile", "torch_pad128", "flax_v4")
TORCH_BEST = {"cpu": ("--attention", "eager"), "gpu": ("--attention", "sdpa")}  # as torch_settings.py found
TORCH_ENVIRONMENT = allocator.tuned_environment({}) or {}  # which jaxft sets for itself; not in the tutorials' program
DTYPES = ("f32", "bf16")
RIVALS = {
    "best PyTorch": ("torch", "torch_compile"),
    "best PyTorch padded to 128": ("torch_pad128",),
    "best Flax v4": ("flax_v4",),
}


def peers_of(options: argparse.Namespace, on_gpu: bool) -> tuple[list[Peer], dict[str, Entry]]:
    """The peers to start, and the entries of those that cannot even be set up."""
    dtypes = DTYPES if options.dtype == "both" else (options.dtype,)
    peers, absent = [], {}
    for name in options.peers:
        python: Path | str = sys.executable
        try:
            if name == "flax_v4":
                python = environments.flax_v4(on_gpu, say)
            peers += [peer(name, dtype, on_gpu, python, options) for dtype in dtypes]
        except subprocess.CalledProcessError as error:
            last = (error.stderr or error.stdout or str(error)).strip().splitlines()[-1]
            reason = machine.without_places(f"no environment: {last}")
            say(f"{name}: absent: {reason}")
            entries = [Entry(Peer(f"{name} {dtype}", ""), absent=reason) for dtype in dtypes]
            absent |= {entry.peer.name: entry for entry in entries}
    return peers, absent


def peer(name: str, dtype: str, on_gpu: bool, python: Path | str, options: argparse.Namespace) -> Peer:
    """One peer at one dtype. On a CPU those padded to 128 take a quarter of the steps: theirs all cost the same."""
    best = (*TORCH_BEST["gpu" if on_gpu else "cpu"], "--dtype", dtype)
    scripts = {
        "jaxft": ("jaxft_worker.py", ("--dtype", dtype, "--numerics", options.numerics)),
        "torch": ("torch_transformers.py", (*best, "--grouping", "length")),
        "torch_compile": ("torch_transformers.py", (*best, "--grouping", "length", "--compile")),
        "torch_pad128": ("torch_transformers.py", ("--dtype", dtype, "--grouping", "pad128")),
        "flax_v4": ("flax_v4.py", ("--dtype", dtype)),
    }
    share = 0.25 if name in ("torch_pad128", "flax_v4") and not on_gpu else 1.0
    variables = TORCH_ENVIRONMENT if name in ("torch", "torch_compile") else {}
    return Peer(f"{name} {dtype}", *scripts[name], python=python, share=share, environment=variables)


def compare(entries: dict[str, Entry]) -> dict[str, dict[str, float] | None]:
    """Ratios of real tokens a second: jaxft over each peer of its dtype, and best jaxft over best PyTorch."""
    found: dict[str, dict[str, float] | None] = {}
    for name, entry in entries.items():
        program, dtype = name.split()
        ours = entries.get(f"jaxft {dtype}")
        if program != "jaxft" and ours:
            found[f"jaxft {dtype} / {name}"] = interleave.ratios(ours, entry)
    ours = best(entries, "jaxft")
    for title, programs in RIVALS.items():
        theirs = best(entries, *programs)
        if ours and theirs:
            found[f"best jaxft ({ours.peer.name}) / {title} ({theirs.peer.name})"] = interleave.ratios(ours, theirs)
    return found


def best(entries: dict[str, Entry], *programs: str) -> Entry | None:
    """The fastest entry of these programs, by median; none if all are absent."""
    present = [entry for name, entry in entries.items() if name.split()[0] in programs and entry.absent is None]
    return max(present, key=lambda entry: interleave.spread(entry.rates)["median"], default=None)


def main() -> None:
    options = arguments()
    on_gpu = machine.gpu() is not None
    data, model = conll.folders(options)
    peers, entries = peers_of(options, on_gpu)
    load = machine.load()
    entries |= interleave.measure(
        peers,
        ("--data", str(data), "--model", str(model)),
        rounds=options.rounds,
        steps=options.steps or (100 if on_gpu else 12),
        warm_up=options.warm_up or (60 if on_gpu else 8),
        max_busy=options.max_busy,
        say=say,
    )
    record = {
        "command": machine.command("finetune.py", sys.argv[1:]),
        "device": machine.gpu() or machine.cpu(),
        "date": machine.today(),
        "load_average": load,
        "ratios": compare(entries),
        "entries": {name: entry.tree() for name, entry in entries.items()},
    }
    path = options.out or tables.RESULTS / f"finetune_{machine.slug(record['device'])}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(report(record))
    if not options.out:
        tables.fill("finetune", report(record))


def report(record: dict) -> str:
    """The record as Markdown: rates and memory, then ratios, then versions."""
    head = ["program", "real tokens/s: median (min–max)", "real share", interleave.CPU, "peak memory, MiB", "setting"]
    rows = [row(name, entry, record["device"]) for name, entry in record["entries"].items()]
    ratios = [[name, tables.spread(value, 2)] for name, value in record["ratios"].items()]
    parts = [
        f"{record['device']}, {record['date']}, `{record['command']}`. {interleave.contention(record['entries'])}",
        tables.markdown(head, rows),
        tables.markdown(["ratio of real tokens/s, within a round", "median (min–max)"], ratios) if ratios else "",
        versions(record["entries"]),
    ]
    return "\n\n".join(part for part in parts if part)


def row(name: str, entry: dict, device: str) -> list[str]:
    """One program's line; says so where it ran on another device than the machine's fastest."""
    if "absent" in entry:
        return [name, "absent", "—", "—", "—", entry["absent"].replace("|", "\\|")]
    elsewhere = f" **on {entry['device']}**" if entry["device"] != device else ""
    memory = f"{entry['peak_memory_mb']:,.0f}"
    if entry["peak_device_mb"]:
        memory += f" + {entry['peak_device_mb']:,.0f} on device"
    rate = tables.spread(entry["real_tokens_per_s"])
    shares = [f"{entry['real_share']:.0%}", f"{entry['cpu_s_per_1000_real_tokens']:.2f}"]
    return [name, rate, *shares, memory, entry["setting"] + elsewhere]


def versions(entries: dict[str, dict]) -> str:
    """One line a distinct set of versions."""
    sets: dict[str, list[str]] = {}
    for name, entry in entries.items():
        if "versions" in entry:
            text = ", ".join(f"{package} {version}" for package, version in entry["versions"].items())
            sets.setdefault(text, []).append(name.split()[0])
    return "\n".join(f"- {', '.join(dict.fromkeys(names))}: {text}" for text, names in sets.items())


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    conll.add_folders(parser)
    parser.add_argument("--peers", type=lambda text: text.split(","), help=f"of {','.join(NAMES)}")
    parser.add_argument("--dtype", choices=[*DTYPES, "both"], default="both")
    parser.add_argument("--numerics", choices=["canonical", "fast"], default="canonical", help="of jaxft")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--steps", type=int, help="steps of each peer in each round (default: 12; GPU: 100)")
    parser.add_argument("--warm-up", type=int, help="steps before the first round (default: 8; GPU: 60)")
    parser.add_argument("--max-busy", type=float, default=0.15, help=interleave.MAX_BUSY)
    parser.add_argument("--out", type=Path, help="result file; README.md then stays as it is")
    options = parser.parse_args()
    options.peers = options.peers or [name for name in NAMES if name != "torch_compile" or machine.gpu()]
    unknown = sorted(set(options.peers) - set(NAMES))
    if unknown:
        parser.error(f"--peers: unknown {', '.join(unknown)}; known: {', '.join(NAMES)}")
    return options


if __name__ == "__main__":
    main()
