"""The recipe of a reinforcement learning run: `rl:` beside the sections that supervised recipes have.

Of `train` and `optim` it has the keys that mean something here; their defaults differ.
"""

from __future__ import annotations

import typing
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from jaxft.errors import Problems, UserError
from jaxft.recipe import MAX_SEED, Data, Mesh, Optim, Rule, Seeds, at_least, check_mesh, check_optim, check_seeds, rates


@dataclass(frozen=True)
class Explore:
    """How much is explored when; see rl/schedules.py."""

    policy: Literal["random", "greedy", "epsilon_greedy", "boltzmann"] = "boltzmann"
    """Of agents that learn action values; the others draw from the policy that they learn."""
    schedule: Literal["constant", "linear", "exponential", "adaptive"] = "linear"
    start: float = 1.0
    """Of the level: ε, or the temperature."""
    end: float = 0.05
    over: float = 0.5
    """Share of the steps in which the level goes from start to end."""


@dataclass(frozen=True)
class Network:
    """What values and policies are computed with."""

    kind: Literal["mlp", "bert"] = "mlp"
    """bert: the encoder `model`, for environments that speak."""
    width: int = 64
    depth: int = 2
    """Hidden layers."""
    activation: Literal["tanh", "relu"] = "tanh"
    layers: int | None = None
    """Of a BERT: so many of its bottom layers; none: all."""


@dataclass(frozen=True)
class Dqn:
    """Deep Q-learning (Mnih et al. 2015)."""

    double: bool = True
    """The online network chooses the action that the target network values (van Hasselt et al. 2016)."""
    buffer: int = 20_000
    """Steps that are remembered, in all environments together."""
    learning_starts: int = 1_000
    """Steps before the first update."""
    updates: int = 1
    """Updates an iteration."""
    target_every: int = 500
    """Updates between copies of the network to the target network."""


@dataclass(frozen=True)
class Ppo:
    """Proximal policy optimisation (Schulman et al. 2017), and what of it REINFORCE has."""

    epochs: int = 4
    """Passes over what was collected."""
    clip: float = 0.2
    """Most that a probability's ratio may differ from 1."""
    gae_lambda: float = 0.95
    value_weight: float = 0.5
    entropy_weight: float = 0.0


@dataclass(frozen=True)
class SelfPlay:
    """AlphaZero's self-play (Silver et al. 2018) with the search of Gumbel MuZero (Danihelka et al. 2022)."""

    simulations: int = 32
    """A move, in self-play and in evaluations."""
    buffer: int = 20_000
    """Positions that are remembered."""
    updates: int = 16
    """An iteration."""
    opening: int = 4
    """A game begins with 0 to so many random moves."""
    value_weight: float = 1.0


@dataclass(frozen=True)
class Clone:
    """Supervised learning from an expert's actions, in environments that have one."""

    noise: float = 0.0
    """Share of the expert's actions that are another valid one, any of them alike."""


@dataclass(frozen=True)
class Rl:
    """What is learned, in what, for how long."""

    env: str = "cartpole"
    """`jaxft rl --list` names them."""
    options: str = ""
    """Of the environment, such as "observation=features, noise=0.2"."""
    agent: Literal["q_learning", "dqn", "reinforce", "ppo", "alphazero", "clone"] = "dqn"
    begin_with: str = ""
    """A run or its model/, whose agent's parameters are the first ones; empty: a model's own, and new ones."""
    seeds: int = 1
    """Runs at once: seed, seed + 1, ... in every stream that `seeds` does not set."""
    steps: int = 200_000
    """Environment steps a seed, in all its environments together."""
    num_envs: int = 8
    rollout: int = 4
    """Steps of each environment an iteration."""
    discount: float = 0.99
    reward_scale: float = 1.0
    """Rewards are multiplied by it before they are learned from; returns are told as they are."""
    explore: Explore = field(default_factory=Explore)
    network: Network = field(default_factory=Network)
    dqn: Dqn = field(default_factory=Dqn)
    ppo: Ppo = field(default_factory=Ppo)
    selfplay: SelfPlay = field(default_factory=SelfPlay)
    clone: Clone = field(default_factory=Clone)
    eval_every: int = 10_000
    """Steps between evaluations."""
    eval_episodes: int = 100
    threshold: float | None = None
    """Mean return to converge to; none: the environment's own."""
    stop: bool = True
    """A seed that has converged stops."""


@dataclass(frozen=True)
class Train:
    """The step: how many transitions, in what parts, of which parameters."""

    batch_size: int = 128
    """Transitions an update learns from."""
    micro_batches: int = 1
    """Equal groups of environments, a power of two; their gradients are added in one fixed order, whatever devices
    compute them. At most so many devices share a run."""
    freeze: str = "none"
    """Of a BERT: none | encoder | layers:K | re:PATTERN."""
    save_every: int | None = None
    """Evaluations between checkpoints; none: one at each."""
    keep_checkpoints: int = 2


@dataclass(frozen=True)
class RlOptim(Optim):
    """Optimiser with decoupled weight decay; defaults as reinforcement learning has them."""

    learning_rate: float = 1e-3
    schedule: Literal["linear", "cosine", "constant"] = "constant"
    warmup: float = 0.0
    weight_decay: float = 0.0
    clip_norm: float | None = 10.0


@dataclass(frozen=True)
class RlRecipe:
    """A whole reinforcement learning run."""

    rl: Rl = field(default_factory=Rl)
    model: str = "minilm"
    """Of a BERT policy: asset name, folder, or hub id."""
    data: Data = field(default_factory=Data)
    """Of environments that are made of labelled texts."""
    train: Train = field(default_factory=Train)
    optim: RlOptim = field(default_factory=RlOptim)
    numerics: Literal["canonical", "fast"] = "canonical"
    """canonical: a seed gives the same bits alone or among others, on any number of devices. fast: all seeds in one
    vectorised program."""
    dtype: Literal["auto", "f32", "bf16"] = "auto"
    mesh: Mesh = field(default_factory=Mesh)
    seed: int = 0
    seeds: Seeds = field(default_factory=Seeds)
    out: str = "runs/rl"
    """The run folder."""

    RULES: ClassVar[tuple[Rule, ...]] = ()


@dataclass(frozen=True)
class Compare:
    """What is compared."""

    methods: str = "clone, reinforce, dqn"
    """Agents of `jaxft rl --list`; clone is supervised learning."""
    noise: str = "0.0, 0.2"
    """Rates at which the teacher is wrong."""
    same_updates: bool = True
    """All methods must take the same number of updates; false: only the same number of steps."""


@dataclass(frozen=True)
class CompareRecipe(RlRecipe):
    """Reinforcement learning recipe with a section `compare`; `rl.agent` is not used."""

    compare: Compare = field(default_factory=Compare)

    RULES: ClassVar[tuple[Rule, ...]] = ()


# --- checks ----------------------------------------------------------------------------------------------------------


def _check_rl(recipe: RlRecipe, problems: Problems) -> None:
    rl = recipe.rl
    at_least(problems, "rl", rl, 1, "seeds", "steps", "num_envs", "rollout", "eval_every")
    at_least(problems, "rl", rl, 2, "eval_episodes")
    rates(problems, "rl.clone", rl.clone, "noise")
    if not 0 <= rl.discount <= 1:
        problems.add("rl.discount", f"must lie between 0 and 1, is {rl.discount}")
    if not rl.reward_scale > 0:
        problems.add("rl.reward_scale", f"must be positive, is {rl.reward_scale}")
    at_least(problems, "rl.network", rl.network, 1, "width", "depth", "layers")
    at_least(problems, "rl.dqn", rl.dqn, 1, "buffer", "updates", "target_every")
    at_least(problems, "rl.dqn", rl.dqn, 0, "learning_starts")
    at_least(problems, "rl.ppo", rl.ppo, 1, "epochs")
    at_least(problems, "rl.selfplay", rl.selfplay, 1, "simulations", "buffer", "updates")
    at_least(problems, "rl.selfplay", rl.selfplay, 0, "opening")
    if rl.agent == "q_learning" and recipe.train.micro_batches != 1:
        what = "a table's errors are averaged over all steps of an iteration, not group by group"
        problems.add("train.micro_batches", what, "1; `rl.seeds` share the devices' time")
    if rl.agent == "alphazero" and recipe.train.micro_batches != 1:
        problems.add("train.micro_batches", "self-play is one group of games", "1; `rl.seeds` share the devices' time")
    rates(problems, "rl.ppo", rl.ppo, "clip")
    if not 0 <= rl.ppo.gae_lambda <= 1:
        problems.add("rl.ppo.gae_lambda", f"must lie between 0 and 1, is {rl.ppo.gae_lambda}")
    iteration = rl.num_envs * rl.rollout
    if iteration > rl.steps >= 1:
        problems.add("rl.steps", f"{rl.steps} do not make one iteration of {rl.num_envs} x {rl.rollout} steps")


def _check_env(recipe: RlRecipe, problems: Problems) -> None:
    from jaxft.rl import envs

    try:
        envs.check(recipe.rl.env)
    except UserError as error:
        problems.take(error)


def _check_explore(recipe: RlRecipe, problems: Problems) -> None:
    explore = recipe.rl.explore
    if explore.policy == "epsilon_greedy" and not (0 <= explore.start <= 1 and 0 <= explore.end <= 1):
        problems.add("rl.explore", f"ε must lie between 0 and 1, goes from {explore.start} to {explore.end}")
    if explore.start < 0 or explore.end < 0:
        problems.add("rl.explore", f"a level must not be negative, goes from {explore.start} to {explore.end}")
    if explore.schedule == "exponential" and not (explore.start > 0 and explore.end > 0):
        what = f"an exponential schedule never reaches 0, goes from {explore.start} to {explore.end}"
        problems.add("rl.explore.schedule", what, "linear, or a small end")
    if not 0 < explore.over <= 1:
        problems.add("rl.explore.over", f"is a share of the steps, above 0 and up to 1, is {explore.over}")


def _check_portions(recipe: RlRecipe, problems: Problems) -> None:
    rl, train = recipe.rl, recipe.train
    at_least(problems, "train", train, 1, "batch_size", "micro_batches", "save_every", "keep_checkpoints")
    groups = train.micro_batches
    if groups >= 1 and groups & (groups - 1):
        below = 1 << groups.bit_length() - 1
        what = f"must be a power of two, for sums in pairs; is {groups}"
        problems.add("train.micro_batches", what, f"{below} or {2 * below}")
        return
    if min(groups, train.batch_size, rl.num_envs, rl.rollout, rl.dqn.buffer) < 1:
        return
    for key, value in (("rl.num_envs", rl.num_envs), ("train.batch_size", train.batch_size)):
        if value % groups:
            problems.add(key, f"{value} cannot be shared among {groups} groups (train.micro_batches)")
    if rl.agent in ("ppo", "clone") and (rl.num_envs * rl.rollout) % train.batch_size:
        what = f"{rl.num_envs} x {rl.rollout} steps are no whole number of batches of {train.batch_size}"
        problems.add("train.batch_size", what, "a divisor of rl.num_envs · rl.rollout")
    if rl.agent == "dqn" and rl.dqn.buffer % (rl.num_envs * rl.rollout):
        whole = -(-rl.dqn.buffer // (rl.num_envs * rl.rollout)) * rl.num_envs * rl.rollout
        what = f"{rl.dqn.buffer} steps are no whole number of iterations of {rl.num_envs} x {rl.rollout}"
        problems.add("rl.dqn.buffer", what, f"{whole}")


def _check_streams(recipe: RlRecipe, problems: Problems) -> None:
    check_seeds(recipe, problems)
    last = recipe.seed + recipe.rl.seeds - 1
    if last > MAX_SEED >= recipe.seed:
        problems.add("rl.seeds", f"the last of {recipe.rl.seeds} seeds would be {last}, more than {MAX_SEED}")


def _check_texts(recipe: RlRecipe, problems: Problems) -> None:
    if recipe.rl.network.kind == "bert" and recipe.rl.agent == "q_learning":
        problems.add("rl.network.kind", "tabular Q-learning has a table and no network", "mlp, which it ignores")


RlRecipe.RULES = (  # type: ignore[misc]
    _check_rl,
    _check_env,
    _check_explore,
    _check_portions,
    check_optim,
    _check_streams,
    check_mesh,
    _check_texts,
)


def listed(text: str) -> list[str]:
    """What stands between the commas of a text."""
    return [part.strip() for part in text.split(",") if part.strip()]


def _check_compare(chosen: CompareRecipe, problems: Problems) -> None:
    methods, known = listed(chosen.compare.methods), typing.get_args(typing.get_type_hints(Rl)["agent"])
    for method in methods:
        if method not in known:
            problems.add("compare.methods", f"no such agent: {method!r}", f"known: {', '.join(known)}")
    if len(methods) < 2:
        problems.add("compare.methods", f"names {len(methods)}, expected at least two")
    try:
        noise = [float(part) for part in listed(chosen.compare.noise)]
    except ValueError:
        problems.add("compare.noise", f"expected numbers separated by commas, came {chosen.compare.noise!r}")
        return
    if not noise or not all(0 <= rate < 0.5 for rate in noise):
        problems.add("compare.noise", f"expected rates from 0 up to 0.5, came {chosen.compare.noise}")


CompareRecipe.RULES = (_check_env, _check_compare)  # type: ignore[misc]  # what hangs on the agent: of each run's recipe
