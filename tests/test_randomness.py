"""Every random number has an address: nothing splits keys or draws from a hidden generator, and streams are apart."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jaxft
from jaxft import kernels, prng
from jaxft.recipe import MAX_SEED, Data, Noise, Recipe, Seeds, Train, stream_seeds
from jaxft.train.hashes import params_sha256
from jaxft.train.segments import DEFAULT
from jaxft.train.setup import Setup, set_up
from jaxft.train.stepper import constants_of

ROOTS = [Path(str(package.__file__)).parent for package in (jaxft, kernels)]
SOURCES = [
    path for root in ROOTS for path in root.rglob("*.py") if path.name != "cases.py"
]  # those are inputs of tests
ALLOWED = {"wrap_key_data", "key_data", "key_impl", "key", "bits"}
"""Of `jax.random`: what makes a key or tells of it, and all bits of one key at once."""
ALLOWED_IN = {
    "search/keys.py": {"split", "fold_in", "uniform", "define_prng_impl"},  # as mctx draws, for keys of any kind
    "search/mctx.py": {"split", "gumbel", "categorical", "dirichlet"},  # mctx's own keys, to the bit
    "search/chance.py": {"split"},  # the same
    "search/dirichlet.py": {"dirichlet", "exponential", "normal", "uniform"},  # the same
    "search/draws.py": {"uniform"},  # the same
    "search/policies.py": {"gumbel", "categorical"},  # from the key of a root
}
"""More of it, by the end of a path."""


# --- the source ------------------------------------------------------------------------------------------------------


def dotted(node: ast.AST) -> str:
    """`a.b.c` of an attribute chain."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def draws(source: str) -> Iterator[str]:
    """Uses of random numbers in a source that have no address."""
    for node in ast.walk(ast.parse(source)):
        name = dotted(node)
        if name.startswith("jax.random.") and name.split(".")[2] not in ALLOWED:
            yield name
        if name.startswith(("np.random.", "numpy.random.")) or name.endswith((".PRNGKey", ".make_rng")):
            yield name
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        if isinstance(node, ast.ImportFrom):
            modules = [f"{node.module}.{name}" for name in modules]
        for module in modules:
            if module.split(".")[0] == "random" or ".random" in module:
                yield f"import {module}"


def test_no_source_splits_keys_or_draws_without_an_address():
    assert len(SOURCES) > 100
    found = {}
    for path in SOURCES:
        more = ALLOWED_IN.get("/".join(path.parts[-2:]), set())
        found[str(path)] = [name for name in draws(path.read_text("utf-8")) if name.split(".")[-1] not in more]
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "line",
    [
        "k = jax.random.split(k)",
        "np.random.default_rng(0)",
        "from jax import random",
        "import random",
        "m.make_rng('x')",
    ],
)
def test_the_walk_sees(line):
    assert list(draws(line))


# --- streams are apart -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def numbers_of(tiny_model, sms_spam, tmp_path_factory):
    """Recipe seeds -> stream -> hash of numbers that a real setup draws from it."""
    model = tiny_model()
    lines = sms_spam.read_text("utf-8").splitlines(keepends=True)[:121]
    data = tmp_path_factory.mktemp("data") / "some.csv"
    data.write_text("".join(lines), "utf-8")
    noise = Noise(label=0.2, token_drop=0.1, token_swap=0.1, token_mask=0.1, token_replace=0.1, typo=0.1)
    base = Recipe(model=str(model), noise=noise, train=Train(epochs=2, batch_size=16))
    base = dataclasses.replace(base, data=Data(train=str(data), dev=0.25, max_tokens=48))

    def numbers(seeds: Seeds) -> dict[str, str]:
        return drawn(set_up(dataclasses.replace(base, seeds=seeds)))

    return numbers


def drawn(setup: Setup) -> dict[str, str]:
    """Stream -> hash. order, noise and dropout are taken apart: examples by number, tokens by example, words."""
    seeds = stream_seeds(setup.recipe)
    held_out = setup.corpus.splits["dev"].where
    order = [setup.order.examples(step).tolist() for step in range(setup.num_steps)]
    at = setup.batches_of(DEFAULT)._data.at(1)
    found: dict[str, Any] = {
        "init": params_sha256(setup.params),
        "order": order,
        "dropout": np.asarray(constants_of(setup, setup.split()[1]).dropout_key).tolist(),
        "noise": (at.encoded.tokens.tolist(), at.targets.tolist()),
        "explore": [word.tolist() for word in prng.stream("explore", seeds["explore"])],
        "subsample": held_out,
        "bootstrap": [word.tolist() for word in prng.stream("bootstrap", seeds["bootstrap"])],
        "environment": [word.tolist() for word in prng.stream("environment", seeds["environment"])],
    }
    return {name: hashlib.sha256(repr(value).encode()).hexdigest() for name, value in found.items()}


@pytest.mark.slow
@pytest.mark.parametrize("changed", [name for name in prng.STREAMS if name != "subsample"])
def test_another_seed_of_one_stream_changes_no_number_of_any_other(numbers_of, changed):
    before, after = numbers_of(Seeds()), numbers_of(Seeds(**{changed: 7}))
    assert set(before) == set(prng.STREAMS)
    assert [name for name in before if before[name] != after[name]] == [changed]


def test_another_subsample_chooses_other_examples_and_draws_the_same_for_each_number(numbers_of):
    """It decides which texts there are to be noised, so tokens differ; no other stream's draws do."""
    before, after = numbers_of(Seeds()), numbers_of(Seeds(subsample=7))
    assert {name for name in before if before[name] != after[name]} == {"subsample", "noise"}


def test_one_seed_sets_all_streams_and_single_ones_override_it():
    seeds = stream_seeds(Recipe(seed=5, seeds=Seeds(dropout=MAX_SEED)))
    assert set(seeds) == set(prng.STREAMS)
    assert {name for name, seed in seeds.items() if seed == 5} == set(prng.STREAMS) - {"dropout"}
    assert seeds["dropout"] == MAX_SEED
