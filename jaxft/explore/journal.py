"""What an exploration has computed, line by line in metrics.jsonl: enough to go on after any stop.

A search is a function of the scores that it sees, and those are functions of paths. So an exploration that goes on
searches anew from the beginning and takes the scores that are recorded; only what is not recorded yet is trained. The
digest of a state's bits is recorded too, and compared when the state is trained again.

    {"kind": "begin", "step": 0, "identity": {"data": {"train": "5f0c…", ...}, "model": "91ab…", ...}}
    {"kind": "segment", "step": 3, "path": [0, 2], "scores": {"accuracy": 0.61, ...}, "digest": "83ac01f2"}
    {"kind": "confirm", "step": 9, "seed": 1, "path": [0, 2, 1, 1], "scores": {"accuracy": 0.83, ...}}
"""

from __future__ import annotations

from typing import Any

from jaxft.errors import UserError
from jaxft.explore.account import Path
from jaxft.report.run_folder import RunFolder
from jaxft.train.resume import check_identity, scores_of

Scores = dict[str, float]


class Journal:
    """The records of one run folder."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._scores: dict[Path, Scores] = {}
        self._digests: dict[Path, str] = {}
        self._confirmed: dict[tuple[int, Path], Scores] = {}
        self._identity: dict[str, Any] | None = None
        self._lines = 0
        for record in folder.records():
            if record["kind"] == "begin":
                self._identity = record["identity"]
                continue
            path = tuple(record["path"])
            if record["kind"] == "segment":
                self._scores[path], self._digests[path] = scores_of(record), record["digest"]
            else:
                self._confirmed[record["seed"], path] = scores_of(record)
            self._lines += 1

    def begin(self, identity: dict[str, Any]) -> None:
        """Records what recipe, data, model and machine it is computed from. Raises UserError where an exploration goes
        on that began with others."""
        if self._identity is not None:
            check_identity(self._identity, identity, str(self._folder.path))
        elif not self._lines:
            self._identity = identity
            self._folder.log({"kind": "begin", "step": 0, "identity": identity})

    def scores(self, path: Path) -> Scores | None:
        """On the search split; none if the path was not looked at yet."""
        return self._scores.get(path)

    def looked(self, path: Path, scores: Scores, digest: str) -> None:
        """Records a look."""
        self._scores[path], self._digests[path] = scores, digest
        self._log({"kind": "segment", "path": path, "scores": scores, "digest": digest})

    def check(self, path: Path, digest: str) -> None:
        """Raises UserError where a state that was recorded came out with other bits."""
        was = self._digests.get(path, digest)
        if was != digest:
            what = f"the state after {list(path)} has other bits than when it was recorded ({digest}, was {was})"
            raise UserError(str(self._folder.path), what, "go on where it began, or start anew with `--overwrite`")

    def confirmed(self, seed: int, path: Path) -> Scores | None:
        """On the test split, trained from a fresh seed."""
        return self._confirmed.get((seed, path))

    def confirm(self, seed: int, path: Path, scores: Scores) -> None:
        """Records one."""
        self._confirmed[seed, path] = scores
        self._log({"kind": "confirm", "seed": seed, "path": path, "scores": scores})

    def _log(self, record: dict[str, Any]) -> None:
        self._lines += 1
        self._folder.log({"step": self._lines, **record})
