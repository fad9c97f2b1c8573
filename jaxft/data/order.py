"""Which examples a step sees: a seeded permutation an epoch, with random access.

Step numbers count from 0 over the whole run. An epoch's last step is short rather than dropped, so every example is met
once an epoch, and no step straddles two epochs. Nothing is advanced: step 1,000 is computed without the 999 before it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jaxft import prng


@dataclass(frozen=True)
class Order:
    """The order of `num_examples` examples in steps of `batch_size`; words: of the `order` stream. take: so many of
    each step's examples, the first of them."""

    num_examples: int
    batch_size: int
    words: prng.Words
    take: int | None = None

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.num_examples // self.batch_size)

    def epoch(self, step: int) -> int:
        return step // self.steps_per_epoch

    def examples(self, step: int) -> np.ndarray:
        """int64 [E] example numbers of one step."""
        start = step % self.steps_per_epoch * self.batch_size
        positions = np.arange(start, min(start + self.batch_size, self.num_examples))
        words = prng.fold_in(self.words, self.epoch(step))
        return prng.permutation(words, self.num_examples, positions[: self.take])
