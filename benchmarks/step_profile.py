"""Where does the time of a training step go? Device time by part of the network, from JAX's profiler.

    python benchmarks/step_profile.py --dtype bf16

Profiles jaxft's own steps on CoNLL-2003 (the worker of `finetune.py`) in their most frequent shape, and writes the
block `profile` of README.md. On CPU the time of an operation is summed over the threads that run it, as far as the
profiler sees them, so only shares are given.
"""

from __future__ import annotations

import argparse
import importlib
import re
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import jax
import tables
from peers import conll, machine

from jaxft import allocator

sys.path.insert(0, str(Path(__file__).parent / "peers"))  # where workers find one another, being started as scripts
jaxft_worker: Any = importlib.import_module("jaxft_worker")

PARTS = (  # name, what the operation's path in the network holds; the first that fits counts
    ("optimiser: clipping, AdamW", r"/optimiser/"),
    ("gradients put together by layer", r"/(concatenate|pad|dynamic_update_slice)$"),
    ("word, position, type embeddings", r"/embeddings/|jit\(_take\)|bln,nd"),
    ("dense layers: products", r"/dense/.*dot_general$"),
    ("dense layers: operands made (gelu, dropout, rounding in one), bias gradients", r"/dense/"),
    ("attention: products", r"/attention/.*dot_general$"),
    ("attention: softmax, mask, dropout, layout", r"/attention/"),
    ("layer normalisation", r"_norm/"),
    ("residual sums, hidden dropout", r"/dropout/|/(add|add_any|select_n)$"),
    ("gelu, what of it stands alone", r"/(erf|exp|mul|integer_pow)$"),
)
REST = "the rest"


def main() -> None:
    options = arguments()
    allocator.tune()
    trainer = jaxft_worker.Trainer(jaxft_worker.conll_recipe(options))
    shapes = Counter(batch.shape for batch in map(trainer.make, range(200)))
    shape = shapes.most_common(1)[0][0]
    batches = [batch for batch in map(trainer.make, range(10 * options.steps)) if batch.shape == shape][: options.steps]
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for batch in batches:
                jax.block_until_ready(trainer.step(batch))
        spent = by_operation(next(Path(folder).rglob("*.xplane.pb")))
    paths = operation_paths(trainer.compiled.text(shape))
    shares: Counter[str] = Counter()
    for operation, seconds in spent.items():
        name = part(paths.get(operation, ""))
        shares[name] += seconds
        if options.rest and name == REST:
            print(f"{seconds:.4f} {operation} {paths.get(operation)}")
    text = report(shares, shape, trainer.device_name(), options)
    print(text)
    tables.fill("profile", text)


def by_operation(path: Path) -> Counter[str]:
    """HLO operation -> seconds."""
    spent: Counter[str] = Counter()
    for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
        for line in plane.lines:
            for event in line.events:
                name = dict(event.stats).get("hlo_op")
                if name is not None:
                    spent[str(name)] += event.duration_ns / 1e9
    return spent


def operation_paths(program: str) -> dict[str, str]:
    """HLO operation -> its path in the network, such as jit(step)/transpose(jvp(Bert))/.../dense/dot_general."""
    found = (re.match(r'\s*(?:ROOT )?%?([\w.\-]+) = .*op_name="([^"]*)"', line) for line in program.splitlines())
    return {match[1]: match[2] for match in found if match}


def part(path: str) -> str:
    """The part of `PARTS` that an operation's path belongs to."""
    return next((name for name, pattern in PARTS if re.search(pattern, path)), REST)


def report(shares: Counter[str], shape: tuple[int, ...], device: str, options: argparse.Namespace) -> str:
    total = sum(shares.values())
    rows = [[name, f"{value / total:.0%}"] for name, value in shares.most_common()]
    command = machine.command("step_profile.py", sys.argv[1:])
    head = f"{device}, {machine.today()}, `{command}`: {options.steps} steps in {options.dtype}, "
    head += f"{shape[1]} x {shape[2]} tokens each."
    return f"{head}\n\n{tables.markdown(['part of a step', 'share of device time'], rows)}"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    conll.add_folders(parser)
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="bf16")
    parser.add_argument("--numerics", choices=["canonical", "fast"], default="canonical")
    parser.add_argument("--packing", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rest", action="store_true", help="also print the operations that belong to no part")
    return parser.parse_args()


if __name__ == "__main__":
    main()
