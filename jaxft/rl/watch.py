"""Playing what was learned: the mean return of greedy episodes, and a picture of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxft import draws, prng
from jaxft.errors import UserError
from jaxft.rl import converge, export, rollout, show
from jaxft.rl.converge import shown
from jaxft.rl.program import to_env
from jaxft.rl.setup import EVALUATION


def watch(path: str | Path, episodes: int, seed: int, picture: str = "") -> str:
    """Plays the agent of a run; what came of it, in words. picture: a .gif or .png; empty: episode.gif in the folder.
    Of a dialogue the first episode is given as text.

    Raises UserError.
    """
    if episodes < 1:
        raise UserError("--episodes", f"must be at least 1, is {episodes}")
    saved = export.read(path)
    words = draws.fold_in(prng.device_words(prng.stream("environment", seed)), EVALUATION)
    act = _act(saved)
    env = saved.setup.judge
    play = jax.jit(lambda words: rollout.episodes(env, act, to_env(env), episodes, words))
    found = converge.score(*play(words))
    told = f"{saved.facts['agent']} in {saved.facts['env']}, seed {saved.facts['seed']}: "
    told += (
        f"mean return {shown(found.mean)} ({shown(found.low)} to {shown(found.high)}) over {found.episodes:,} episodes"
    )
    states, action, reward = _first_episode(saved, act, words)
    transcript = getattr(env, "transcript", None)
    if transcript is not None:
        last = jax.tree.map(lambda x: x[-1], states)
        said = "\n".join(f"  {line}" for line in transcript(last))
        return f"{told}\n{said}\n  action {action[-1]}, return {reward.sum():g}"
    target = Path(picture) if picture else Path(path) / "episode.gif"
    if target.suffix == ".png":
        show.strip(env, states, target)
    else:
        show.animate(env, states, target)
    return f"{told}\nepisode: {target}"


def _act(saved: export.Saved) -> Any:
    def act(seen: rollout.Seen, _: jax.Array) -> Any:
        choice = saved.setup.agent.best(saved.trainable, saved.frozen, seen)
        return choice, choice.log_prob

    return act


def _first_episode(saved: export.Saved, act: Any, words: jax.Array) -> tuple[Any, np.ndarray, np.ndarray]:
    """(states, actions, rewards) of the first episode, stacked over time, on the host."""
    env = saved.setup.judge
    actors = rollout.begin(env, jnp.zeros((1,), jnp.uint32), words)
    streams = rollout.Words(words, words, words, words)
    to = to_env(env)

    def record(actors: Any) -> Any:
        def one(now: Any, _: Any) -> Any:
            after, steps, _ = rollout.rollout(env, act, to, now, 1, streams)
            over = (steps.terminated | steps.truncated)[0]
            return after, (now.state, steps.action[0], steps.reward[0], over)

        return jax.lax.scan(one, actors, length=env.max_steps)[1]

    *told, over = jax.tree.map(lambda x: np.asarray(x[:, 0]), jax.jit(record)(actors))
    ends = np.flatnonzero(over)
    last = int(ends[0]) + 1 if len(ends) else env.max_steps
    states, action, reward = jax.tree.map(lambda x: x[:last], told)
    return states, action, reward
