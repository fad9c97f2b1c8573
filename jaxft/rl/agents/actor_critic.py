"""Agents that learn a policy and a value function from fresh rollouts: REINFORCE with a baseline, and PPO.

    advantage    Â_t = Σ_l (γλ)^l δ_{t+l},  δ_t = r_t + γ V(s_{t+1}) - V(s_t)          (GAE, Schulman et al. 2016)
    reinforce    -log π(a|s) · Â, λ = 1, one update a rollout                       (Williams 1992, with V as baseline)
    ppo          -min(ρ Â, clip(ρ, 1 ± ε) Â), ρ = π(a|s) / π_old(a|s), several passes    (Schulman et al. 2017)

Both add value_weight · (V - target)² / 2 and subtract entropy_weight · entropy. Where an episode is cut off, the value
of the state that it was cut off in goes on in its place. Continuous actions come from a Gaussian whose means and draws
are in units of half the action's range around its middle; the environment's side clips them to the range.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxft import draws
from jaxft.rl import policies
from jaxft.rl.agents.base import Group, Learner, Loss
from jaxft.rl.env import Box, Discrete
from jaxft.rl.networks import Network, Output
from jaxft.rl.policies import Choice
from jaxft.rl.recipe import RlRecipe
from jaxft.rl.rollout import Seen, Steps
from jaxft.train.partition import Flat


class Experience(NamedTuple):
    """What is learned from, [T · n]."""

    seen: Seen
    action: Array
    log_prob: Array
    advantage: Array
    target: Array


class ActorCritic:
    """What both agents have in common."""

    head = "policy"

    def __init__(self, recipe: RlRecipe, network: Network, actions: Discrete | Box) -> None:
        self._rl, self._network, self._continuous = recipe.rl, network, isinstance(actions, Box)
        self._groups = recipe.train.micro_batches
        self._rollout_size = recipe.rl.num_envs * recipe.rl.rollout
        self._lambda = recipe.rl.ppo.gae_lambda

    def initial_extra(self, trainable: Flat, frozen: Flat) -> tuple[()]:
        return ()

    def initial_memory(self, like: Steps, num_envs: int) -> Experience:
        """An iteration's experience; there is none before the first."""
        count = num_envs * self._rl.rollout

        def zeros(x: Any) -> Array:
            return jnp.zeros((count, *x.shape), x.dtype)

        seen, action = jax.tree.map(zeros, (like.seen, like.action))
        none = jnp.zeros((count,), jnp.float32)
        return Experience(seen, action, none, none, none)

    def act(self, learner: Learner, seen: Seen, words: Array, level: Array) -> tuple[Choice, Array]:
        out = self._network.apply(learner.trainable, learner.frozen, seen.observation)
        if self._continuous:
            assert out.log_std is not None
            return policies.gaussian(words, out.values, out.log_std), out.state_value
        return policies.choose(words, log_probs_of(out, seen)), out.state_value

    def best(self, trainable: Flat, frozen: Flat, seen: Seen) -> Choice:
        out = self._network.apply(trainable, frozen, seen.observation)
        action = out.values if self._continuous else jnp.argmax(log_probs_of(out, seen), axis=-1).astype(jnp.int32)
        none = jnp.zeros(out.state_value.shape, jnp.float32)
        return Choice(action, none, none, jnp.ones(none.shape, jnp.bool_))

    def remember(self, learner: Learner, group: Group, steps: Steps) -> Group:
        following = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), steps.following.observation)
        after = self._network.apply(learner.trainable, learner.frozen, following).state_value
        after = jnp.where(steps.terminated, 0.0, after.reshape(steps.reward.shape))
        advantage = advantages(
            self._rl.reward_scale * steps.reward,
            steps.value,
            after,
            steps.terminated | steps.truncated,
            self._rl.discount,
            self._lambda,
        )
        met = Experience(steps.seen, steps.action, steps.log_prob, advantage, advantage + steps.value)
        return group._replace(memory=jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), met))

    def is_ready(self, group: Group) -> Array:
        return jnp.bool_(True)

    def after_update(self, learner: Learner) -> Learner:
        return learner

    def _judged(self, trainable: Flat, frozen: Flat, batch: Experience) -> tuple[Array, Array, Array]:
        """(log-probabilities of the actions taken, entropies, values), [B] each."""
        out = self._network.apply(trainable, frozen, batch.seen.observation)
        if self._continuous:
            assert out.log_std is not None
            log_prob = policies.gaussian_log_prob(batch.action, out.values, out.log_std)
            entropy = jnp.sum(out.log_std + policies.GAUSSIAN_ENTROPY) + jnp.zeros_like(log_prob)
            return log_prob, entropy, out.state_value
        log_probs = log_probs_of(out, batch.seen)
        log_prob = jnp.take_along_axis(log_probs, batch.action[:, None], -1)[:, 0]
        return log_prob, policies.entropy(log_probs), out.state_value

    def _with_the_rest(self, surrogate: Array, entropy: Array, value: Array, batch: Experience, size: int) -> Loss:
        ppo, scale = self._rl.ppo, 1.0 / size
        policy = -jnp.sum(surrogate) * scale
        error = jnp.sum(jnp.square(value - batch.target)) * (0.5 * scale)
        mean_entropy = jnp.sum(entropy) * scale
        total = policy + ppo.value_weight * error - ppo.entropy_weight * mean_entropy
        return Loss(total, {"loss": total, "policy_loss": policy, "value_loss": error})


class Reinforce(ActorCritic):
    """REINFORCE with the value function as its baseline."""

    num_updates = 1

    def __init__(self, recipe: RlRecipe, network: Network, actions: Discrete | Box) -> None:
        super().__init__(recipe, network, actions)
        self._lambda = 1.0

    def batch(self, memory: Experience, update: Array, words: Array) -> Experience:
        return memory

    def loss(self, trainable: Flat, frozen: Flat, extra: Any, batch: Experience) -> Loss:
        log_prob, entropy, value = self._judged(trainable, frozen, batch)
        surrogate = log_prob * normalised(batch.advantage)
        return self._with_the_rest(surrogate, entropy, value, batch, self._rollout_size)


class Ppo(ActorCritic):
    """PPO with clipped ratios."""

    def __init__(self, recipe: RlRecipe, network: Network, actions: Discrete | Box) -> None:
        super().__init__(recipe, network, actions)
        self._batch_size = recipe.train.batch_size
        self._batches = self._rollout_size // self._batch_size
        self.num_updates = recipe.rl.ppo.epochs * self._batches

    def batch(self, memory: Experience, update: Array, words: Array) -> Experience:
        """One part of this pass's permutation of the group's experience."""
        return in_passes(memory, update, self._batches, self._batch_size // self._groups, words)

    def loss(self, trainable: Flat, frozen: Flat, extra: Any, batch: Experience) -> Loss:
        log_prob, entropy, value = self._judged(trainable, frozen, batch)
        ratio, advantage = jnp.exp(log_prob - batch.log_prob), normalised(batch.advantage)
        clip = self._rl.ppo.clip
        surrogate = jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - clip, 1 + clip) * advantage)
        loss = self._with_the_rest(surrogate, entropy, value, batch, self._batch_size)
        moved = jnp.sum(ratio - 1 - (log_prob - batch.log_prob)) / self._batch_size  # the k3 estimate of the divergence
        return loss._replace(told={**loss.told, "kl": moved})


def advantages(reward: Array, value: Array, after: Array, over: Array, discount: float, gae_lambda: float) -> Array:
    """Generalised advantage estimates, [T, n]. value: of the states; after: of those after the actions, 0 where the
    episode terminated. over: nothing is carried back across these."""
    delta = reward + discount * after - value

    def back(later: Array, given: tuple[Array, Array]) -> tuple[Array, Array]:
        delta, over = given
        now = delta + discount * gae_lambda * jnp.where(over, 0.0, later)
        return now, now

    _, found = jax.lax.scan(back, jnp.zeros_like(delta[0]), (delta, over), reverse=True)
    return found


def normalised(advantage: Array) -> Array:
    """With mean 0 and deviation 1."""
    return (advantage - advantage.mean()) / (advantage.std() + 1e-8)


def in_passes(memory: Any, update: Array, batches: int, size: int, words: Array) -> Any:
    """Batch number `update` of `size` rows of a memory, where each pass over it, in `batches`, has an order of its own.
    words: uint32 [2], of the iteration."""
    count = jax.tree.leaves(memory)[0].shape[0]
    order = draws.permutation(draws.fold_in(words, update // batches), count)
    chosen = jax.lax.dynamic_slice_in_dim(order, (update % batches) * size, size)
    return jax.tree.map(lambda x: x[chosen], memory)


def log_probs_of(out: Output, seen: Seen) -> Array:
    """Of all actions, [B, A]; -inf where one is not valid."""
    logits = out.values if seen.valid is None else jnp.where(seen.valid, out.values, -jnp.inf)
    return jax.nn.log_softmax(logits)
