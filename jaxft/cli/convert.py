"""`jaxft convert`: an old or unusual BERT checkpoint becomes a model folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.markup import escape

from jaxft.model.folder import convert

HELP = "turn flax_model.msgpack, sharded, half-precision or old-spelling BERT weights into a model folder"


@dataclass(frozen=True)
class Convert:
    """Writes config.json, model.safetensors (f32, today's names) and the tokenizer's files."""

    source: tyro.conf.Positional[Path]
    """Folder with config.json and the weights, or a .msgpack or .safetensors file with config.json beside it."""
    out: tyro.conf.Positional[Path]
    """Folder to write."""
    head: Annotated[Literal["none", "classify", "tag", "mlm", "nsp", "pretrain"] | None, tyro.conf.arg()] = None
    """Which head to keep; default: by the class named in config.json."""
    assume_bert: bool = False
    """Read a config.json without `model_type` (written before that key existed) as BERT."""


def main(argv: Sequence[str]) -> int:
    """Runs the command; 0 on success. Raises UserError."""
    args = tyro.cli(Convert, prog="jaxft convert", description=HELP, args=list(argv))
    head, report = convert(args.source, args.out, args.head, assume_bert=args.assume_bert)
    console = Console()
    console.print(f"head {head}: wrote {escape(str(args.out))}")
    if report.extra:
        console.print(f"not used: {escape(', '.join(report.extra))}")
    return 0
