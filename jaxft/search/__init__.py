"""Monte Carlo tree search on the device.

`tree_search` is the search; `from jaxft import search as mctx` has mctx's public names, and gives its results.
"""

from jaxft.search.chance import stochastic_muzero_policy
from jaxft.search.env import Env, Root, Step
from jaxft.search.grown import Cost, Grown
from jaxft.search.gumbel import (
    GumbelMuZeroExtraData,
    gumbel_muzero_interior_action_selection,
    gumbel_muzero_root_action_selection,
)
from jaxft.search.mctx import gumbel_muzero_policy, muzero_policy, search
from jaxft.search.outputs import (
    ChanceRecurrentFnOutput,
    DecisionRecurrentFnOutput,
    InteriorActionSelectionFn,
    LoopFn,
    PolicyOutput,
    RecurrentFn,
    RecurrentFnOutput,
    RecurrentState,
    RootActionSelectionFn,
    RootFnOutput,
    Tree,
)
from jaxft.search.policies import Gumbel, Puct, Uct
from jaxft.search.puct import muzero_action_selection
from jaxft.search.qtransforms import (
    qtransform_by_min_max,
    qtransform_by_parent_and_siblings,
    qtransform_completed_by_mix_value,
)
from jaxft.search.reuse import reroot
from jaxft.search.store import Full, Part, Slots
from jaxft.search.tree_search import Found, tree_search

__all__ = [
    "ChanceRecurrentFnOutput",
    "Cost",
    "DecisionRecurrentFnOutput",
    "Env",
    "Found",
    "Full",
    "Grown",
    "Gumbel",
    "GumbelMuZeroExtraData",
    "InteriorActionSelectionFn",
    "LoopFn",
    "Part",
    "PolicyOutput",
    "Puct",
    "RecurrentFn",
    "RecurrentFnOutput",
    "RecurrentState",
    "Root",
    "RootActionSelectionFn",
    "RootFnOutput",
    "Slots",
    "Step",
    "Tree",
    "Uct",
    "gumbel_muzero_interior_action_selection",
    "gumbel_muzero_policy",
    "gumbel_muzero_root_action_selection",
    "muzero_action_selection",
    "muzero_policy",
    "qtransform_by_min_max",
    "qtransform_by_parent_and_siblings",
    "qtransform_completed_by_mix_value",
    "reroot",
    "search",
    "stochastic_muzero_policy",
    "tree_search",
]
