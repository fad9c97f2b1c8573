"""The Python interface: train a recipe, load what came out, examine a recipe before.

    import jaxft
    result = jaxft.train("sms_spam")                        # a shipped recipe, a file, a dict, a Recipe
    labeller = jaxft.load("runs/sms_spam")                  # a run, a model folder, a hub id
    labeller.predict(["You won a prize! Call now"])         # [{"label": "spam", "probability": 0.99, ...}]

Names are those of the recipe and of the command line.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxft import recipe as recipes_
from jaxft import recipes
from jaxft.errors import Problems, UserError
from jaxft.recipe import Recipe

if TYPE_CHECKING:
    from jaxft.evaluate.labeller import Labeller
    from jaxft.explore.recipe import ExploreRecipe
    from jaxft.report.result import Result
    from jaxft.train.setup import Setup

MEMORY_SHARE = 0.9
"""Share of a device's memory from which a run is said to be too large."""

AnyRecipe = Recipe | str | Path | Mapping[str, Any]


class Examination(Problems):
    """What `examine` found: problems, warnings, and facts, name -> text."""

    def __init__(self) -> None:
        super().__init__()
        self.facts: dict[str, str] = {}


def train(recipe: AnyRecipe, *, overwrite: bool = False, quiet: bool = False) -> Result:
    """Trains, evaluates, and writes the run folder `recipe.out`; gives what report.json holds.

    recipe: the name of a shipped recipe, a file, a tree of dicts with the same keys, or a `Recipe`.
    overwrite: replaces the run that is in the folder. quiet: prints nothing.
    Raises UserError with all problems of recipe and data, before anything is written.
    """
    from jaxft.train.run import run

    return run(as_recipe(recipe), overwrite=overwrite, quiet=quiet)


def load(folder: str | Path, *, max_tokens: int | None = None, dtype: str = "auto") -> Labeller:
    """Opens a fine-tuned BERT: the folder of a run or of a model, or a hub id; see `Labeller`. Raises UserError."""
    from jaxft.evaluate.labeller import Labeller

    return Labeller(folder, max_tokens=max_tokens, dtype=dtype)


def examine(recipe: AnyRecipe) -> Examination:
    """Reads and checks recipe, data and model, and tokenises, as `train` would, but computes and writes nothing; also
    of an `ExploreRecipe`.

    Every problem is in the result; none is raised, but for a recipe that cannot be read.
    """
    from jaxft.explore.recipe import ExploreRecipe

    chosen, found = as_recipe(recipe), Examination()
    recipes_.check(chosen, found)
    if found.errors:  # data can only be looked at where the recipe makes sense
        return found
    try:
        if isinstance(chosen, ExploreRecipe):
            setup = _set_up_exploration(chosen, found)
        else:
            from jaxft.train.setup import set_up

            setup = set_up(chosen)
    except UserError as error:
        found.take(error)
        return found
    found.warnings.extend(setup.warnings)
    _add_facts(setup, found)
    return found


def _set_up_exploration(chosen: ExploreRecipe, found: Examination) -> Setup:
    from jaxft.explore.plan import plan
    from jaxft.explore.setup import set_up

    setup = set_up(chosen)
    sizes = plan(chosen, setup)
    what = f"{sizes.num_actions} strategies, {sizes.depth} segments of {sizes.segment_steps} steps"
    found.facts["search"] = f"{what}; {sizes.budget:,.0f} steps a searcher, a look is worth {sizes.score_steps:.1f}"
    return setup


def as_recipe(recipe: AnyRecipe) -> Recipe:
    """A recipe from any of its forms. Raises UserError; TypeError for anything else."""
    if isinstance(recipe, Recipe):
        return recipe
    if isinstance(recipe, str | Path):
        return recipes_.load(recipes.find(str(recipe)))
    if isinstance(recipe, Mapping):
        return recipes_.from_tree(dict(recipe))
    raise TypeError(f"expected a recipe's name, file, dict or Recipe, came {type(recipe).__name__}")


def _add_facts(setup: Setup, found: Examination) -> None:
    from jaxft.report.result import length_facts
    from jaxft.train import memory

    if set(setup.corpus.splits) == {"train"}:
        found.warn("data", "no dev and no test set: the model will not be scored", "set data.dev or data.test")
    splits, train_ = setup.corpus.splits, setup.recipe.train
    sizes = ", ".join(f"{name} {len(examples):,}" for name, examples in splits.items())
    found.facts["examples"] = f"{sizes}; {len(setup.labels)} labels: {_listed(setup.labels)}"
    lengths = np.concatenate([data.encoded.lengths for data in setup.datasets.values()])
    facts, limit = length_facts(lengths), setup.recipe.data.max_tokens
    spread = f"median {facts['median']:g}, 95 % up to {facts['p95']}, longest {facts['max']}"
    found.facts["tokens"] = f"{spread}; max_tokens {limit}"
    found.facts["steps"] = f"{setup.num_steps:,} of {train_.batch_size} examples, {setup.steps_per_epoch:,} an epoch"
    needed, there = memory.estimate(setup, setup.batches().shapes), memory.available()
    found.facts["memory"] = str(needed)
    if there and needed.total > MEMORY_SHARE * there[0]:
        what = f"training takes {needed}; {there[1]} has {memory.megabytes(there[0])}"
        found.warn("memory", what, "raise train.micro_batches, set train.remat: full, or freeze layers")


def _listed(names: tuple[str, ...], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f", ... ({len(names) - most} more)" if len(names) > most else "")
