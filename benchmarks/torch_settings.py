"""Which settings make PyTorch `transformers` fastest here? Measures them in turn on the length-grouped CoNLL batches.

    python benchmarks/torch_settings.py

`finetune.py` takes its PyTorch peers from what this shows. Writes results/torch_settings_DEVICE.json and the block of
README.md. Leaves out settings that train another model, such as parameters in bf16.
"""

from __future__ import annotations

import argparse
import json
import sys

import interleave
import tables
from peers import conll, machine

from jaxft import allocator

TUNED = allocator.tuned_environment({}) or {}  # which jaxft sets for itself: freed memory is kept, in huge pages
HUGE = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
THP = {"THP_MEM_ALLOC_ENABLE": "1"}  # PyTorch's own switch for huge pages
SETTINGS: dict[str, tuple[str, dict[str, str]]] = {
    "f32, sdpa": ("", {}),
    "f32, sdpa, plain AdamW": ("--no-fused", {}),
    "f32, sdpa, torch.compile": ("--compile", {}),
    "f32, sdpa, medium matmul": ("--matmul medium", {}),
    "f32, eager attention": ("--attention eager", {}),
    "f32, eager attention, jaxft's allocator settings": ("--attention eager", TUNED),
    "f32, eager attention, huge pages": ("--attention eager", HUGE),
    "f32, eager attention, THP_MEM_ALLOC_ENABLE": ("--attention eager", THP),
    "bf16, sdpa": ("--dtype bf16", {}),
    "bf16, sdpa, jaxft's allocator settings": ("--dtype bf16", TUNED),
    "bf16, sdpa, torch.compile": ("--dtype bf16 --compile", {}),
    "bf16, eager attention": ("--dtype bf16 --attention eager", {}),
    "bf16, eager attention, jaxft's allocator settings": ("--dtype bf16 --attention eager", TUNED),
    "bf16, eager attention, huge pages": ("--dtype bf16 --attention eager", HUGE),
    "bf16, eager attention, THP_MEM_ALLOC_ENABLE": ("--dtype bf16 --attention eager", THP),
}


def main() -> None:
    options = arguments()
    data, model = conll.folders(options)
    names = [name for name in SETTINGS if options.only is None or any(part in name for part in options.only)]
    entries: dict[str, interleave.Entry] = {}
    for dtype in ("f32", "bf16"):  # a race of its own each: all at once need 30 GiB
        entries |= interleave.measure(
            [peer(name) for name in names if name.startswith(dtype)],
            ("--data", str(data), "--model", str(model)),
            rounds=options.rounds,
            steps=options.steps,
            warm_up=options.warm_up,
            max_busy=options.max_busy,
            say=interleave.say,
        )
    record = {
        "command": machine.command("torch_settings.py", sys.argv[1:]),
        "device": machine.gpu() or machine.cpu(),
        "date": machine.today(),
        "load_average": machine.load(),
        "entries": {name: entry.tree() for name, entry in entries.items()},
    }
    path = tables.RESULTS / f"torch_settings_{machine.slug(record['device'])}.json"
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(table(record))
    tables.fill("torch-settings", table(record))


def peer(name: str) -> interleave.Peer:
    """The PyTorch peer in a named setting."""
    arguments, environment = SETTINGS[name]
    arguments = ("--grouping", "length", *arguments.split())
    return interleave.Peer(name, "torch_transformers.py", arguments, environment=environment)


def table(record: dict) -> str:
    """The settings, fastest first."""
    present = {name: entry for name, entry in record["entries"].items() if "absent" not in entry}
    rows = [
        [
            name,
            tables.spread(entry["real_tokens_per_s"]),
            f"{entry['cpu_s_per_1000_real_tokens']:.2f}",
            f"{entry['peak_memory_mb']:,.0f}",
        ]
        for name, entry in sorted(present.items(), key=lambda item: -item[1]["real_tokens_per_s"]["median"])
    ]
    missing = {name: entry for name, entry in record["entries"].items() if name not in present}
    rows += [[name, f"absent: {entry['absent']}", "—", "—"] for name, entry in missing.items()]
    head = ["PyTorch setting", "real tokens/s: median (min–max)", interleave.CPU, "peak memory, MiB"]
    told = f"{record['device']}, {record['date']}, `{record['command']}`. {interleave.contention(record['entries'])}"
    return f"{told}\n\n{tables.markdown(head, rows)}"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    conll.add_folders(parser)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=6, help="steps of each peer in each round")
    parser.add_argument("--warm-up", type=int, default=4, help="steps before the first round")
    parser.add_argument("--max-busy", type=float, default=0.15, help=interleave.MAX_BUSY)
    parser.add_argument("--only", nargs="+", help="settings whose name contains any of these")
    return parser.parse_args()


if __name__ == "__main__":
    main()
