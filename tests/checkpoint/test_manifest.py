"""Every change of every file is seen, the manifest's own included, and an unchanged folder never raises an alarm."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from jaxft.checkpoint import manifest

FILES = {"facts.json": b"{}\n", "arrays/00000/0": b"\x00" * 1000, "arrays/empty": b"", "with space/é": b"x"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, data in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    manifest.write(tmp_path)
    return tmp_path


def test_an_unchanged_folder_has_no_problems(folder: Path):
    assert manifest.problems(folder) == []
    assert {name: entry.size for name, entry in manifest.read(folder).items()} == {
        name: len(data) for name, data in FILES.items()
    }


def test_a_moved_folder_and_new_times_are_no_problem(folder: Path, tmp_path_factory: pytest.TempPathFactory):
    target = tmp_path_factory.mktemp("moved") / "here"
    folder.rename(target)
    (target / "facts.json").touch()
    assert manifest.problems(target) == []


@pytest.mark.parametrize("name", FILES)
def test_each_file_is_named_when_it_is_gone_changed_cut_or_made_longer(folder: Path, name: str):
    data = FILES[name]
    for changed in {data[:-1], data + b"\0", bytes([*data[:-1], (data or b"\0")[-1] ^ 1])} - {data}:
        (folder / name).write_bytes(changed)
        assert [problem.split(": ")[0] for problem in manifest.problems(folder)] == [name]
    (folder / name).unlink()
    assert manifest.problems(folder) == [f"{name}: missing"]
    (folder / name).write_bytes(data)
    assert manifest.problems(folder) == []


def test_files_that_came_are_named(folder: Path):
    (folder / "arrays" / "more").write_bytes(b"")
    (folder / "manifest.json.1").write_bytes(b"")
    assert manifest.problems(folder) == [
        "arrays/more: not of this checkpoint",
        "manifest.json.1: not of this checkpoint",
    ]


def test_all_problems_are_told_at_once(folder: Path):
    (folder / "facts.json").unlink()
    (folder / "arrays" / "00000" / "0").write_bytes(b"")
    (folder / "new").write_bytes(b"")
    assert len(manifest.problems(folder)) == 3


def test_a_link_to_the_same_bytes_is_not_the_file(folder: Path, tmp_path_factory: pytest.TempPathFactory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "facts.json"
    (folder / "facts.json").rename(elsewhere)
    (folder / "facts.json").symlink_to(elsewhere)
    assert manifest.problems(folder) == ["facts.json: not a regular file"]


def test_a_folder_in_place_of_a_file_is_seen(folder: Path):
    (folder / "facts.json").unlink()
    (folder / "facts.json").mkdir()
    assert manifest.problems(folder) == ["facts.json: missing"]


def test_every_bit_of_the_manifest_counts(folder: Path):
    path = folder / manifest.NAME
    data = path.read_bytes()
    with open(path, "r+b", buffering=0) as file:
        for at in range(len(data)):
            for bit in range(8):
                file.seek(at)
                file.write(bytes([data[at] ^ 1 << bit]))
                assert manifest.problems(folder), f"bit {bit} of byte {at}"
            file.seek(at)
            file.write(data[at : at + 1])
    assert manifest.problems(folder) == []


@pytest.mark.parametrize("change", ["cut", "line feed", "indented", "other entry", "[]", "null", "nested"])
def test_an_altered_manifest_is_seen_even_if_it_reads_the_same(folder: Path, change: str):
    path = folder / manifest.NAME
    text = path.read_text("utf-8")
    other = json.loads(text)
    other["files"]["facts.json"]["size"] += 1
    path.write_text(
        {
            "cut": text[:100],
            "line feed": text + "\n",
            "indented": json.dumps(json.loads(text), indent=2),
            "other entry": json.dumps(other),
            "nested": "[" * 100_000,
        }.get(change, change),
        "utf-8",
    )
    (problem,) = manifest.problems(folder)
    assert problem.startswith("manifest.json: altered")


def test_a_manifest_that_is_gone_is_a_problem(folder: Path):
    (folder / manifest.NAME).unlink()
    assert manifest.problems(folder) == ["manifest.json: missing"]
    assert manifest.problems(folder / "nothing here") == ["manifest.json: missing"]


def test_a_manifest_is_never_written_over(folder: Path):
    with pytest.raises(FileExistsError):
        manifest.write(folder)


def test_known_entries_are_taken_as_they_are(folder: Path):
    meant = manifest.Entry(1000, manifest.sha256(b"\x01" * 1000))
    entries = manifest.files_of(folder, {"arrays/00000/0": meant})
    assert entries == manifest.read(folder) | {"arrays/00000/0": meant}


def test_a_file_that_cannot_be_read_is_a_problem_but_a_lack_of_descriptors_is_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    def failing(code: int):
        def entry(path: Path) -> manifest.Entry:
            raise OSError(code, "it failed")

        return entry

    monkeypatch.setattr(manifest, "_entry", failing(errno.EIO))
    assert "facts.json: cannot be read: it failed" in manifest.problems(folder)
    monkeypatch.setattr(manifest, "_entry", failing(errno.EMFILE))
    with pytest.raises(OSError, match="it failed"):
        manifest.problems(folder)
