"""What a run spent its time on, and the tokens that it saw, over all the processes that worked on it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from jaxft.data.batches import StepBatch


@dataclass
class Counts:
    """Integers that a checkpoint holds beside its step; for the report."""

    real_tokens: int = 0
    padded_tokens: int = 0
    train_ms: int = 0
    wall_ms: int = 0


@dataclass
class Clock:
    """Seconds of a run by what they were spent on, and the tokens that training saw."""

    started: float = field(default_factory=time.perf_counter)
    first_step_s: float = 0.0
    train_s: float = 0.0
    real_tokens: int = 0
    padded_tokens: int = 0
    before_s: float = 0.0
    """Of the run before it was interrupted."""

    @property
    def session_s(self) -> float:
        return time.perf_counter() - self.started

    @property
    def wall_s(self) -> float:
        return self.before_s + self.session_s

    def count(self, batch: StepBatch) -> None:
        """Adds a step's tokens."""
        self.real_tokens += batch.real_tokens
        self.padded_tokens += batch.padded_tokens

    def counts(self) -> Counts:
        """What a checkpoint holds of it."""
        return Counts(self.real_tokens, self.padded_tokens, round(1000 * self.train_s), round(1000 * self.wall_s))

    def go_on(self, counts: Counts) -> None:
        """Starts from what an interrupted run had counted."""
        self.real_tokens, self.padded_tokens = counts.real_tokens, counts.padded_tokens
        self.train_s, self.before_s = counts.train_ms / 1000, counts.wall_ms / 1000
