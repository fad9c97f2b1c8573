"""What is searched: an environment, or a model of one, as pure functions over a batch."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from jax import Array


class Step(NamedTuple):
    """What an action of each element leads to, B elements and A actions.

    reward: to the player who acted. discount: of the value of `state`, 0 where the episode ends. logits, value: of the
    policy and value function at `state`; the value is the player's who acts there. done: the episode is over; such a
    state is never asked about again. valid: actions allowed at `state`, at least one where it is not done.
    """

    state: Any  # [B, ...]
    reward: Array  # f [B]
    discount: Array  # f [B]
    logits: Array  # f [B, A]
    value: Array  # f [B]
    done: Array  # bool [B]
    valid: Array  # bool [B, A]


class Root(NamedTuple):
    """The states that searches start from."""

    state: Any  # [B, ...]
    logits: Array  # f [B, A]
    value: Array  # f [B]
    valid: Array | None = None  # bool [B, A]; none: all


class Env(Protocol):
    """An environment is any object with `expand`, and, where they apply:

    player(state) -> i32 [B]: whose turn it is. A value changes its sign where the turn goes to the other player, so two
        moves of one player in a row are right.
    bound: the greatest possible return. A state from which it can be had is solved without a look at other actions.
    """

    def expand(self, state: Any, action: Array, key: Array) -> Step | tuple:
        """The outcome of actions [B] in states [B, ...]; randomness from keys [B] alone."""
        ...
