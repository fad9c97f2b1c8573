"""Agents by name; `alphazero`, which acts by search and has a program of its own, is in rl/alphazero.py."""

from __future__ import annotations

from typing import Any

from jaxft.errors import UserError
from jaxft.rl.agents.actor_critic import Ppo, Reinforce
from jaxft.rl.agents.base import Agent
from jaxft.rl.agents.clone import Clone
from jaxft.rl.agents.dqn import Dqn
from jaxft.rl.agents.table import Table
from jaxft.rl.env import Box, Env
from jaxft.rl.networks import Network
from jaxft.rl.recipe import RlRecipe

AGENTS: dict[str, Any] = {"q_learning": Table, "dqn": Dqn, "reinforce": Reinforce, "ppo": Ppo, "clone": Clone}
LINES = {
    "q_learning": "tabular Q-learning, for environments with numbered states",
    "dqn": "deep Q-learning: double, target network, replay buffer",
    "reinforce": "policy gradient with a value baseline; discrete or continuous actions",
    "ppo": "proximal policy optimisation with GAE; discrete or continuous actions",
    "alphazero": "self-play guided by tree search, on tic_tac_toe and connect_four",
    "clone": "supervised learning from an expert, for environments that have one",
}


def head_of(name: str) -> str:
    """values or policy: what the agent's network gives."""
    return AGENTS[name].head


def check(recipe: RlRecipe, env: Env) -> None:
    """Raises UserError where the agent cannot act in the environment."""
    name = recipe.rl.agent
    if name == "alphazero":
        if not hasattr(env, "game"):
            raise UserError("rl.env", f"{recipe.rl.env} is no board game", "tic_tac_toe, or connect_four")
        return
    if isinstance(env.actions, Box) and (AGENTS[name].head == "values" or name == "clone"):
        what = (
            f"{name} chooses among numbered actions, but those of {recipe.rl.env} are continuous ({env.actions.size})"
        )
        raise UserError("rl.agent", what, "ppo, reinforce")
    if name == "clone" and not hasattr(env, "expert"):
        raise UserError("rl.agent", f"there is no expert for {recipe.rl.env} to learn from", "ppo, or dqn")
    if name == "q_learning" and not hasattr(env, "num_states"):
        what = f"a table needs numbered states, and those of {recipe.rl.env} are not"
        raise UserError("rl.agent", what, "dqn, or rl.env: gridworld")


def make(recipe: RlRecipe, env: Env, network: Network) -> Agent:
    """The agent of a recipe that was checked."""
    return AGENTS[recipe.rl.agent](recipe, network, env.actions)
