"""`jaxft COMMAND ...`: finds the command's file, runs it, and turns what went wrong into an exit code.

A command is a file of this folder with `HELP` (one line) and `main(argv) -> exit code`. Only the chosen one is
imported; the list of commands is read off the sources, so that `jaxft --help` answers at once.

Exit codes: 0 done; 2 the user can mend it (one line a problem on standard error); 130 interrupted (143: by SIGTERM); 1
`jaxft verify` found a difference, or anything else, with a traceback, since that is a defect.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import os
import signal
import sys
from pathlib import Path

from jaxft import allocator
from jaxft.errors import UserError

ORDER = (
    "demo",
    "init",
    "check",
    "train",
    "verify",
    "eval",
    "predict",
    "explore",
    "rl",
    "compare",
    "assets",
    "convert",
    "env",
)
"""How `jaxft --help` lists commands; others follow by name."""

COMPUTING = ("demo", "train", "eval", "predict", "verify", "explore", "rl", "compare")
"""Commands that run a model."""


def main(argv: list[str] | None = None) -> int:
    """Runs one command line (without the program's name) and returns the exit code."""
    # `transformers`, used for its tokenizers, would advise to install PyTorch.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    if argv is None:
        argv = sys.argv[1:]
        if argv and argv[0] in COMPUTING:
            allocator.tune()
    try:
        code = _dispatch(argv)
        sys.stdout.flush()
        return code
    except UserError as error:
        print_problems(error)
        return 2
    except KeyboardInterrupt as interrupt:
        print(str(interrupt) or "interrupted", file=sys.stderr)
        return 128 + getattr(interrupt, "number", signal.SIGINT)
    except BrokenPipeError:
        # The reader of standard output left (`jaxft ... | head`). Python would complain once more when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def commands() -> dict[str, str]:
    """Command -> its line of help."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        line = _help_line(path)
        if line is not None:
            found[path.stem.rstrip("_").replace("_", "-")] = line
    first = [name for name in ORDER if name in found]
    return {name: found[name] for name in [*first, *(name for name in found if name not in first)]}


def _help_line(path: Path) -> str | None:
    """The constant HELP of a source file, read without importing the file."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and [getattr(target, "id", "") for target in node.targets] == ["HELP"]:
            return ast.literal_eval(node.value)
    return None


def _dispatch(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0
    if argv[0] in ("-V", "--version"):
        import jaxft

        print(f"jaxft {jaxft.__version__}")
        return 0
    known = commands()
    if argv[0] not in known:
        near = difflib.get_close_matches(argv[0], known, n=1)
        fix = f"did you mean `jaxft {near[0]}`?" if near else f"commands: {', '.join(known)}"
        raise UserError(f"jaxft {argv[0]}", "no such command", fix)
    module = importlib.import_module(f"jaxft.cli.{argv[0].replace('-', '_')}")
    try:
        return int(module.main(argv[1:]) or 0)
    except SystemExit as exit:  # the argument parser's: 0 after --help, 2 after a bad argument
        return exit.code if isinstance(exit.code, int) else int(exit.code is not None)


def _overview() -> str:
    known = commands()
    width = max(map(len, known))
    lines = [f"  {name:<{width}}  {line}" for name, line in known.items()]
    return "\n".join(
        ["usage: jaxft COMMAND ...", "", "Fine-tunes BERT-family encoders in JAX.", "", *lines, ""]
        + ["`jaxft COMMAND --help` tells more. New here: `jaxft demo`."]
    )


def print_problems(error: UserError) -> None:
    """One line a problem on standard error: where, what, fix."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, soft_wrap=True, highlight=False)
    for problem in error.problems:
        console.print(Text.assemble(("error: ", "bold red"), str(problem)))


if __name__ == "__main__":
    sys.exit(main())
