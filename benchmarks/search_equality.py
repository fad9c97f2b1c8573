"""Are the trees that jaxft.search grows under mctx's names mctx's own, to the bit?

    python benchmarks/search_equality.py               # about 10 minutes on two cores

Batches, actions, simulations, depths, rewards, discounts of -1, 0, 0.99 and 1, masks and keys at random, for the three
policies; compared are the action, its weights, and every field of the tree. Writes results/search_equality.json
and its block of README.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tables
from peers import machine
from search_models import Facts, hashed, mctx, mixed, number

from jaxft import search

POLICIES = ("muzero", "gumbel", "stochastic")
DISCOUNTS = (-1.0, 0.0, 0.99, 1.0)
OUTCOMES = 3
"""Of chance, in the stochastic searches."""
FIELDS = [field.name for field in dataclasses.fields(search.Tree) if field.name != "extra_data"]


@dataclasses.dataclass(frozen=True)
class Shape:
    """What a compiled search is fixed to. masked: some actions are invalid at the root."""

    batch: int
    actions: int
    simulations: int
    max_depth: int | None
    masked: bool


def decision(params: Any, key: jax.Array, action: jax.Array, state: jax.Array) -> tuple[Facts, jax.Array]:
    """decision_recurrent_fn."""
    state = mixed(state, action)
    chances = jnp.stack([4 * number(state, 40 + outcome) for outcome in range(OUTCOMES)], -1)
    return {"chance_logits": chances, "afterstate_value": number(state, 3)}, state


def chance(model: Any, params: Any, key: jax.Array, outcome: jax.Array, state: jax.Array) -> tuple[Facts, jax.Array]:
    """chance_recurrent_fn that follows a recurrent_fn."""
    facts, state = model(params, key, outcome + 100, state)
    return {"action_logits" if name == "prior_logits" else name: value for name, value in facts.items()}, state


def run(module: Any, policy: str, shape: Shape) -> Callable[..., Any]:
    """A jitted search by `module`'s functions of what `setting` gives."""

    def made(function: Any, kind: Any) -> Any:
        def wrapped(*arguments: Any) -> Any:
            facts, state = function(*arguments)
            return kind(**facts), state

        return wrapped

    def searched(key, state, logits, value, discount, invalid):
        root = module.RootFnOutput(prior_logits=logits, value=value, embedding=state)
        settings: Any = {"num_simulations": shape.simulations, "max_depth": shape.max_depth}
        settings["invalid_actions"] = invalid if shape.masked else None
        model = hashed(shape.actions, discount, noise=1.0)
        if policy != "stochastic":
            function = {"muzero": module.muzero_policy, "gumbel": module.gumbel_muzero_policy}[policy]
            return function((), key, root, made(model, module.RecurrentFnOutput), **settings)
        decide = made(decision, module.DecisionRecurrentFnOutput)
        draw = made(partial(chance, model), module.ChanceRecurrentFnOutput)
        return module.stochastic_muzero_policy((), key, root, decide, draw, **settings)

    return jax.jit(searched)


def setting(seed: int, shape: Shape) -> tuple[Any, ...]:
    """Key, states, logits, values, discount, and a mask that leaves an action."""
    rng, size = np.random.default_rng(seed), (shape.batch, shape.actions)
    invalid = rng.random(size) < 0.4
    invalid[np.arange(shape.batch), rng.integers(0, shape.actions, shape.batch)] = False
    return (
        jax.random.key(seed),
        rng.integers(0, 2**32, shape.batch, np.uint32),
        rng.normal(size=size).astype(np.float32),
        rng.normal(size=shape.batch).astype(np.float32),
        np.float32(DISCOUNTS[seed % len(DISCOUNTS)]),
        invalid.astype(np.float32),
    )


def differences(ours: Any, theirs: Any) -> list[str]:
    """What is not the same, to the bit."""
    found = [name for name in ("action", "action_weights") if not same(getattr(ours, name), getattr(theirs, name))]
    trees = ours.search_tree, theirs.search_tree
    return found + [name for name in FIELDS if not same(*(getattr(tree, name) for tree in trees))]


def same(one: Any, other: Any) -> bool:
    """Whether two trees of arrays hold the same bits."""
    if dataclasses.is_dataclass(one):  # chex and flax list fields in another order
        return all(same(getattr(one, field.name), getattr(other, field.name)) for field in dataclasses.fields(one))
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(a.dtype == b.dtype and np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in pairs)


def shapes(count: int, seed: int) -> list[Shape]:
    """Random ones; depths from 2 to no limit."""
    rng = np.random.default_rng(seed)
    return [
        Shape(
            batch=int(rng.choice([1, 2, 5, 16, 600])),
            actions=int(rng.choice([2, 3, 8, 21])),
            simulations=int(rng.integers(4, 65)),
            max_depth=[None, None, 2, 4, 9][rng.integers(5)],
            masked=bool(rng.integers(2)),
        )
        for _ in range(count)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shapes", type=int, default=12, help="compiled searches a policy")
    parser.add_argument("--seeds", type=int, default=8, help="settings each is run on")
    options = parser.parse_args()
    rows, wrong = [], []
    for policy in POLICIES:
        for at, shape in enumerate(shapes(options.shapes, seed=POLICIES.index(policy))):
            both = [run(module, policy, shape) for module in (search, mctx)]
            for seed in range(options.seeds):
                told = differences(*(one(*setting(100 * at + seed, shape)) for one in both))
                wrong += [f"{policy} {shape} seed {seed}: {', '.join(told)}"] if told else []
            print(policy, shape, "differs" if any(str(shape) in line for line in wrong) else "equal", flush=True)
        count = options.shapes * options.seeds
        rows.append([policy, str(count), str(count - sum(line.startswith(policy) for line in wrong))])
    versions = machine.versions("jax", "jaxlib", "mctx")
    tree = {"date": machine.today(), "device": machine.cpu(), "versions": versions, "rows": rows, "wrong": wrong}
    (tables.RESULTS / "search_equality.json").write_text(json.dumps(tree, indent=1) + "\n", "utf-8")
    text = tables.markdown(["policy", "settings", "equal to mctx in every bit"], rows)
    text += f"\n\n{machine.cpu()}, {machine.today()}, jax {versions['jax']}, mctx {versions['mctx']}."
    tables.fill("search-equality", text)
    print(text)
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()
