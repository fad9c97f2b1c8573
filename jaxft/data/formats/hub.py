"""Saved folders and hub ids, through `datasets`. No code of a data set is ever run: script data sets are refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from jaxft.data.formats.parquet import class_names
from jaxft.data.rows import Rows
from jaxft.errors import Problems


def is_saved(folder: Path) -> bool:
    """Whether `save_to_disk` of `datasets` wrote the folder."""
    return any((folder / name).is_file() for name in ("dataset_dict.json", "dataset_info.json", "state.json"))


def read_saved(folder: Path, split: str | None, source: str, problems: Problems) -> Rows:
    """Rows of a folder that `save_to_disk` wrote; of split `split`, or `train`, if it holds several."""
    import datasets

    try:
        loaded = datasets.load_from_disk(str(folder))
    except Exception as error:  # noqa: BLE001 - whatever a damaged folder makes datasets and pyarrow raise
        problems.add(str(folder), f"cannot be read as a saved data set: {_first_line(error)}")
        return _nothing(source, str(folder))
    if isinstance(loaded, datasets.DatasetDict):
        name = split or "train"
        if name not in loaded:
            problems.add(
                str(folder),
                f"no split {name!r}; its splits: {', '.join(map(str, loaded))}",
                f"name one: {folder}:SPLIT",
            )
            return _nothing(source, str(folder))
        return _rows(loaded[name], source, f"{folder}:{name}", problems)
    if split is not None:
        problems.add(str(folder), f"holds one data set, no split {split!r}", f"name the folder alone: {folder}")
        return _nothing(source, str(folder))
    return _rows(loaded, source, str(folder), problems)


def read_hub(name: str, split: str | None, source: str, problems: Problems) -> Rows:
    """Rows of hub data set `org/name` or `org/name/config`, split `split` or `train`."""
    import datasets

    *repository, config = name.split("/") if name.count("/") == 2 else (name, None)
    split = split or "train"
    try:
        loaded = datasets.load_dataset("/".join(repository), config, split=split)
    except Exception as error:  # noqa: BLE001 - no network, no such set, script sets, broken files: all end the same way
        cause = f"{type(error).__name__}: {_first_line(error)}"
        what = f"is no local file or folder, and the hub gave no split {split!r} of it: {cause}"
        problems.add(source, what, _fix(error))
        return _nothing(source, name)
    return _rows(loaded, source, f"{name}:{split}", problems)


def _fix(error: Exception) -> str:
    text = f"{type(error).__name__} {error}".lower()
    if "offline" in text:
        return (
            "the process is offline (HF_HUB_OFFLINE, HF_DATASETS_OFFLINE): unset these, or name a local file or folder"
        )
    if "connect" in text or "reach" in text or "resolve" in text:
        return "check the network, or name a local file or folder; save one elsewhere with `datasets` save_to_disk"
    if "script" in text:
        return "data sets with a script are not run; use a Parquet copy of it"
    if "config" in text:
        return "name the configuration too: org/name/config:split"
    return "check the spelling; a private set needs `hf auth login`"


def _rows(loaded: Any, source: str, path: str, problems: Problems) -> Rows:
    if not len(loaded):
        problems.add(path, f"no rows ({len(loaded.column_names)} columns)")
    columns = loaded.with_format(None).to_dict()
    names = class_names(loaded.features.to_dict())
    return Rows(
        columns, list(range(1, len(loaded) + 1)), source, path, _digest(columns, names), "datasets", class_names=names
    )


def _digest(columns: dict[str, list[Any]], names: dict[str, list[str]]) -> str:
    """SHA-256 of the cells, not of the files: these differ with the version that wrote them."""
    digest = hashlib.sha256(json.dumps([list(columns), names], sort_keys=True).encode())
    for row in zip(*columns.values(), strict=True):
        digest.update(json.dumps(row, default=repr).encode())
    return digest.hexdigest()


def _nothing(source: str, path: str) -> Rows:
    return Rows({}, [], source, path, "", "datasets")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
