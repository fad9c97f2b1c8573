"""Labelled rows out of a named source: asset, file, saved `datasets` folder or hub id.

    sms_spam   conll2003:dev     asset, or one split of it (train unless named)
    data/x.csv   notes.conll     file, by its ending or `data.format`
    saved/   saved:test          folder that `save_to_disk` of `datasets` wrote
    org/name   org/name/config:test   hub id

The name of an asset is that asset; `./sms_spam` is always a local path. Cells are not interpreted here (see
data/cells.py); nothing is tokenised.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path

from jaxft.data.formats import conll, delimited, hub, jsonl, parquet
from jaxft.data.rows import Rows
from jaxft.errors import Problems, UserError
from jaxft.recipe import Data

ENDINGS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".conll": "conll",
    ".iob": "conll",
    ".iob2": "conll",
    ".bio": "conll",
    ".txt": "conll",
}
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*(/\w[\w.-]*)?")


def read(source: str, spec: Data, problems: Problems) -> Rows:
    """The rows of a source.

    What cannot be read is added to `problems`; the rest is still given, so that its problems are found too. Raise
    before using it.
    """
    name, split = _parted(source)
    asset_splits = _asset_splits(name, problems)
    if asset_splits is not None:
        return _read_asset(name, split or "train", asset_splits, source, spec, problems)
    for text, part in ((source, None), (name, split)):  # a file's own name may hold a colon
        path = Path(text).expanduser()
        if path.is_dir() and hub.is_saved(path):
            return hub.read_saved(path, part, source, problems)
        if path.exists() and part is None:
            return _read_file(path, source, spec, problems)
    if _HUB_ID.fullmatch(name) and Path(name).suffix not in ENDINGS and not Path(name).exists():
        return hub.read_hub(name, split, source, problems)
    problems.add(source, *_unknown(name))
    return Rows({}, [], source, source, "", "")


def own_splits(source: str) -> dict[str, str]:
    """Split name -> source, of the dev and test sets that an asset brings along; {} for anything else."""
    name, split = _parted(source)
    splits = _asset_splits(name, Problems()) if split in (None, "train") else None
    return {part: f"{name}:{part}" for part in ("dev", "test") if part in (splits or {})}


def _parted(source: str) -> tuple[str, str | None]:
    name, colon, split = source.rpartition(":")
    return (name, split) if colon and re.fullmatch(r"\w+", split) else (source, None)


def _asset_splits(name: str, problems: Problems) -> dict[str, Path] | None:
    """Split -> file of a data asset, fetched if need be; None: no such asset; {} and problems: it cannot be had."""
    from jaxft import assets

    asset = assets.load_index().get(name)
    if asset is None or asset.kind != "data":
        return None
    try:
        return assets.splits(name)
    except UserError as error:
        problems.take(error)
        return {}


def _read_asset(name: str, split: str, splits: dict[str, Path], source: str, spec: Data, problems: Problems) -> Rows:
    if split in splits:
        return _read_file(splits[split], source, spec, problems)
    if splits:
        problems.add(source, f"asset {name} has no split {split!r}; it has: {', '.join(splits)}")
    return Rows({}, [], source, source, "", "")


def _read_file(path: Path, source: str, spec: Data, problems: Problems) -> Rows:
    kind = ENDINGS.get(path.suffix.lower(), "") if spec.format == "auto" else spec.format
    if path.is_dir():
        problems.add(str(path), "is a folder that `save_to_disk` of `datasets` did not write", "name one of its files")
    elif kind in ("csv", "tsv"):
        return delimited.read(path, source, kind, problems)
    elif kind == "jsonl":
        needed = [name for name in (spec.text, spec.text_pair, spec.label, spec.id) if name]
        return jsonl.read(path, source, needed, problems)
    elif kind == "parquet":
        return parquet.read(path, source, problems)
    elif kind == "conll":
        return conll.read(path, source, problems)
    else:
        what = f"the ending {path.suffix!r} says no format; known: {', '.join(ENDINGS)}"
        problems.add(str(path), what, "set `data.format`")
    return Rows({}, [], source, str(path), "", kind)


def _unknown(name: str) -> tuple[str, str]:
    """What and fix for a source that is nothing known."""
    from jaxft import assets

    path = Path(name)
    known = [asset for asset, entry in assets.load_index().items() if entry.kind == "data"]
    siblings = [str(path.parent / item.name) for item in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(str(path), known + siblings, n=1)
    what = "no such file, saved data set or asset"
    if near:
        return what, f"did you mean `{near[0]}`?"
    return what, f"assets: {', '.join(known)}; a hub id reads org/name"
