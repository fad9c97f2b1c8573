"""What agents minimise, on numbers worked out by hand, in plain Python or by finite differences."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxft import draws
from jaxft.rl import agents, replay
from jaxft.rl.agents.actor_critic import Experience, Ppo, Reinforce, advantages, in_passes, log_probs_of, normalised
from jaxft.rl.agents.base import Group, Learner
from jaxft.rl.agents.clone import Clone, Trace
from jaxft.rl.agents.dqn import Dqn, Transition
from jaxft.rl.agents.table import TABLE, Table, TableNetwork
from jaxft.rl.env import Box, Discrete
from jaxft.rl.networks import Output
from jaxft.rl.recipe import RlRecipe
from jaxft.rl.rollout import Seen, Steps
from tests.rl.worlds import recipe_of

WORDS = draws.fold_in(jax.random.key_data(jax.random.key(2)), jnp.arange(4000))
ACTIONS = Discrete(3)


class Linear:
    """A network with values x · w and state value x · v; w [F, A], v [F]."""

    def init(self, words: Any) -> Any:
        return {}, {}

    def apply(self, trainable: Any, frozen: Any, observation: Any) -> Output:
        values = observation @ trainable[("w",)]
        return Output(values, observation @ trainable[("v",)], trainable.get(("s",)))


def params(seed: int = 0, features: int = 4) -> dict[tuple[str, ...], jax.Array]:
    rng = np.random.default_rng(seed)
    w, v = rng.normal(size=(features, ACTIONS.count)), rng.normal(size=features)
    return {("w",): jnp.asarray(w, jnp.float32), ("v",): jnp.asarray(v, jnp.float32)}


def learner(trainable: Any) -> Learner:
    nan = jnp.float32(jnp.nan)
    return Learner(trainable, {}, (), (), jnp.int32(0), jnp.int32(0), nan, nan)


def experience(count: int = 16, seed: int = 1, valid: Any = None) -> Experience:
    rng = np.random.default_rng(seed)
    numbers = jnp.asarray(rng.normal(size=(3, count)), jnp.float32)
    seen = Seen(jnp.asarray(rng.normal(size=(count, 4)), jnp.float32), valid)
    action = jnp.asarray(rng.integers(ACTIONS.count, size=count), jnp.int32)
    return Experience(seen, action, numbers[0] - 1.5, numbers[1], numbers[2])


def recipe(agent: str, **rl: Any) -> RlRecipe:
    return recipe_of(agent=agent, num_envs=4, rollout=4, **rl)


def test_these_are_the_agents_and_each_has_a_line():
    assert set(agents.AGENTS) >= {"q_learning", "dqn", "reinforce", "ppo", "clone"}
    assert set(agents.AGENTS) <= set(agents.LINES)
    heads = {"q_learning": "values", "dqn": "values", "reinforce": "policy", "ppo": "policy", "clone": "policy"}
    assert {name: agents.head_of(name) for name in heads} == heads


# --- advantages ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gae_lambda", [0.0, 0.9, 1.0])
def test_advantages_are_those_of_the_recursion_in_plain_python(gae_lambda):
    rng, length, discount = np.random.default_rng(4), 30, 0.97
    reward, value, following = rng.normal(size=(3, length, 2)).astype(np.float32)
    terminated = rng.random((length, 2)) < 0.15
    truncated = rng.random((length, 2)) < 0.15
    after = np.where(terminated, 0, following)
    given = [jnp.asarray(x) for x in (reward, value, after, terminated | truncated)]
    found = advantages(given[0], given[1], given[2], given[3], discount, gae_lambda)
    for env in range(2):
        later = 0.0
        for t in reversed(range(length)):
            future = 0.0 if terminated[t, env] else discount * following[t, env]
            delta = reward[t, env] + future - value[t, env]
            carried = 0.0 if terminated[t, env] or truncated[t, env] else discount * gae_lambda * later
            later = delta + carried
            np.testing.assert_allclose(found[t, env], later, rtol=1e-4, atol=1e-5)


def test_with_lambda_1_an_advantage_is_the_discounted_return_less_the_value():
    reward, value = jnp.ones((3, 1)), jnp.full((3, 1), 5.0)
    after = jnp.array([[5.0], [5.0], [0.0]])
    over = jnp.array([[False], [False], [True]])
    np.testing.assert_allclose(advantages(reward, value, after, over, 0.5, 1.0)[:, 0], [-3.25, -3.5, -4.0])


def test_an_actor_remembers_scaled_rewards_and_the_value_where_an_episode_was_cut_off():
    agent = Ppo(recipe("ppo", reward_scale=2.0, discount=0.5, ppo={"gae_lambda": 1.0}), Linear(), ACTIONS)
    trainable = {("w",): jnp.zeros((4, 3)), ("v",): jnp.array([1.0, 0, 0, 0])}
    following = jnp.zeros((1, 2, 4)).at[0, :, 0].set(8.0)  # worth 8
    none, one = jnp.zeros((1, 2)), jnp.ones((1, 2))
    ends, cut = jnp.array([[True, False]]), jnp.array([[False, True]])
    seen = Seen(jnp.zeros((1, 2, 4)))
    steps = Steps(seen, none.astype(jnp.int32), none, 3 * one, one, ends, cut, Seen(following))
    memory = agent.remember(learner(trainable), Group((), ()), steps).memory  # type: ignore[arg-type]
    np.testing.assert_allclose(memory.target, [2.0, 2.0 + 0.5 * 8])
    np.testing.assert_allclose(memory.advantage, [-1.0, 3.0])


# --- policy gradients ------------------------------------------------------------------------------------------------


def test_the_gradient_of_reinforce_is_that_of_the_softmax_policy():
    agent = Reinforce(recipe("reinforce", ppo={"value_weight": 0.0}), Linear(), ACTIONS)
    trainable, batch = params(), experience()
    found = jax.jit(jax.grad(lambda p: agent.loss(p, {}, (), batch).total))(trainable)
    x, advantage = np.asarray(batch.seen.observation), np.asarray(normalised(batch.advantage))
    pi = np.asarray(jax.nn.softmax(batch.seen.observation @ trainable[("w",)]))
    # d/dw of -log pi(a | x) A, in the mean: x (pi - 1 at a) A
    expected = x.T @ ((pi - np.eye(3)[np.asarray(batch.action)]) * advantage[:, None]) / len(x)
    np.testing.assert_allclose(found[("w",)], expected, atol=1e-6)
    np.testing.assert_allclose(found[("v",)], 0, atol=1e-7)


def test_value_and_entropy_terms_have_their_weights():
    weights = {"value_weight": 0.7, "entropy_weight": 0.2}
    agent = Reinforce(recipe("reinforce", ppo=weights), Linear(), ACTIONS)
    batch, trainable = experience(), params()
    loss = agent.loss(trainable, {}, (), batch)
    logs = np.asarray(log_probs_of(agent._network.apply(trainable, {}, batch.seen.observation), batch.seen))
    value = np.asarray(batch.seen.observation @ trainable[("v",)])
    policy = -np.mean(logs[np.arange(16), batch.action] * np.asarray(normalised(batch.advantage)))
    error = 0.5 * np.mean((value - np.asarray(batch.target)) ** 2)
    entropy = stats.entropy(np.exp(logs), axis=-1).mean()
    np.testing.assert_allclose(loss.told["policy_loss"], policy, rtol=1e-5)
    np.testing.assert_allclose(loss.told["value_loss"], error, rtol=1e-5)
    np.testing.assert_allclose(loss.total, policy + 0.7 * error - 0.2 * entropy, rtol=1e-5)


@jax.jit
def ppo_on(ratio: jax.Array, advantage: jax.Array) -> tuple[jax.Array, Any]:
    """(policy loss, its gradients) of a state with this ratio and this advantage, beside its mirror image."""
    agent = Ppo(recipe("ppo", train__batch_size=2, ppo={"clip": 0.2, "value_weight": 0.0}), Linear(), ACTIONS)
    trainable = {("w",): jnp.zeros((4, 3)), ("v",): jnp.zeros(4)}
    old = jnp.log(1 / 3) - jnp.log(jnp.stack([ratio, jnp.float32(1)]))
    signs, none = jnp.array([1.0, -1.0]), jnp.zeros(2)
    batch = Experience(Seen(jnp.eye(4)[:2]), jnp.array([0, 0]), old, advantage * signs, none)
    return jax.value_and_grad(lambda p: agent.loss(p, {}, (), batch).told["policy_loss"])(trainable)


@pytest.mark.parametrize(
    ("ratio", "advantage", "counted", "moves"),
    [
        (1.1, 1, 1.1, True),
        (1.5, 1, 1.2, False),  # a good action is not made more likely without end
        (0.5, 1, 0.5, True),
        (1.5, -1, 1.5, True),
        (0.5, -1, 0.8, False),  # nor a bad one less likely
        (0.9, -1, 0.9, True),
    ],
)
def test_ppo_clips_the_ratio_where_it_would_gain_by_going_further(ratio, advantage, counted, moves):
    loss, gradients = ppo_on(jnp.float32(ratio), jnp.float32(advantage))
    np.testing.assert_allclose(loss, -(counted - 1) * advantage / 2, atol=1e-6)  # the other state's ratio is 1
    assert (np.abs(gradients[("w",)][0]) > 1e-3).any() == moves


def test_ppo_tells_the_divergence_from_the_old_policy():
    agent, trainable = Ppo(recipe("ppo"), Linear(), ACTIONS), params()
    batch = experience()
    logs = log_probs_of(agent._network.apply(trainable, {}, batch.seen.observation), batch.seen)
    same = batch._replace(log_prob=jnp.take_along_axis(logs, batch.action[:, None], 1)[:, 0])
    np.testing.assert_allclose(agent.loss(trainable, {}, (), same).told["kl"], 0, atol=1e-6)
    assert float(agent.loss(trainable, {}, (), batch).told["kl"]) > 0.1


@pytest.mark.parametrize("name", ["ppo", "reinforce"])
def test_continuous_actions_have_the_density_of_their_normal_distribution(name):
    agent = agents.AGENTS[name](
        recipe(name, ppo={"value_weight": 0.0, "entropy_weight": 0.5}), Linear(), Box((-1.0,), (1.0,))
    )
    trainable = {("w",): params()[("w",)][:, :1], ("v",): params()[("v",)], ("s",): jnp.array([-0.3])}
    batch = experience()._replace(action=jnp.linspace(-1, 1, 16)[:, None])
    mean = np.asarray(batch.seen.observation @ trainable[("w",)])
    log_prob = stats.norm.logpdf(np.asarray(batch.action), mean, np.exp(-0.3))[:, 0]
    advantage = np.asarray(normalised(batch.advantage))
    ratio = np.exp(log_prob - np.asarray(batch.log_prob))
    surrogate = np.minimum(ratio * advantage, np.clip(ratio, 0.8, 1.2) * advantage)
    policy = -np.mean(surrogate if name == "ppo" else log_prob * advantage)
    loss = agent.loss(trainable, {}, (), batch)
    np.testing.assert_allclose(loss.told["policy_loss"], policy, rtol=1e-4)
    np.testing.assert_allclose(loss.total, policy - 0.5 * stats.norm.entropy(0, np.exp(-0.3)), rtol=1e-4)
    np.testing.assert_array_equal(agent.best(trainable, {}, batch.seen).action, mean.astype(np.float32))


@pytest.mark.slow
def test_actions_that_are_not_valid_are_neither_drawn_nor_best_nor_learned_from():
    valid = jnp.asarray(np.random.default_rng(3).random((16, 3)) < 0.5).at[:, 1].set(True)
    batch, trainable = experience(valid=valid), params()
    for agent in (Ppo(recipe("ppo"), Linear(), ACTIONS), Dqn(recipe("dqn"), Linear(), ACTIONS)):
        for action in (agent.act(learner(trainable), batch.seen, WORDS[:16], jnp.float32(1.0))[0].action,
                       agent.best(trainable, {}, batch.seen).action):  # fmt: skip
            assert valid[jnp.arange(16), action].all()
    usual = batch._replace(action=jnp.ones(16, jnp.int32))  # always valid
    grads = jax.grad(lambda p: Reinforce(recipe("reinforce"), Linear(), ACTIONS).loss(p, {}, (), usual).total)(
        trainable
    )
    assert all(np.isfinite(leaf).all() for leaf in grads.values())


def test_passes_over_a_memory_take_each_row_once_in_an_order_of_their_own():
    memory = {"row": jnp.arange(12), "pair": jnp.arange(24).reshape(12, 2)}
    take = jax.jit(lambda update: in_passes(memory, update, 3, 4, WORDS[0]))
    batches = [take(jnp.int32(update)) for update in range(6)]
    passes = [np.concatenate([batch["row"] for batch in batches[at : at + 3]]) for at in (0, 3)]
    assert all(sorted(rows) == list(range(12)) for rows in passes) and not np.array_equal(passes[0], passes[1])
    np.testing.assert_array_equal(batches[4]["pair"][:, 0], 2 * batches[4]["row"])


# --- action values ---------------------------------------------------------------------------------------------------


def transition(valid: Any = None) -> Transition:
    """Three steps from one-hot states to state 3; the last one ends its episode."""
    following = Seen(jnp.eye(4)[jnp.array([3, 3, 3])], valid)
    ends = jnp.array([False, False, True])
    return Transition(jnp.eye(4)[:3], jnp.array([0, 1, 2]), jnp.array([1.0, 2.0, 3.0]), ends, following)


ONLINE = {("w",): jnp.zeros((4, 3)).at[3].set(jnp.array([1.0, 9.0, 2.0])), ("v",): jnp.zeros(4)}
TARGET = {("w",): jnp.zeros((4, 3)).at[3].set(jnp.array([5.0, 3.0, 4.0])), ("v",): jnp.zeros(4)}


@pytest.mark.parametrize(
    ("double", "valid", "future"),
    [
        (False, None, 5.0),  # the target network's own best
        (True, None, 3.0),  # what the target network says of the online network's best
        (False, [False, True, True], 4.0),
        (True, [True, False, True], 4.0),
    ],
)
def test_targets_of_deep_q_learning(double, valid, future):
    agent = Dqn(
        recipe("dqn", discount=0.5, reward_scale=10.0, train__batch_size=4, dqn={"buffer": 256, "double": double}),
        Linear(),
        ACTIONS,
    )
    mask = None if valid is None else jnp.broadcast_to(jnp.array(valid), (3, 3))
    loss, grads = jax.value_and_grad(lambda p: agent.loss(p, {}, TARGET, transition(mask)).total)(ONLINE)
    targets = [10 + 0.5 * future, 20 + 0.5 * future, 30]  # all values of the states themselves are 0
    np.testing.assert_allclose(loss, np.sum(np.square(targets)) / 4, rtol=1e-6)
    expected = np.zeros((4, 3))
    expected[range(3), range(3)] = -2 * np.array(targets) / 4
    np.testing.assert_allclose(grads[("w",)], expected, rtol=1e-6)  # none through the target


def test_the_target_network_is_a_copy_taken_every_so_many_updates():
    agent = Dqn(recipe("dqn", dqn={"buffer": 256, "target_every": 3}), Linear(), ACTIONS)
    assert all((agent.initial_extra(ONLINE, {})[key] == ONLINE[key]).all() for key in ONLINE)
    for updates, copied in [(1, False), (2, False), (3, True), (4, False), (6, True)]:
        now = learner(ONLINE)._replace(extra=TARGET, updates=jnp.int32(updates))
        kept = agent.after_update(now).extra
        np.testing.assert_array_equal(kept[("w",)], (ONLINE if copied else TARGET)[("w",)])


def test_deep_q_learning_begins_when_there_is_enough_in_all_groups_together():
    agent = Dqn(recipe("dqn", train__micro_batches=2, dqn={"buffer": 256, "learning_starts": 24}), Linear(), ACTIONS)
    for added, ready in [(8, False), (11, False), (12, True)]:
        buffer = replay.Buffer((), jnp.int32(added))
        assert bool(agent.is_ready(Group((), buffer))) == ready  # type: ignore[arg-type]


def test_a_table_moves_by_the_rate_times_the_mean_error_of_each_state_and_action():
    agent = Table(recipe("q_learning", discount=0.5), TableNetwork(4, 3), ACTIONS)
    Q = np.arange(12, dtype=np.float32).reshape(4, 3)
    state, action = jnp.array([0, 0, 1, 2]), jnp.array([1, 1, 0, 2])
    following = Seen(jnp.eye(4)[jnp.array([1, 2, 3, 3])])
    reward, ends = jnp.array([1.0, 2.0, 3.0, 4.0]), jnp.array([False, False, False, True])
    batch = Transition(jnp.eye(4)[state], action, reward, ends, following)
    grads = jax.grad(lambda p: agent.loss(p, {}, (), batch).total)({TABLE: jnp.asarray(Q)})[TABLE]
    expected = np.zeros((4, 3))
    expected[0, 1] = Q[0, 1] - np.mean([1 + 0.5 * 5, 2 + 0.5 * 8])
    expected[1, 0] = Q[1, 0] - (3 + 0.5 * 11)
    expected[2, 2] = Q[2, 2] - 4
    np.testing.assert_allclose(grads, expected, rtol=1e-6)


# --- cloning ---------------------------------------------------------------------------------------------------------


def test_the_loss_of_cloning_is_the_cross_entropy_of_the_actions_taken():
    agent = Clone(recipe("clone"), Linear(), ACTIONS)
    batch, trainable = experience(), params()
    logits = np.asarray(batch.seen.observation @ trainable[("w",)], np.float64)
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    found = agent.loss(trainable, {}, (), Trace(batch.seen, batch.action))
    np.testing.assert_allclose(found.total, -logs[np.arange(16), batch.action].mean(), rtol=1e-5)


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_that_share_of_an_experts_actions_is_another_valid_one(noise):
    agent = Clone(recipe("clone", clone={"noise": noise}), Linear(), Discrete(4))
    count = len(WORDS)
    valid = jnp.broadcast_to(jnp.array([True, True, False, True]), (count, 4))
    seen = Seen(jnp.zeros((count, 4)), valid, jnp.full(count, 1))
    act = jax.jit(lambda seen: agent.act(learner({}), seen, WORDS, jnp.float32(1))[0].action)
    counts = np.bincount(np.asarray(act(seen)), minlength=4)
    expected = count * np.array([noise / 2, 1 - noise, 0, noise / 2])
    assert counts[2] == 0
    if noise == 0:
        np.testing.assert_array_equal(counts, expected)
    else:
        assert stats.chisquare(counts[[0, 1, 3]], expected[[0, 1, 3]]).pvalue > 1e-4
    alone = seen._replace(valid=jnp.broadcast_to(jnp.array([False, True, False, False]), (count, 4)))
    assert (np.asarray(act(alone)) == 1).all()
