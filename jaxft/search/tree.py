"""The search tree: flat arrays, one row a node, over a batch of independent searches.

Node n of batch element b is row n·B + b, so one gather of B rows reads a node of every element, one scatter of B rows
writes them, and nothing is copied whole. Statistics of an edge lie twice: at the child, where the backup reads them,
and in the parent's row, where selection reads all actions at once.

Row b is the root of element b. A row that no node has: visits 0, parents and actions -1.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

ROOT, NONE = 0, -1
"""Number of the root; what stands for no node."""


class Here(NamedTuple):
    """A node of each element [B], or of one, and what of its rows was read already, by the names of `Nodes`' fields."""

    node: Any
    rows: dict[str, Array]


class Nodes(struct.PyTreeNode):
    """A batch of trees; R = N·B rows for N nodes and B elements, A actions."""

    visits: Array  # i32 [R] simulations that went through or ended here
    values: Array  # f [R] mean return from here on
    raw_values: Array  # f [R] as evaluated
    parents: Array  # i32 [R] node number
    actions: Array  # i32 [R] the parent's action that leads here
    rewards: Array  # f [R] of that action
    discounts: Array  # f [R] between that reward and the value
    children: Array  # i32 [R, A] node number
    child_visits: Array  # i32 [R, A]
    child_q: Array  # f [R, A] reward + discount · value of the child
    logits: Array  # f [R, A] of the prior
    priors: Array  # f [R, A] softmax of the logits
    states: Any  # [R, ...]
    batch: int = struct.field(pytree_node=False)
    done: Any = None  # bool [R] the episode is over; it and what follows are None in mctx's searches
    valid: Any = None  # bool [R, A] actions that are allowed
    keys: Any = None  # uint32 [R, 2] words of the key that the node was made with
    depths: Any = None  # i32 [R] edges from the root
    solved: Any = None  # bool [R] the value is exact
    child_solved: Any = None  # bool [R, A]

    @property
    def num_nodes(self) -> int:
        return self.visits.shape[0] // self.batch

    @property
    def num_actions(self) -> int:
        return self.children.shape[-1]

    def rows(self, nodes: Array, where: Array | None = None) -> Array:
        """Rows [B] of one node of each element; where not `where`, a row that a scatter drops."""
        elements = jnp.arange(self.batch, dtype=jnp.int32)
        rows = nodes * self.batch + elements
        return rows if where is None else jnp.where(where, rows, self.visits.shape[0] + elements)

    def at(self, here: Here, name: str) -> Array:
        """Rows [B, ...] of one field."""
        return here.rows[name] if name in here.rows else take(getattr(self, name), self.rows(here.node))

    def child_at(self, here: Here, actions: Array) -> Array:
        """As child_of."""
        if "children" not in here.rows:
            return self.child_of(here.node, actions)
        return jnp.take_along_axis(here.rows["children"], actions[:, None], axis=1)[:, 0]

    def child_of(self, nodes: Array, actions: Array) -> Array:
        """Number of the child [B] that each element's action leads to, NONE if there is none yet."""
        return take(self.children, (self.rows(nodes), actions))


def empty(logits: Array, value: Array, states: Any, num_nodes: int) -> Nodes:
    """Trees of room for `num_nodes` nodes that hold their roots: logits [B, A], value [B], states [B, ...]."""
    batch, actions = logits.shape
    size = num_nodes * batch

    def room(x: Array, fill: Any = 0) -> Array:
        return jnp.full((size, *x.shape[1:]), fill, x.dtype).at[:batch].set(x)

    nobody, zero = jnp.full(size, NONE, jnp.int32), jnp.zeros(size, value.dtype)
    return Nodes(
        visits=room(jnp.ones(batch, jnp.int32)),
        values=room(value),
        raw_values=room(value),
        parents=nobody,
        actions=nobody,
        rewards=zero,
        discounts=zero,
        children=jnp.full((size, actions), NONE, jnp.int32),
        child_visits=jnp.zeros((size, actions), jnp.int32),
        child_q=jnp.zeros((size, actions), value.dtype),
        logits=room(logits),
        priors=room(jax.nn.softmax(logits)),
        states=jax.tree.map(lambda x: jnp.zeros((size, *x.shape[1:]), x.dtype).at[:batch].set(x), states),
        batch=batch,
    )


def take(x: Array, at: Any) -> Array:
    """Entries of x that are known to be there."""
    return x.at[at].get(mode="promise_in_bounds")


def put(x: Array, at: Any, values: Any, *, sure: bool = False) -> Array:
    """x with other entries at `at`, no two of which are the same; those out of range are dropped, unless it is sure
    that there are none."""
    return x.at[at].set(values, mode="promise_in_bounds" if sure else "drop", unique_indices=True)


def add(x: Array, at: Any, amount: Any, *, sure: bool = False) -> Array:
    """x with an amount added at `at`, otherwise as `put`."""
    return x.at[at].add(amount, mode="promise_in_bounds" if sure else "drop", unique_indices=True)


def put_block(x: Array, first: Array, values: Array) -> Array:
    """x with other entries in rows from `first` on."""
    return jax.lax.dynamic_update_slice_in_dim(x, values.astype(x.dtype), first, axis=0)


def fields(nodes: Nodes) -> dict[str, Array]:
    """What selections look up at a node, by name: [R] and [R, A]."""
    names = ("visits", "values", "raw_values", "solved")
    names += ("children", "child_visits", "child_q", "logits", "priors", "valid", "child_solved")
    return {name: getattr(nodes, name) for name in names if getattr(nodes, name) is not None}


class Column:
    """One field of the nodes as one batch element sees it: field[node], field[node, action]."""

    def __init__(self, read: Callable[[Any], Array], span: slice = slice(None)) -> None:
        self._read, self._span = read, span

    def __getitem__(self, at: Any) -> Array:
        node, *rest = at if isinstance(at, tuple) else (at,)
        row = self._read(node)
        row = row if self._span == slice(None) else row[self._span]
        return row[tuple(rest)] if rest else row


class View:
    """One element's tree, for functions that select an action; has what they find in an unbatched mctx.Tree.

    Only what is looked up is read, a row at a time; at the node where the selection is, it was read before. element:
    its number in the batch. span: of the actions, if a part.
    """

    ROOT_INDEX: ClassVar[int] = ROOT
    NO_PARENT: ClassVar[int] = NONE
    UNVISITED: ClassVar[int] = NONE

    def __init__(
        self,
        nodes: Nodes,
        element: Array,
        root_invalid_actions: Any,
        extra_data: Any = None,
        here: Here | None = None,
        span: slice = slice(None),
    ) -> None:
        self._nodes, self._element, self._span, self._root_invalid = nodes, element, span, root_invalid_actions
        self._here, self.extra_data = here, extra_data

    def part(self, span: slice) -> View:
        """The same tree with some of the actions."""
        return View(self._nodes, self._element, self._root_invalid, self.extra_data, self._here, span)

    @property
    def root_invalid_actions(self) -> Array:
        return self._root_invalid[self._span]

    @property
    def num_actions(self) -> int:
        return len(range(self._nodes.num_actions)[self._span])

    @property
    def num_simulations(self) -> int:
        return self._nodes.num_nodes - 1

    @property
    def node_visits(self) -> Column:
        return self._of_nodes("visits")

    @property
    def node_values(self) -> Column:
        return self._of_nodes("values")

    @property
    def raw_values(self) -> Column:
        return self._of_nodes("raw_values")

    @property
    def parents(self) -> Column:
        return self._of_nodes("parents")

    @property
    def action_from_parent(self) -> Column:
        return self._of_nodes("actions")

    @property
    def embeddings(self) -> Any:
        return jax.tree.map(lambda states: Column(partial(self._at, states)), self._nodes.states)

    @property
    def children_index(self) -> Column:
        return self._of_actions("children")

    @property
    def children_visits(self) -> Column:
        return self._of_actions("child_visits")

    @property
    def children_prior_logits(self) -> Column:
        return self._of_actions("logits")

    @property
    def children_priors(self) -> Column | None:
        """Softmax of the prior logits over all actions."""
        return self._of_actions("priors") if self._span == slice(None) else None

    @property
    def children_valid(self) -> Column:
        return self._of_actions("valid")

    @property
    def children_solved(self) -> Column:
        return self._of_actions("child_solved")

    @property
    def solved(self) -> Column:
        return self._of_nodes("solved")

    def qvalues(self, node: Any) -> Array:
        """reward + discount · value of each action's child [A]; 0 where there is none."""
        return self._of_actions("child_q")[node]

    def _of_nodes(self, name: str) -> Column:
        return Column(partial(self._row, name))

    def _of_actions(self, name: str) -> Column:
        return Column(partial(self._row, name), self._span)

    def _row(self, name: str, node: Any) -> Array:
        if self._here is not None and node is self._here.node and name in self._here.rows:
            return self._here.rows[name]
        return self._at(getattr(self._nodes, name), node)

    def _at(self, field: Array, node: Any) -> Array:
        return take(field, node * self._nodes.batch + self._element)
