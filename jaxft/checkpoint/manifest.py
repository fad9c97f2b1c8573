"""The manifest of a folder: SHA-256 and size of every other file in it, so that any change of any file is seen.

    {
     "format": 1,
     "files": {
      "arrays/_METADATA": {"size": 41649, "sha256": "8d1c..."},
      "facts.json": {"size": 9310, "sha256": "f00b..."}
     },
     "sha256": "..."        of the lines above it
    }

A manifest counts only if it is, byte for byte, what writing its own entries again gives, so a flipped bit in a key or
in white space is seen like one in a hash. It guards against faults, not against someone who writes a new manifest.
Empty folders are no part of it.
"""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from jaxft import disk

NAME = "manifest.json"
FORMAT = 1
THREADS = 4
"""Files hashed at a time; hashlib works outside the interpreter's lock."""
EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)
"""Errors of the process, which say nothing about a file."""


@dataclass(frozen=True)
class Entry:
    """One file. size: bytes. sha256: 64 hex digits."""

    size: int
    sha256: str


def write(folder: Path, entries: dict[str, Entry] | None = None) -> None:
    """Writes the manifest of `folder`; it is on the disk when this returns. It must not be there yet.

    entries: of `files_of(folder)`, where they are at hand. OSError.
    """
    disk.write(folder / NAME, _encode(files_of(folder) if entries is None else entries))
    disk.sync(folder)


def files_of(folder: Path, known: Mapping[str, Entry] | None = None) -> dict[str, Entry]:
    """Path relative to `folder`, with slashes -> entry, for every file but the manifest. OSError.

    known: entries of files by what was written to them; these files are not read.
    """
    known = known or {}
    names = _names(folder)
    with ThreadPoolExecutor(THREADS) as pool:
        entries = pool.map(lambda name: known.get(name) or _entry(folder / name), names)
        return dict(zip(names, entries, strict=True))


def read(folder: Path) -> dict[str, Entry]:
    """The entries that the manifest holds. OSError if it cannot be read, ValueError if it was altered."""
    data = (folder / NAME).read_bytes()
    try:
        entries = {name: Entry(**entry) for name, entry in json.loads(data)["files"].items()}
        same = _encode(entries) == data
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        same, entries = False, {}
    if not same:
        raise ValueError(f"{NAME}: altered, {len(data):,} bytes that no longer fit its own SHA-256")
    return entries


def problems(folder: Path) -> list[str]:
    """What is wrong with the files of `folder`, one line each; empty iff they are exactly those of the manifest.

    Raises OSError only where the process is out of file descriptors or memory, which is no fault of the folder.
    """
    try:
        entries, names = read(folder), _names(folder)
    except ValueError as error:
        return [str(error)]
    except OSError as error:
        return [_unreadable(NAME if error.filename == str(folder / NAME) else str(error.filename), error)]
    wrong = [f"{name}: missing" for name in sorted(entries.keys() - set(names))]
    wrong += [f"{name}: not of this checkpoint" for name in sorted(set(names) - entries.keys())]
    both = sorted(entries.keys() & set(names))
    with ThreadPoolExecutor(THREADS) as pool:
        wrong += filter(None, pool.map(lambda name: _changed(folder, name, entries[name]), both))
    return wrong


def sha256(data: bytes | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()


def _names(folder: Path) -> list[str]:
    """Every file, link or other thing that is no folder, without the manifest itself."""
    files = (path for path in disk.walk(folder) if path.is_symlink() or not path.is_dir())
    return sorted(name for name in (path.relative_to(folder).as_posix() for path in files) if name != NAME)


def _entry(path: Path) -> Entry:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return Entry(file.tell(), digest)


def _changed(folder: Path, name: str, expected: Entry) -> str:
    """What is wrong with one file; empty if nothing is."""
    path = folder / name
    try:
        if path.is_symlink() or not path.is_file():
            return f"{name}: not a regular file"
        size = path.stat().st_size
        if size != expected.size:
            return f"{name}: {size:,} bytes, expected {expected.size:,}"
        entry = _entry(path)
    except OSError as error:
        return _unreadable(name, error)
    if entry != expected:
        return f"{name}: changed, SHA-256 {entry.sha256[:12]}..., expected {expected.sha256[:12]}..."
    return ""


def _unreadable(name: str, error: OSError) -> str:
    if error.errno in EXHAUSTED:
        raise error
    return f"{name}: missing" if isinstance(error, FileNotFoundError) else f"{name}: cannot be read: {error.strerror}"


def _encode(entries: dict[str, Entry]) -> bytes:
    """The one way to write these entries down."""
    lines = [f"  {json.dumps(name)}: {json.dumps(asdict(entries[name]))}" for name in sorted(entries)]
    head = "\n".join(["{", f' "format": {FORMAT},', ' "files": {', ",\n".join(lines), " },", ""])
    return f'{head} "sha256": "{sha256(head.encode())}"\n}}\n'.encode()
