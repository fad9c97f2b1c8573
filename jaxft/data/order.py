"""Which examples a step sees: a seeded permutation an epoch, with random access.

Step numbers count from 0 over the whole run. An epoch's last step is short rather than dropped, so every example is met
once an epoch, and no step straddles two epochs. Nothing is advanced: step 1,000 is computed without the 999 before it,
but together with its neighbours, which is quicker than each by itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from jaxft import prng

_BLOCK = 64
"""Steps that are computed together."""
_KEPT_BLOCKS = 2


@dataclass(frozen=True)
class Order:
    """The order of `num_examples` examples in steps of `batch_size`; words: of the `order` stream. take: so many of
    each step's examples, the first of them."""

    num_examples: int
    batch_size: int
    words: prng.Words
    take: int | None = None
    _blocks: dict[tuple[int, int], np.ndarray] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.num_examples // self.batch_size)

    def epoch(self, step: int) -> int:
        return step // self.steps_per_epoch

    def examples(self, step: int) -> np.ndarray:
        """int64 [E] example numbers of one step."""
        epoch, within = divmod(step, self.steps_per_epoch)
        number, place = divmod(within, _BLOCK)
        start = place * self.batch_size
        return self._block(epoch, number)[start : start + self.batch_size][: self.take].copy()

    def _block(self, epoch: int, number: int) -> np.ndarray:
        block = self._blocks.get((epoch, number))
        if block is None:
            start = number * _BLOCK * self.batch_size
            positions = np.arange(start, min(start + _BLOCK * self.batch_size, self.num_examples))
            block = prng.permutation(prng.fold_in(self.words, epoch), self.num_examples, positions)
            for old in list(self._blocks)[: 1 - _KEPT_BLOCKS]:
                self._blocks.pop(old, None)  # another thread may have been faster
            self._blocks[epoch, number] = block
        return block
