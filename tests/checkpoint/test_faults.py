"""Damaged files, failing calls and kills: a sample of what benchmarks/checkpoint_faults.py does at length."""

from __future__ import annotations

import errno
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from jaxft.checkpoint import arrays

Rows = list[dict[str, Any]]


@pytest.fixture
def checkpoint(faults: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """A store of one checkpoint with several shards, and what was saved."""
    monkeypatch.setattr(arrays, "SHARD_BYTES", faults.SHARD_BYTES // 4)
    expected = faults.snapshot(7, width=16)
    return faults.saved(tmp_path, expected), expected


def check_damage(rows: Rows) -> None:
    assert [row for row in rows if not row["seen"]] == []
    assert [row for row in rows if not row["named"]] == []
    assert [row for row in rows if not row["mended"]] == []


def test_every_flipped_bit_is_seen(faults: ModuleType, checkpoint: tuple[Any, Any]):
    rows = faults.damage(*checkpoint, [faults.flip_bit] * 120)
    check_damage(rows)
    assert {"manifest.json", "facts.json", "arrays/_METADATA", "arrays/00001/0"} <= {row["file"] for row in rows}


def test_every_file_cut_removed_lengthened_or_added_is_seen(faults: ModuleType, checkpoint: tuple[Any, Any]):
    count = len([path for path in checkpoint[0].folder.rglob("*") if path.is_file()])
    check_damage(faults.damage(*checkpoint, [harm for harm in faults.HARMS for _ in range(count)]))


def test_orbax_alone_restores_flipped_bits(faults: ModuleType, checkpoint: tuple[Any, Any]):
    """Why there is a manifest. Should this fail, orbax has learnt to verify."""
    rows = faults.damage(*checkpoint, [faults.flip_bit] * 30, alone=True)
    assert any(row["orbax"] == "wrong" for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "stride"), [("ENOSPC", 8), ("EIO", 8), ("short write", 3)])
def test_a_call_that_fails_leaves_the_last_checkpoint(
    faults: ModuleType, shim: Path, tmp_path: Path, fault: str, stride: int
):
    """Only one call in several writes, in an order that threads decide: short writes need a denser sample."""
    rows = faults.worker("fail_calls", tmp_path, shim, fault=faults.FAULTS[fault], stride=stride, first=2)
    assert len(rows) >= 10, "a save makes many more calls"
    assert any(row["hit"] for row in rows)
    assert [row for row in rows if not faults.good(row)] == []
    if fault != "short write":  # those are tried again, and succeed
        assert sum(row["failure"] != "None" for row in rows) > len(rows) / 2


@pytest.mark.slow
def test_a_disk_that_stays_full_leaves_the_last_checkpoint(faults: ModuleType, shim: Path, tmp_path: Path):
    rows = faults.worker("fail_calls", tmp_path, shim, fault=errno.ENOSPC, stride=15, lasting=True)
    assert len(rows) >= 6
    assert [row for row in rows if not faults.good(row)] == []


@pytest.mark.slow
def test_a_kill_at_a_call_leaves_the_last_checkpoint(faults: ModuleType, shim: Path, tmp_path: Path):
    rows = faults.worker("kill_calls", tmp_path, shim, stride=15)
    assert len(rows) >= 6
    assert [row for row in rows if not faults.good(row)] == []


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_the_last_checkpoint(faults: ModuleType, tmp_path: Path):
    rows = faults.worker("kill_at_random", tmp_path, count=12)
    assert len(rows) == 12
    assert [row for row in rows if not faults.good(row)] == []
    assert any(row["leftovers"] for row in rows), "a kill came amid a save"


# --- the order of a commit -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def calls(faults: ModuleType, shim: Path, tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """The calls of a save of step 3 where 1 and 2 are there and two stay, in order."""
    return faults.worker("log_calls", tmp_path_factory.mktemp("order"), shim)


def first(calls: Rows, call: str, path: str = "", target: str = "") -> int:
    """Position of the first such call whose path and target hold these words."""
    found = [n for n, c in enumerate(calls) if c["call"] == call and path in c["path"] and target in c["target"]]
    assert found, f"no {call} of {path} to {target}"
    return found[0]


def unsynced(calls: Rows) -> set[str]:
    """Files that were written to and folders whose entries changed, after their last fsync."""
    dirty: set[str] = set()
    for call in calls:
        path, parent = call["path"], str(Path(call["path"]).parent)
        if call["call"] == "fsync":
            dirty.discard(path)
        elif call["call"] in ("write", "truncate"):
            dirty.add(path)
        elif call["call"] in ("create", "mkdir"):
            dirty |= {path, parent}
        elif call["call"] == "rename":
            dirty.discard(path)
            dirty |= {call["target"], parent}
        elif call["call"] == "remove":
            dirty.discard(path)
            dirty.add(parent)
    return dirty


def test_all_is_on_the_disk_before_the_commit(calls: Rows):
    commit = first(calls, "rename", ".writing-3", "step_00000003")
    written = {call["path"] for call in calls[:commit] if call["call"] in ("write", "create")}
    assert any("arrays/00001/0" in path for path in written) and any(path.endswith("facts.json") for path in written)
    assert {path for path in unsynced(calls[:commit]) if "/.writing-3-" in path} == set()
    assert not any(call["call"] in ("write", "create") for call in calls[commit:])


def test_the_manifest_comes_after_all_it_vouches_for(calls: Rows):
    begun = first(calls, "create", "manifest.json")
    assert {path for path in unsynced(calls[:begun]) if "/.writing-3-" in path} == set()
    later = calls[begun + 1 : first(calls, "rename", ".writing-3", "step_00000003")]
    changed = [call["path"] for call in later if call["call"] in ("write", "create", "mkdir", "rename", "remove")]
    assert changed and all(path.endswith("manifest.json") for path in changed)


def test_the_commit_is_on_the_disk_before_an_old_one_goes_and_it_goes_by_a_rename(calls: Rows):
    commit = first(calls, "rename", ".writing-3", "step_00000003")
    parent = str(Path(calls[commit]["path"]).parent)
    gone = first(calls, "rename", "step_00000001", ".deleting-")
    assert commit < gone and parent not in unsynced(calls[:gone])
    removed = next(n for n, call in enumerate(calls) if n > commit and call["call"] == "remove")
    assert gone < removed and ".deleting-" in calls[removed]["path"] and parent not in unsynced(calls[:removed])
    assert not any("step_00000002" in call["path"] for call in calls)
