"""How much do bandit policies lose by what they do not know?

    python benchmarks/rl_recommend.py                    # about 4 minutes on two cores
    python benchmarks/rl_recommend.py --users 16

Regret: the expected reward of the best action less that of the chosen one, summed over an episode; the oracle's is 0.
First `recommend`: 1,000 visits of a user whose taste drifts, 10 of 50 texts offered at each and one shown; then
`recommend_slate`, three shown in order. Each policy's settings are the ones of least regret, of a small grid, with 16
users whom the measurement does not meet. Then ten arms of fixed means, 10,000 pulls, policies as they come, beside what
theory says of them. The mean over users (seeds) has a 95 % bootstrap interval. Writes results/rl_recommend.{json,md},
and its block of README.md where that has one.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tables
from peers import machine

from jaxft import draws
from jaxft.rl import bandits, envs
from jaxft.rl.envs.arms import MEANS, Arms
from jaxft.rl.envs.recommend import Recommend

VISITS, PULLS = 1000, 10_000
TUNING_USERS, TUNING_SEED, SEED = 16, 1, 0
FORGET = (1.0, 0.995, 0.98)
GRIDS = {
    "epsilon-greedy": (bandits.epsilon_greedy, "epsilon", (0.02, 0.05, 0.1, 0.2)),
    "Boltzmann": (bandits.boltzmann, "temperature", (0.02, 0.05, 0.1, 0.2)),
    "UCB": (bandits.ucb, "width", (0.02, 0.1, 0.5, 2.0)),
    "Thompson": (bandits.thompson_beta, None, (0.0,)),
    "LinUCB": (bandits.lin_ucb, "alpha", (0.1, 0.25, 0.5, 1.0)),
    "linear Thompson": (bandits.lin_thompson, "deviation", (0.05, 0.1, 0.25, 0.5)),
}
LINEAR = ("LinUCB", "linear Thompson")
MARKER = "rl-recommend"


def words(seed: int, count: int) -> jax.Array:
    """uint32 [count, 2], one pair for each user."""
    return draws.fold_in(jax.random.key_data(jax.random.key(seed)), jnp.arange(count))


def regrets(
    bandit: Any, policy_of: Callable[..., bandits.Policy], steps: int, given: jax.Array, *settings: Any
) -> tuple[np.ndarray, np.ndarray]:
    """(regret [G, K, T], reward [G, K, T]) of each setting, arrays [G], with each user, words [K, 2]."""

    def one(own: jax.Array, *setting: Any) -> tuple[jax.Array, jax.Array]:
        played = bandits.play(bandit, policy_of(*setting), own, steps)[1]
        return played.regret, played.reward

    users = jax.vmap(one, (0, *[None] * len(settings)))
    grid = jax.vmap(users, (None, *[0] * len(settings))) if settings else lambda own: [x[None] for x in users(own)]
    regret, reward = jax.jit(grid)(given, *settings)
    return np.asarray(regret, np.float64), np.asarray(reward, np.float64)


def interval(values: np.ndarray) -> tuple[float, float]:
    """95 % bootstrap interval of the mean of values [K]."""
    rng = np.random.default_rng(0)
    means = rng.choice(values, (10_000, len(values))).mean(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def told(regret: np.ndarray, reward: np.ndarray, setting: dict[str, float]) -> dict[str, Any]:
    """A policy's line of the results, of its regret and reward [K, T]."""
    total = regret.sum(1)
    at = np.linspace(0, regret.shape[1], 21).astype(int)[1:] - 1
    curve = np.cumsum(regret, axis=1).mean(0)[at]
    return {
        "regret": float(total.mean()),
        "interval": interval(total),
        "reward": float(reward.mean()),
        "settings": setting,
        "steps": (at + 1).tolist(),
        "curve": np.round(curve, 2).tolist(),
    }


def recommend(name: str, users: int) -> dict[str, dict[str, Any]]:
    """Policy -> its line, in an environment of texts."""
    env = envs.make(name)
    assert isinstance(env, Recommend)
    items = len(env.items)
    found = {}
    regret, reward = regrets(env, lambda: bandits.counting(bandits.anything, items), VISITS, words(SEED, users))
    found["random"] = told(regret[0], reward[0], {})
    for policy, (score, keyword, values) in GRIDS.items():

        def policy_of(value: Any, forget: Any, score: Any = score, keyword: Any = keyword, policy: str = policy) -> Any:
            chosen = score if keyword is None else partial(score, **{keyword: value})
            if policy in LINEAR:
                return bandits.linear(chosen, env.features, forget)
            return bandits.counting(chosen, items, forget)

        grid = np.array(list(itertools.product(values, FORGET)), np.float32)
        tuned = regrets(env, policy_of, VISITS, words(TUNING_SEED, TUNING_USERS), *jnp.asarray(grid.T))[0]
        best = grid[tuned.sum(2).mean(1).argmin()]
        regret, reward = regrets(env, policy_of, VISITS, words(SEED, users), *jnp.asarray(best[:, None]))
        setting = {"forget": round(float(best[1]), 4)}
        if keyword is not None:
            setting = {keyword: round(float(best[0]), 4), **setting}
        found[policy] = told(regret[0], reward[0], setting)
        print(name, policy, found[policy]["regret"], found[policy]["interval"], setting, flush=True)
    return found


def arms(seeds: int) -> dict[str, dict[str, Any]]:
    """Policy -> its line, on ten arms with rewards 0 or 1."""
    env = envs.make("bernoulli_arms", max_steps=PULLS)
    assert isinstance(env, Arms)
    policies = {
        "random": (bandits.anything, {}),
        "epsilon-greedy": (bandits.epsilon_greedy, {"epsilon": 0.1}),
        "epsilon-greedy, 1 / t after 1,000": (bandits.epsilon_greedy, {"epsilon": 0.1, "decay_after": 1000}),
        "Boltzmann": (bandits.boltzmann, {"temperature": 0.05}),
        "UCB1": (bandits.ucb, {}),
        "Thompson": (bandits.thompson_beta, {}),
        "normal Thompson": (bandits.thompson_normal, {"deviation": 0.5}),
    }
    found = {}
    for name, (score, settings) in policies.items():
        policy = bandits.counting(partial(score, **settings), len(MEANS))
        regret, reward = regrets(env, lambda policy=policy: policy, PULLS, words(SEED, seeds))
        found[name] = told(regret[0], reward[0], settings)
        print(name, found[name]["regret"], found[name]["interval"], flush=True)
    return found


def table(results: dict[str, dict[str, Any]], what: str) -> str:
    """Lines by regret, most first."""
    rows = [
        [
            name,
            f"{line['regret']:,.1f} ({line['interval'][0]:,.1f}–{line['interval'][1]:,.1f})",
            f"{line['reward']:.3f}",
            ", ".join(f"{key} {value:g}" for key, value in line["settings"].items()) or "—",
        ]
        for name, line in sorted(results.items(), key=lambda pair: -pair[1]["regret"])
    ]
    return tables.markdown([what, "regret (95 %)", "reward a step", "settings"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--users", type=int, default=64, help="of each policy")
    options = parser.parse_args()
    on_texts = {name: recommend(name, options.users) for name in ("recommend", "recommend_slate")}
    on_arms = arms(options.users)
    means = np.array(MEANS)
    bound, least = bandits.ucb_bound(means, PULLS), bandits.lai_robbins(means) * np.log(PULLS)
    device = machine.gpu() or machine.cpu()
    text = "\n\n".join(
        [
            *(table(lines, f"{name}, {VISITS:,} visits") for name, lines in on_texts.items()),
            table(on_arms, f"ten arms, {PULLS:,} pulls"),
            f"UCB1's regret is at most {bound:,.0f} (Auer et al. 2002); ln(pulls) times Lai and Robbins' constant, "
            f"which holds in the limit, is {least:,.0f}. {options.users} users or seeds; {device}, {machine.today()}.",
        ]
    )
    tree = {
        "date": machine.today(),
        "device": device,
        "versions": machine.versions("jax"),
        "users": options.users,
        **on_texts,
        "arms": on_arms,
        "ucb_bound": bound,
        "lai_robbins": least,
    }
    (tables.RESULTS / "rl_recommend.json").write_text(json.dumps(tree, indent=1) + "\n", "utf-8")
    (tables.RESULTS / "rl_recommend.md").write_text(text + "\n", "utf-8")
    if f"<!-- {MARKER} -->" in tables.README.read_text("utf-8"):
        tables.fill(MARKER, text)
    print(text)


if __name__ == "__main__":
    main()
