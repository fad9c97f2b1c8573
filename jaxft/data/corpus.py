"""The data of a recipe: read, split and checked, still as strings."""

from __future__ import annotations

from dataclasses import dataclass

from jaxft import recipe, tasks
from jaxft.data import doctor
from jaxft.data.examples import Examples
from jaxft.data.read import own_splits, read
from jaxft.data.split import sample, split
from jaxft.errors import Problem, Problems, UserError
from jaxft.recipe import Recipe


@dataclass(frozen=True)
class Corpus:
    """splits: train, and dev, test and search where there are any. sources: split -> where it comes from. warnings: of
    the check."""

    splits: dict[str, Examples]
    sources: dict[str, str]
    labels: tuple[str, ...]
    warnings: tuple[Problem, ...] = ()


def load(recipe: Recipe) -> Corpus:
    """Reads and checks everything the recipe names. Raises one UserError with all the problems found."""
    problems = Problems()
    task = tasks.get(recipe.task)
    sources = _sources(recipe)
    splits = {
        name: task.parse(read(source, recipe.data, problems), recipe.data, problems)
        for name, source in sources.items()
        if isinstance(source, str)
    }
    problems.raise_if_any()
    splits = _limited(_hold_out(splits, sources, recipe, problems), recipe, problems)
    labels = task.label_set(splits["train"], recipe.data)
    doctor.examine(splits, labels, recipe.data, None, problems)
    problems.raise_if_any()
    told = {name: source if isinstance(source, str) else f"{source:g} of train" for name, source in sources.items()}
    return Corpus(splits, told, labels, tuple(problems.warnings))


def _limited(splits: dict[str, Examples], recipe_: Recipe, problems: Problems) -> dict[str, Examples]:
    """With as many training examples as `data.limit` says."""
    limit, train = recipe_.data.limit, splits["train"]
    if limit is None or problems.errors:
        return splits
    if limit > len(train):
        problems.warn("data.limit", f"is {limit:,}, but there are only {len(train):,} training examples")
    try:
        return {**splits, "train": sample(train, limit, seed=recipe.stream_seeds(recipe_)["subsample"])}
    except UserError as error:
        problems.take(error)
        return splits


def _sources(recipe: Recipe) -> dict[str, str | float]:
    """Split -> source, or the share of train to hold out; a named asset brings its own dev and test."""
    data = recipe.data
    own = own_splits(data.train)
    named = {"dev": data.dev if data.dev is not None else own.get("dev")}
    named["test"] = data.test if data.test is not None else own.get("test")
    named["search"] = data.search
    return {"train": data.train, **{name: source for name, source in named.items() if source is not None}}


def _hold_out(
    splits: dict[str, Examples], sources: dict[str, str | float], recipe_: Recipe, problems: Problems
) -> dict[str, Examples]:
    """Adds the splits that are a share of the training set."""
    shares = {name: share for name, share in sources.items() if not isinstance(share, str)}
    if not shares or not len(splits["train"]):
        return splits
    seed = recipe.stream_seeds(recipe_)["subsample"]
    try:
        parts = split(splits["train"], **shares, seed=seed)
    except UserError as error:
        problems.take(error)
        return splits
    return {"train": parts["train"], **{name: (splits | parts)[name] for name in sources if name != "train"}}
