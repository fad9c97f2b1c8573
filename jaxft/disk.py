"""What the disk must have before a checkpoint counts: files and folders forced out, renames and removals in safe order.

A file is on the disk after fsync of the file *and* of the folder that names it; a rename after fsync of the folder it
happened in. Left out: F_FULLFSYNC of macOS, without which a drive may keep the data in its own cache.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path


def write(path: Path, data: bytes) -> None:
    """Writes a new file; its bytes, but not yet its name, are on the disk when this returns. OSError."""
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync(path: Path) -> None:
    """Forces one file or folder out. OSError, also for a write that the system had put off and that failed since."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_all(folder: Path) -> None:
    """Forces out every file below `folder`, then every folder, the innermost first, `folder` last."""
    folders = [folder]
    for path in walk(folder):
        if path.is_dir() and not path.is_symlink():
            folders.append(path)
        else:
            sync(path)
    for path in reversed(folders):  # a folder comes after its parent
        sync(path)


def walk(folder: Path) -> Iterator[Path]:
    """Everything below `folder`, a folder before what is in it; links are not followed. OSError if one cannot be
    read, where Path.rglob would leave it out."""
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        yield Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            yield from walk(Path(entry.path))


def rename(source: Path, target: Path) -> None:
    """Renames within one folder; on the disk when this returns."""
    os.rename(source, target)
    sync(target.parent)


def remove(folder: Path) -> None:
    """Removes a folder with all that is in it; one that is not there is fine. OSError for what stays."""
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        if folder.exists():
            raise
