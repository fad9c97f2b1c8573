"""Sequential halving (http://proceedings.mlr.press/v28/karnin13.pdf) as a schedule of visit counts.

In each phase all actions still considered get the same number of visits, then the worse half is dropped. Written as
"the next visit goes to the best action with this many visits", the schedule is a table that nothing in a search
changes.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np


@lru_cache(maxsize=64)
def considered_visits(max_considered: int, num_simulations: int) -> np.ndarray:
    """i32 [max_considered + 1, num_simulations]: row m, for m actions considered at first, has the visit count that the
    action of each simulation must have."""
    return np.asarray([_row(m, num_simulations) for m in range(max_considered + 1)], np.int32)


def _row(considered: int, num_simulations: int) -> list[int]:
    if considered <= 1:
        return list(range(num_simulations))
    phases, left = math.ceil(math.log2(considered)), considered
    visits, row = [0] * considered, list[int]()
    while len(row) < num_simulations:
        for _ in range(max(1, int(num_simulations / (phases * left)))):
            row += visits[:left]
            visits[:left] = [count + 1 for count in visits[:left]]
        left = max(2, left // 2)
    return row[:num_simulations]
