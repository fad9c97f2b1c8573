"""`jaxft verify RUN [--steps a:b]`: replays a run and compares hashes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import tyro

from jaxft import arguments
from jaxft.errors import UserError
from jaxft.report.run_folder import RunFolder

HELP = "replays a run, or some of its steps, and compares the results to the bit"


@dataclass(frozen=True)
class Verify:
    """Replays a run and compares every recorded step, and the exported parameters, to the bit.

    Exit code 0 if all is equal, 1 if not: then the first step that differs is named, and what changed since the run.
    """

    run: tyro.conf.Positional[str]
    """The run folder."""
    steps: str = ""
    """first:last, counted from 1, such as 100:120; the replay starts at the checkpoint before, of reinforcement
    learning always at the beginning. Empty: the whole run."""
    devices: int | None = None
    """Compute on so many devices; the bits are the same on any number that divides train.micro_batches. None: as the
    recipe says."""
    quiet: bool = False
    """Show no progress."""


def main(argv: Sequence[str]) -> int:
    """Runs the command; 0 if the run repeats, 1 if it does not. Raises UserError."""
    args = arguments.parse(Verify, argv, "jaxft verify")
    first, last = _range(args.steps)
    folder = RunFolder(args.run)
    if _learns_by_reinforcement(folder):
        from jaxft.rl.repeat import replay

        unit = "records "
    else:
        from jaxft.train.replay import replay

        unit = ""
    found = replay(folder, first, last, devices=args.devices, quiet=args.quiet)
    if not (found.compared or found.params):
        fix = "other steps, or none for the whole run; `train.log_every` says how many are recorded"
        raise UserError("--steps", f"the run recorded none of the steps {first} to {found.last}", fix)
    for note in found.notes:
        print(f"warning: {note}")
    steps = f"steps {found.first:,} to {found.last:,} replayed, {found.compared:,} {unit}compared"
    if not found.difference:
        params = "; the parameters have the sha256 of report.json" if found.params else ""
        print(f"equal: {steps}{params}")
        return 0
    print(f"different: {steps}; {found.difference}")
    if found.environment:
        print("what changed since the run:", *found.environment, sep="\n  ")
    else:
        print("nothing that env.json tells changed since the run")
    return 1


def _learns_by_reinforcement(folder: RunFolder) -> bool:
    """Whether the run's recipe has a section `rl`, as `jaxft rl` writes it."""
    try:
        return any(line.startswith("rl:") for line in folder.recipe.read_text("utf-8").splitlines())
    except (OSError, ValueError):
        return False


def _range(text: str) -> tuple[int, int | None]:
    if not text:
        return 1, None
    match = re.fullmatch(r"(\d*):(\d*)", text)
    if match is None:
        raise UserError("--steps", f"expected first:last, such as 100:120, came {text!r}")
    first, last = match.groups()
    return int(first or 1), int(last) if last else None
