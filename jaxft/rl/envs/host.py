"""Any environment of gymnasium, run on the host and called from the device: `gym:CartPole-v1`.

What is lost against the environments that are functions of their state:
- Steps are not pure. A state is only the name of an episode and the number of its steps; what is behind it is on the
  host. Each state may be stepped once: no search, no going back, and a second step from it is an error.
- Everything runs on the host's CPU, one environment after the other, in one call for a whole batch.
- As many episodes can be under way as there are environments, `max_envs`. One that has not been stepped for longest
  gives its environment up when there is none left; stepping it after that is an error.
- Each reset is done twice: once for the observation, and again where the episode's first step is taken. So many starts
  can be asked for ahead of time, and only those that are played hold an environment. An environment whose reset depends
  on more than its seed is not for this.

What is kept: the same keys and actions give the same numbers, in whatever order and batches they come. A reset with the
key of seed s, `jax.random.key(s)`, is gymnasium's `reset(seed=s)` for s below 2**31; of other keys the seed is the last
31 bits, for some environments take no more.
"""

from __future__ import annotations

import difflib
import math
import threading
import weakref
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxft.errors import UserError
from jaxft.rl.env import Box, Discrete, Outcome

NAMES: dict[str, str] = {}
"""None by name: whatever gymnasium has."""
prefix = "gym:"


def make(name: str, max_envs: int = 64, max_steps: int | None = None, **settings: Any) -> Gym:
    """gymnasium's environment `name` without the prefix. max_steps: its time limit, by default its own. settings: for
    `gymnasium.make`. Raises UserError where gymnasium or the environment is missing, or has spaces of another kind."""
    if max_envs < 1:
        raise UserError("rl.env", f"max_envs is {max_envs}", "1 or more")
    pool = Pool(name.removeprefix(prefix), max_envs, {"max_episode_steps": max_steps, **settings})
    spec = pool.scratch.spec
    limit = None if spec is None else spec.max_episode_steps
    if spec is None or limit is None:
        raise UserError("rl.env", f"{name} has no time limit", "give one: max_steps")
    return Gym(name, _actions(name, pool.scratch.action_space), spec.reward_threshold, limit, pool)


class State(NamedTuple):
    """episode: u32 [2], the words of the key that began it. steps: i32 [], taken. over: bool []."""

    episode: Array
    steps: Array
    over: Array


@dataclass(frozen=True)
class Gym:
    """An environment of gymnasium. Observation: f32, of its own shape for a Box, flat for spaces that gymnasium can
    flatten (Discrete: 1 at the number). A step after the end is not taken: zeros, terminated."""

    name: str
    actions: Discrete | Box
    threshold: float | None
    max_steps: int
    pool: Pool = field(repr=False)

    def reset(self, key: Array) -> tuple[State, Array]:
        words = jax.random.key_data(key)
        observation = self._call(self.pool.reset, (words,), (1,), self.pool.observation)
        return State(words, jnp.int32(0), jnp.zeros((), jnp.bool_)), observation

    def step(self, state: State, action: Array, key: Array) -> Outcome:
        """key: not used; what is random in a step goes on from the seed of the episode."""
        scalar, flag = jax.ShapeDtypeStruct((), jnp.float32), jax.ShapeDtypeStruct((), jnp.bool_)
        # The count of steps comes back from the host, so that no step can be called before the one it follows.
        outputs = (jax.ShapeDtypeStruct((), jnp.int32), self.pool.observation, scalar, flag, flag)
        inputs = (state.episode, state.steps, state.over, action)
        ranks = (1, 0, 0, int(isinstance(self.actions, Box)))
        found = self._call(self.pool.step, inputs, ranks, outputs)
        steps, observation, reward, terminated, truncated = found
        after = State(state.episode, steps, state.over | terminated | truncated)
        return Outcome(after, observation, reward, terminated, truncated)

    def close(self) -> None:
        """Closes the environments. Episodes under way are lost."""
        self.pool.close()

    def _call(self, function: Any, inputs: tuple[Array, ...], ranks: tuple[int, ...], outputs: Any) -> Any:
        """One call of the host for a whole batch, however many `vmap`s it is inside of. ranks: of one input each."""

        @jax.custom_batching.custom_vmap
        def batched(*arrays: Array) -> Any:
            batch = arrays[0].shape[: arrays[0].ndim - ranks[0]]
            if function == self.pool.step:
                self.pool.check(math.prod(batch))
            wanted = jax.tree.map(lambda one: jax.ShapeDtypeStruct((*batch, *one.shape), one.dtype), outputs)

            def host(*arrays: Any) -> Any:
                each = [_rows(x, rank) for x, rank in zip(arrays, ranks, strict=True)]
                found = function(*each)
                return jax.tree.map(lambda x, want: np.asarray(x, want.dtype).reshape(want.shape), found, wanted)

            return jax.pure_callback(host, wanted, *arrays, vmap_method="sequential")

        @batched.def_vmap
        def _(size: int, is_mapped: list[bool], *arrays: Array) -> tuple[Any, Any]:
            same = zip(arrays, is_mapped, strict=True)
            found = batched(*(x if mapped else jnp.broadcast_to(x, (size, *x.shape)) for x, mapped in same))
            return found, jax.tree.map(lambda _: True, found)

        return batched(*inputs)


def _rows(array: Any, rank: int) -> np.ndarray:
    """[batch, ...] of an array with any number of batch axes."""
    array = np.asarray(array)
    return array.reshape(-1, *array.shape[array.ndim - rank :])


# --- on the host -----------------------------------------------------------------------------------------------------


@dataclass
class _Playing:
    env: Any
    steps: int


class Pool:
    """Environments of one kind, made when they are needed, at most `max_envs` of them and one for resets."""

    def __init__(self, name: str, max_envs: int, settings: dict[str, Any]) -> None:
        self.name, self.max_envs, self._settings = name, max_envs, settings
        self.scratch = _new(name, settings)
        self.made: list[Any] = [self.scratch]
        self._idle: list[Any] = []
        self._playing: OrderedDict[bytes, _Playing] = OrderedDict()  # the one not stepped for longest is first
        self._lock = threading.Lock()  # programs of several devices call at once
        self._discrete_start = int(getattr(self.scratch.action_space, "start", 0))
        self.observation = _observation(f"{prefix}{name}", self.scratch.observation_space)
        weakref.finalize(self, _close, self.made)

    def check(self, count: int) -> None:
        """Raises UserError where a batch is larger than the pool."""
        if count > self.max_envs:
            what = f"{count} environments of {self.name} are stepped at once, {self.max_envs} is the most"
            raise UserError("rl.env", what, f"fewer environments, or max_envs={count}")

    def reset(self, words: np.ndarray) -> np.ndarray:
        """Observations [n, ...] that episodes [n, 2] begin with."""
        with self._lock:
            return np.stack([self._observe(self.scratch.reset(seed=_seed(one))[0]) for one in words])

    def step(self, words: np.ndarray, steps: np.ndarray, over: np.ndarray, actions: np.ndarray) -> tuple:
        """(steps, observations, rewards, terminated, truncated), [n, ...] each."""
        names = [one.tobytes() for one in words]
        if len(set(names)) < len(names):
            raise UserError("rl.env", f"a batch has two episodes of {self.name} with one key", "a key for each")
        with self._lock:
            rows = zip(names, words, steps, over, actions, strict=True)
            outcomes = [self._step(name, one, int(at), end, action, names) for name, one, at, end, action in rows]
        return tuple(np.stack(part) for part in zip(*outcomes, strict=True))

    def close(self) -> None:
        with self._lock:
            self._playing.clear()
            self._idle.clear()
            _close(self.made[1:])
            del self.made[1:]

    def _step(
        self, name: bytes, words: np.ndarray, at: int, over: Any, action: np.ndarray, batch: list[bytes]
    ) -> tuple:
        if over:
            return at, np.zeros(self.observation.shape, np.float32), 0.0, True, False
        if at == 0:
            self._begin(name, words, batch)
        playing = self._playing.get(name)
        if playing is None or playing.steps != at:
            raise UserError(
                "rl.env",
                f"step {at + 1} of an episode of {self.name} is not the one that is next on the host: its state was "
                f"stepped before, or more than {self.max_envs} episodes are under way",
                "step each state once, or a larger max_envs",
            )
        observation, reward, terminated, truncated, _ = playing.env.step(self._action(action))
        playing.steps += 1
        self._playing.move_to_end(name)
        if terminated or truncated:
            self._idle.append(self._playing.pop(name).env)
        return at + 1, self._observe(observation), float(reward), bool(terminated), bool(truncated)

    def _begin(self, name: bytes, words: np.ndarray, batch: list[bytes]) -> None:
        if name in self._playing:
            env = self._playing.pop(name).env
        elif self._idle:
            env = self._idle.pop()
        elif len(self.made) <= self.max_envs:
            env = _new(self.name, self._settings)
            self.made.append(env)
        else:
            oldest = next(other for other in self._playing if other not in batch)  # there is one: see `check`
            env = self._playing.pop(oldest).env
        env.reset(seed=_seed(words))
        self._playing[name] = _Playing(env, 0)

    def _action(self, action: np.ndarray) -> Any:
        space = self.scratch.action_space
        if action.ndim == 0:
            return int(action) + self._discrete_start
        return np.clip(action.reshape(space.shape), space.low, space.high).astype(space.dtype)

    def _observe(self, observation: Any) -> np.ndarray:
        import gymnasium

        space = self.scratch.observation_space
        if not isinstance(space, gymnasium.spaces.Box):
            observation = gymnasium.spaces.flatten(space, observation)
        return np.asarray(observation, np.float32)


def _seed(words: np.ndarray) -> int:
    return int(words[1]) & 0x7FFFFFFF


def _close(envs: list[Any]) -> None:
    for env in envs:
        env.close()


def _new(name: str, settings: dict[str, Any]) -> Any:
    try:
        import gymnasium
    except ImportError:
        raise UserError("rl.env", "gymnasium is not installed", 'pip install "jaxft[gym]"') from None
    try:
        return gymnasium.make(name, **settings)
    except gymnasium.error.UnregisteredEnv as error:
        near = difflib.get_close_matches(name, gymnasium.registry, n=1)
        fix = f"did you mean `{prefix}{near[0]}`?" if near else "gymnasium.pprint_registry() names what there is"
        raise UserError("rl.env", f"gymnasium has no environment {name!r}: {error}", fix) from None
    except (gymnasium.error.Error, TypeError, ImportError) as error:  # settings it does not take, packages it lacks
        raise UserError("rl.env", f"gymnasium cannot make {name}: {error}") from None


def _actions(name: str, space: Any) -> Discrete | Box:
    import gymnasium

    if isinstance(space, gymnasium.spaces.Discrete):
        return Discrete(int(space.n))
    if isinstance(space, gymnasium.spaces.Box):
        low, high = (tuple(float(x) for x in np.ravel(bound)) for bound in (space.low, space.high))
        return Box(low, high)
    raise UserError("rl.env", f"{name} takes actions of {space}", "an environment with a Discrete or Box space")


def _observation(name: str, space: Any) -> jax.ShapeDtypeStruct:
    import gymnasium

    if isinstance(space, gymnasium.spaces.Box):
        return jax.ShapeDtypeStruct(space.shape, jnp.float32)
    if not space.is_np_flattenable:
        raise UserError("rl.env", f"{name} gives observations of {space}", "one that gymnasium can flatten")
    return jax.ShapeDtypeStruct((gymnasium.spaces.flatdim(space),), jnp.float32)
