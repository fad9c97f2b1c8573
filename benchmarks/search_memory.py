"""How much memory does a search over training states need?

    python benchmarks/search_memory.py             # about a minute on two cores, and 8 GiB for mctx's

A node's state is a network of 4.4 M parameters with its Adam moments (53 MB); an action is one Adam step at one of four
learning rates; the value is minus the loss. mctx keeps every state; jaxft keeps `--slots` of them and computes others
again. The statistics must be the same, to the bit. Memory is what XLA tells of the compiled search: arguments, results
and temporaries. Writes results/search_memory.json and its block of README.md.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tables
from peers import machine
from search_models import mctx

from jaxft.search.env import Root, Step
from jaxft.search.policies import Gumbel
from jaxft.search.store import Full, Slots
from jaxft.search.tree_search import tree_search

WIDTH, HIDDEN, EXAMPLES = 1024, 2144, 64
RATES = (0.0, 3e-4, 1e-3, 3e-3)
SIMULATIONS, DEPTH = 64, 6


class Training:
    """A regression task. State: (params, Adam's state), batch first."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.x = rng.normal(size=(EXAMPLES, WIDTH)).astype(np.float32)
        self.y = np.tanh(self.x @ rng.normal(size=(WIDTH, WIDTH)).astype(np.float32) / WIDTH**0.5)
        self.optimiser = optax.inject_hyperparams(optax.adam)(learning_rate=1e-3)
        self.first = {
            "in": (rng.normal(size=(WIDTH, HIDDEN)) / WIDTH**0.5).astype(np.float32),
            "out": (rng.normal(size=(HIDDEN, WIDTH)) / HIDDEN**0.5).astype(np.float32),
        }

    @property
    def num_parameters(self) -> int:
        return sum(x.size for x in self.first.values())

    def state(self) -> Any:
        return jax.tree.map(lambda x: jnp.asarray(x)[None], (self.first, optax.adam(0.0).init(self.first)))

    def loss(self, params: Any) -> jax.Array:
        return jnp.mean((jax.nn.relu(self.x @ params["in"]) @ params["out"] - self.y) ** 2)

    def step(self, state: Any, action: jax.Array) -> tuple[Any, jax.Array]:
        """(state, loss) after one Adam step of one element."""
        params, moments = state
        rate = jnp.asarray(RATES)[action]
        updates, moments = optax.scale_by_adam().update(jax.grad(self.loss)(params), moments[0])
        params = jax.tree.map(lambda p, u: p - rate * u, params, updates)
        return (params, (moments, state[1][1])), self.loss(params)

    def expand(self, state: Any, action: jax.Array, key: Any) -> Step:
        state, loss = jax.vmap(self.step)(state, action)
        flat, yes = jnp.zeros((1, len(RATES))), jnp.ones((1, len(RATES)), bool)
        return Step(state, jnp.zeros(1), jnp.ones(1), flat, -loss, jnp.zeros(1, bool), yes)


def of_mctx(task: Training) -> Any:
    """The same search by mctx, as a function of the state."""

    def model(params: Any, key: Any, action: jax.Array, state: Any) -> Any:
        step = task.expand(state, action, key)
        out = mctx.RecurrentFnOutput(
            reward=step.reward, discount=step.discount, prior_logits=step.logits, value=step.value
        )
        return out, step.state

    def run(state: Any) -> Any:
        logits, value = jnp.zeros((1, len(RATES))), -jax.vmap(task.loss)(state[0])
        root = mctx.RootFnOutput(prior_logits=logits, value=value, embedding=state)
        found = mctx.gumbel_muzero_policy(
            (), jax.random.key(0), root, model, SIMULATIONS, max_depth=DEPTH, gumbel_scale=0.0
        )
        return found.action, found.search_tree.summary()

    return run


def of_jaxft(task: Training, store: Full | Slots) -> Any:
    """The native search, as a function of the state."""

    def run(state: Any) -> Any:
        root = Root(state, jnp.zeros((1, len(RATES))), -jax.vmap(task.loss)(state[0]))
        policy = Gumbel(scale=0.0)
        settings: Any = {"max_depth": DEPTH, "store": store, "tie_noise": 0.0}  # mctx takes the first of equal actions
        return tree_search(jax.random.key(0), root, task, policy, SIMULATIONS, **settings)._replace(tree=None)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--slots", type=int, nargs="+", default=[5, 7, 9])
    options = parser.parse_args()
    task = Training()
    state = task.state()
    bytes_of_state = sum(x.nbytes for x in jax.tree.leaves(state))
    programs = {"mctx": of_mctx(task), "jaxft, all states": of_jaxft(task, Full())}
    programs |= {f"jaxft, {count} slots": of_jaxft(task, Slots(count)) for count in options.slots}
    rows, told, reference, mctx_bytes = [], [], [], 0
    for name, function in programs.items():
        compiled = jax.jit(function).lower(state).compile()
        memory: Any = compiled.memory_analysis()
        peak = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
        out = compiled(state)
        if name == "mctx":
            mctx_bytes, visits, q, value = peak, out[1].visit_counts, out[1].qvalues, out[1].value
            expansions, replays = SIMULATIONS, 0
            reference = [np.asarray(x) for x in (visits, q, value)]
        else:
            visits, q, value = out.visits, out.q, out.value
            expansions, replays = int(out.cost.expansions[0]), int(out.cost.replays[0])
        close = [
            float(np.abs(np.asarray(a, np.float64) - b).max())
            for a, b in zip((visits, q, value), reference, strict=True)
        ]
        told.append({"name": name, "bytes": peak, "expansions": expansions, "replays": replays, "differs": close})
        print(told[-1], flush=True)
        work = f"{expansions} + {replays}"
        rows.append([name, f"{peak / 2**20:,.0f}", f"{peak / mctx_bytes:.3f}", f"{peak / bytes_of_state:.1f}", work])
    text = tables.markdown(["search", "peak, MiB", "of mctx's", "states' worth", "evaluations + replays"], rows)
    params = (
        f"{task.num_parameters / 1e6:.1f} M parameters with Adam's moments, {bytes_of_state / 2**20:.0f} MiB a state"
    )
    text += f"\n\n{machine.cpu()}, {machine.today()}; {params}; N {SIMULATIONS}, depth {DEPTH}."
    tree = {"date": machine.today(), "device": machine.cpu(), "state_bytes": bytes_of_state, "results": told}
    (tables.RESULTS / "search_memory.json").write_text(json.dumps(tree, indent=1) + "\n", "utf-8")
    tables.fill("search-memory", text)
    print(text)


if __name__ == "__main__":
    main()
