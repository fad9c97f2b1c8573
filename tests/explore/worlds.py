"""Small worlds for searchers: scores are a sum over segments and pairs of neighbours, drawn once."""

from __future__ import annotations

import itertools

import numpy as np

from jaxft.explore.account import Path


class Table:
    """Every path has a score of its own, so that no two schedules are equal."""

    room = 2**30
    leaves = 1

    def ready(self, paths):
        self.told.append(list(paths))

    def __init__(self, num_actions=4, depth=4, segment_steps=10, score_steps=1.0, seed=0):
        self.num_actions, self.num_listed, self.depth = num_actions, num_actions, depth
        self.segment_steps, self.score_steps = segment_steps, score_steps
        draw = np.random.default_rng(seed).normal
        self._single, self._pair = draw(size=(depth, num_actions)), draw(size=(depth, num_actions, num_actions))
        self.asked: list[Path] = []
        self.told: list[list[Path]] = []

    def score(self, path: Path) -> float:
        self.asked.append(path)
        single = sum(self._single[at, action] for at, action in enumerate(path))
        return float(single + sum(self._pair[at, *path[at - 1 : at + 1]] for at in range(1, len(path))))

    @property
    def whole(self) -> list[Path]:
        return list(itertools.product(range(self.num_actions), repeat=self.depth))

    @property
    def optimum(self) -> float:
        return max(map(self.score, self.whole))

    def budget(self, segments: int, scores: int) -> float:
        return segments * self.segment_steps + scores * self.score_steps


class Noise(Table):
    """Scores without rhyme or reason; any number of actions."""

    def __init__(self, num_actions: int, depth: int):
        super().__init__(0, depth, score_steps=0.0)
        self.num_actions = self.num_listed = num_actions

    def score(self, path: Path) -> float:
        self.asked.append(path)
        return float(np.random.default_rng(path).normal())
