"""Bits that come back, what stays and what goes, and saves that fail."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxft import disk
from jaxft.checkpoint import arrays, manifest, store
from jaxft.checkpoint.store import Damaged, Snapshot, Store

DTYPES = [np.dtype(name) for name in sorted(arrays.DTYPES - {"bfloat16"})] + [np.dtype(ml_dtypes.bfloat16)]


def small(step: int, **facts: Any) -> Snapshot:
    return Snapshot(step, {"w/a": np.full((3, 2), step, np.float32), "count": np.array(step, np.int32)}, facts)


def save(kept: Store, snapshot: Snapshot, **options: Any) -> Exception | None:
    kept.save(snapshot, **options)
    kept.wait()
    return kept.failure()


def bits(snapshot: Snapshot) -> dict[str, tuple[np.dtype, tuple[int, ...], bytes]]:
    return {name: (array.dtype, array.shape, array.tobytes()) for name, array in snapshot.arrays.items()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- what comes back -------------------------------------------------------------------------------------------------


@st.composite
def any_array(draw: st.DrawFn) -> np.ndarray:
    """All bits at random, so that every NaN and -0.0 comes; also not in row-major order."""
    dtype, shape = draw(st.sampled_from(DTYPES)), draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
    count = int(np.prod(shape)) * dtype.itemsize
    raw = np.frombuffer(draw(st.binary(min_size=count, max_size=count)), np.uint8)
    array = ((raw & 1) if dtype == np.bool_ else raw).view(dtype).reshape(shape)
    return array.T if draw(st.booleans()) else array


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(content=st.dictionaries(st.text(max_size=20), any_array(), max_size=6), shard_bytes=st.sampled_from([1, 200]))
def test_any_arrays_under_any_names_come_back_bit_for_bit(
    content: dict[str, np.ndarray], shard_bytes: int, tmp_path_factory: pytest.TempPathFactory
):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "SHARD_BYTES", shard_bytes)
        kept = Store(tmp_path_factory.mktemp("any") / "checkpoints")
        snapshot = Snapshot(0, content, {"n": 1})
        assert save(kept, snapshot) is None
        assert bits(kept.load(0)) == bits(snapshot)
        assert list(kept.load(0).arrays) == list(content)


def test_payloads_of_nan_and_signs_of_zero_come_back(tmp_path: Path):
    words = np.array([0x7FC00001, 0xFFA00000, 0x7F800001, 0x80000000, 0, 1, 0xFF800000], np.uint32)
    halves = np.array([0x7FC1, 0xFFA0, 0x8000, 1], np.uint16)
    snapshot = Snapshot(
        1, {"f32": words.view(np.float32), "bf16": halves.view(ml_dtypes.bfloat16), "zeros": np.full(9, -0.0)}, {}
    )
    kept = Store(tmp_path)
    assert save(kept, snapshot) is None
    assert bits(kept.load(1)) == bits(snapshot)


def test_facts_come_back(tmp_path: Path):
    facts = {"seed": 2**63, "loss": 0.1 + 0.2, "best": None, "kept": [1, [2.5, "é\n"]], "of": {"": True}}
    kept = Store(tmp_path)
    assert save(kept, Snapshot(1, {}, facts)) is None
    assert kept.load(1).facts == facts and kept.load(1).arrays == {}


def test_facts_may_change_once_save_has_returned(tmp_path: Path):
    facts, kept = {"seeds": [1]}, Store(tmp_path)
    kept.save(Snapshot(1, {}, facts))
    facts["seeds"].append(2)
    kept.wait()
    assert kept.load(1).facts == {"seeds": [1]}


@pytest.mark.parametrize("facts", [{"a": (1, 2)}, {1: 2}, {"a": float("nan")}, {"a": {1}}, {"a": np.float32(1)}])
def test_facts_that_json_would_change_are_refused(tmp_path: Path, facts: dict):
    with pytest.raises((TypeError, ValueError)):
        Store(tmp_path).save(Snapshot(1, {}, facts))


@pytest.mark.parametrize("array", [1.0, [1.0], np.zeros(2, np.complex64), np.array(["a"]), np.zeros(2, ">f4")])
def test_arrays_that_would_not_come_back_are_refused(tmp_path: Path, array: Any):
    with pytest.raises(TypeError, match="w: "):
        Store(tmp_path).save(Snapshot(1, {"w": array}, {}))


def test_many_arrays_share_few_shards():
    content = {str(number): np.full(number, number, np.float32) for number in range(300)}
    shards, places = arrays.pack(content)
    assert len(shards) == 1 and all(place.offset % arrays.ALIGN_BYTES == 0 for place in places.values())
    assert all(np.array_equal(a, content[name]) for name, a in arrays.unpack(shards, places).items())
    large = np.zeros(arrays.SHARD_BYTES + 1, np.uint8)
    shards, _ = arrays.pack({"a": np.ones(3), "large": large, "b": np.ones(3)})
    assert [shard.size for shard in shards] == [24, large.size, 24]
    assert np.shares_memory(shards[1], large), "an array alone in its shard is not copied"


# --- which checkpoints stay ------------------------------------------------------------------------------------------


def test_the_last_ones_and_the_protected_stay(tmp_path: Path):
    kept = Store(tmp_path / "new" / "checkpoints", keep=2)
    assert kept.steps() == [] and not kept.folder.exists()
    for step in (10, 20, 30):
        assert save(kept, small(step), protect=[10]) is None
    assert kept.steps() == [10, 20, 30]
    assert save(kept, small(40), protect=[10, 7]) is None
    assert kept.steps() == [10, 30, 40]
    assert save(kept, small(50)) is None
    assert kept.steps() == [40, 50] and names(kept.folder) == ["step_00000040", "step_00000050"]


def test_the_one_just_saved_stays_though_later_steps_are_there(tmp_path: Path):
    kept = Store(tmp_path, keep=1)
    save(kept, small(20))
    assert save(kept, small(10)) is None
    assert kept.steps() == [10, 20]


def test_an_old_one_goes_only_after_the_new_one_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    kept, seen = Store(tmp_path, keep=1), []
    save(kept, small(1))
    remove = Store._remove
    monkeypatch.setattr(Store, "_remove", lambda self, step: (seen.append(self.steps()), remove(self, step)))
    save(kept, small(2))
    assert seen == [[1, 2]] and kept.steps() == [2]


def test_an_intact_checkpoint_is_left_and_a_damaged_one_replaced(tmp_path: Path):
    kept = Store(tmp_path)
    save(kept, small(1))
    file = tmp_path / "step_00000001" / "facts.json"
    before = file.stat().st_ino
    assert save(kept, small(1, other=True)) is None
    assert file.stat().st_ino == before and kept.load(1).facts == {}
    file.write_bytes(b"")
    assert save(kept, small(1, other=True)) is None
    assert kept.load(1).facts == {"other": True} and names(tmp_path) == ["step_00000001"]


def test_other_names_are_no_checkpoints(tmp_path: Path):
    kept = Store(tmp_path)
    save(kept, small(100_000_000))
    for name in ("step_7", "step_000000007", ".writing-8", "step_00000009.bak", "notes"):
        (tmp_path / name).mkdir()
    (tmp_path / "step_00000006").write_text("a file")
    assert kept.steps() == [100_000_000]


def test_clean_removes_what_killed_saves_left_and_nothing_else(tmp_path: Path):
    kept = Store(tmp_path)
    save(kept, small(1))
    for name in (".writing-2", ".deleting-step_00000003-ab", "notes"):
        (tmp_path / name / "arrays").mkdir(parents=True)
    kept.clean()
    assert names(tmp_path) == ["notes", "step_00000001"]
    Store(tmp_path / "nothing here").clean()


def test_a_save_removes_what_others_left(tmp_path: Path):
    (tmp_path / ".writing-1-0a" / "arrays" / "00000").mkdir(parents=True)
    (tmp_path / ".deleting-step_00000003-ab").mkdir()
    kept = Store(tmp_path)
    assert save(kept, small(1)) is None
    assert bits(kept.load(1)) == bits(small(1)) and names(tmp_path) == ["step_00000001"]


def test_at_least_one_must_stay(tmp_path: Path):
    with pytest.raises(ValueError, match="at least 1"):
        Store(tmp_path, keep=0)


# --- what is refused -------------------------------------------------------------------------------------------------


def test_a_checkpoint_that_is_not_there_is_damaged(tmp_path: Path):
    with pytest.raises(Damaged, match="step 5 is damaged") as caught:
        Store(tmp_path).load(5)
    assert caught.value.step == 5 and caught.value.problems == ["manifest.json: missing"]


def test_the_checkpoint_of_another_step_is_refused(tmp_path: Path):
    kept = Store(tmp_path)
    save(kept, small(1))
    shutil.copytree(tmp_path / "step_00000001", tmp_path / "step_00000002")
    with pytest.raises(Damaged, match="is of step 1"):
        kept.load(2)


@pytest.mark.parametrize("name", ["facts.json", "arrays/00000/0", "arrays/00000/.zarray", "arrays/_METADATA"])
def test_a_file_that_changes_after_it_was_verified_is_seen(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch):
    kept = Store(tmp_path)
    save(kept, small(1))
    path = tmp_path / "step_00000001" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    monkeypatch.setattr(manifest, "problems", lambda folder: [])
    try:
        loaded = kept.load(1)  # a change of orbax's own files may change nothing in the values
    except Damaged:
        return
    assert name.endswith((".zarray", "_METADATA")) and bits(loaded) == bits(small(1))


def test_a_write_that_went_wrong_unnoticed_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write = arrays.write

    def wrong(folder: Path, shards: list[np.ndarray]) -> None:
        write(folder, shards)
        with open(folder / arrays.file_of(0), "r+b") as file:
            file.write(b"\xff")

    kept = Store(tmp_path)
    monkeypatch.setattr(arrays, "write", wrong)
    assert save(kept, small(1)) is None
    with pytest.raises(Damaged, match="arrays/00000/0: changed"):
        kept.load(1)


def test_a_lack_of_memory_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    kept = Store(tmp_path)
    save(kept, small(1))

    def no_memory(*args: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(arrays, "read", no_memory)
    with pytest.raises(MemoryError):
        kept.load(1)


# --- saves that fail -------------------------------------------------------------------------------------------------


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(*args: Any) -> None:
        raise error

    monkeypatch.setattr(arrays, "write", fail)


@pytest.mark.parametrize("error", [OSError(28, "full"), MemoryError(), SystemExit(1)])
def test_a_failed_save_is_told_once_and_the_next_one_works(tmp_path: Path, error: BaseException):
    kept = Store(tmp_path)
    save(kept, small(1))
    with pytest.MonkeyPatch.context() as patch:
        failing(patch, error)
        told = save(kept, small(2))
    assert told is error or (isinstance(told, RuntimeError) and "SystemExit" in str(told))
    assert kept.failure() is None and names(tmp_path) == ["step_00000001"]
    assert save(kept, small(2)) is None and kept.steps() == [1, 2]


def test_a_failure_is_told_while_the_next_save_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    kept, go_on = Store(tmp_path), threading.Event()
    with pytest.MonkeyPatch.context() as patch:
        failing(patch, OSError(5, "broken"))
        save_first = kept.save(small(1))
        kept._join()
    assert save_first is None
    write = arrays.write
    monkeypatch.setattr(arrays, "write", lambda *args: (go_on.wait(60), write(*args)))
    kept.save(small(2))
    assert isinstance(kept.failure(), OSError) and kept.failure() is None
    go_on.set()
    kept.wait()
    assert kept.failure() is None and kept.steps() == [2]


def test_no_thread_to_be_had_is_a_failure(tmp_path: Path):
    kept = Store(tmp_path)

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        kept.save(small(1))
    kept.wait()
    assert "start new thread" in str(kept.failure())
    assert save(kept, small(1)) is None and kept.steps() == [1]


def test_a_folder_that_cannot_be_made_is_a_failure(tmp_path: Path):
    (tmp_path / "file").write_text("")
    assert isinstance(save(Store(tmp_path / "file" / "checkpoints"), small(1)), OSError)


def test_a_commit_whose_last_step_failed_is_completed_by_the_next_save(tmp_path: Path):
    kept, sync = Store(tmp_path), disk.sync

    def broken(path: Path) -> None:
        if path == tmp_path and (tmp_path / "step_00000001").exists():
            raise OSError(5, "broken")
        sync(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(disk, "sync", broken)
        assert isinstance(save(kept, small(1)), OSError)
    assert save(kept, small(1)) is None and bits(kept.load(1)) == bits(small(1))


# --- threads and processes -------------------------------------------------------------------------------------------


def test_save_returns_while_it_is_written_and_the_next_one_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    kept, write, go_on = Store(tmp_path), arrays.write, threading.Event()
    monkeypatch.setattr(arrays, "write", lambda *args: (go_on.wait(60), write(*args)))
    kept.save(small(1))
    assert kept.steps() == [] and all(name.startswith(".writing-1-") for name in names(tmp_path))
    blocked = kept.waited_s
    threading.Timer(0.2, go_on.set).start()
    kept.save(small(2))
    assert kept.waited_s - blocked > 0.1 and kept.steps() == [1]
    kept.wait()
    assert kept.steps() == [1, 2]


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True, check=True
    )


ENDS = """
import sys
from pathlib import Path
import numpy as np
from jaxft.checkpoint.store import Snapshot, Store
Store(Path(sys.argv[1])).save(Snapshot(3, {"w": np.arange(10**6, dtype=np.float32)}, {}))
"""


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python 3.11 starts threads while a process ends")
def test_a_process_that_ends_finishes_its_save_or_says_that_it_did_not(tmp_path: Path):
    told = run(ENDS, str(tmp_path)).stderr
    assert Store(tmp_path).steps() == ([] if "the last checkpoint was not saved: " in told else [3])


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="from Python 3.12 on no thread starts while a process ends")
def test_a_process_that_ends_finishes_its_save(tmp_path: Path):
    assert run(ENDS, str(tmp_path)).stderr == ""
    assert np.array_equal(Store(tmp_path).load(3).arrays["w"], np.arange(10**6, dtype=np.float32))
    assert names(tmp_path) == ["step_00000003"]


def test_importing_it_imports_neither_jax_nor_orbax():
    code = "import sys, jaxft.checkpoint.store; print({'jax', 'orbax', 'tensorstore'} & set(sys.modules))"
    assert run(code).stdout.strip() == "set()"


def test_nothing_waits_for_a_thread_that_is_gone(tmp_path: Path):
    kept = Store(tmp_path)
    save(kept, small(1))
    start = time.perf_counter()
    kept.wait()
    assert time.perf_counter() - start < 1 and not store._unsettled
