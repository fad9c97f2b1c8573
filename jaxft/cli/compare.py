"""`jaxft compare RECIPE [--key value ...]`: reinforcement against supervised learning on one task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import tyro

from jaxft import overrides, recipes
from jaxft import recipe as recipe_module
from jaxft.rl.recipe import CompareRecipe

HELP = "runs supervised and reinforcement learning on one task and reports where each wins"


@dataclass(frozen=True)
class Compare(overrides.WithRecipe):
    """Runs every method of `compare.methods` at every rate of `compare.noise`, all seeds, with the same network, steps
    and updates. Every key can be overridden: --rl.seeds 3 --compare.noise 0.1
    """

    keys: Annotated[CompareRecipe, tyro.conf.arg(name=""), overrides.RECIPE_KEY] = field(  # type: ignore[assignment]
        default_factory=CompareRecipe
    )
    overwrite: bool = False
    """Replace the runs that are in the folder."""

    SHIPPED: ClassVar[str] = recipes.COMPARE


def main(argv: Sequence[str]) -> int:
    """Runs the command; 0 on success. Raises UserError."""
    args = overrides.parse(Compare, argv, "jaxft compare")
    recipe_module.check(args.keys)
    from jaxft.rl.compare import compare

    compare(args.keys, overwrite=args.overwrite)
    print(f"report: {args.keys.out}/compare.md")
    return 0
