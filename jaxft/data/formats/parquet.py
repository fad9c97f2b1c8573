"""Parquet through pyarrow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jaxft.data.formats.text import load_bytes
from jaxft.data.rows import Rows
from jaxft.errors import Problems


def read(path: Path, source: str, problems: Problems) -> Rows:
    """Rows of a Parquet file; class names where `datasets` wrote them into its schema."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    raw, sha256 = load_bytes(path, problems)
    if raw is None:
        return Rows({}, [], source, str(path), sha256, "parquet")
    try:
        table = pq.read_table(pa.BufferReader(raw))
    except (pa.ArrowException, OSError) as error:
        problems.add(str(path), f"cannot be read as Parquet: {str(error).splitlines()[0]}")
        return Rows({}, [], source, str(path), sha256, "parquet")
    if not table.num_rows:
        problems.add(str(path), f"no rows ({table.num_columns} columns)")
    names = class_names(_features(table.schema.metadata or {}))
    lines = list(range(1, table.num_rows + 1))
    return Rows(table.to_pydict(), lines, source, str(path), sha256, "parquet", class_names=names)


def _features(metadata: dict[bytes, bytes]) -> dict[str, Any]:
    """What `datasets` says of the columns: name -> feature as a dict, {} if it did not write the file."""
    try:
        return json.loads(metadata.get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    except ValueError:
        return {}


def class_names(features: dict[str, Any]) -> dict[str, list[str]]:
    """Column -> class names, of features written as dicts; looks through one level of list."""
    found = {}
    for name, feature in features.items():
        inner = feature.get("feature", feature) if isinstance(feature, dict) else feature
        inner = inner[0] if isinstance(inner, list) and inner else inner
        if isinstance(inner, dict) and inner.get("_type") == "ClassLabel":
            found[name] = list(inner.get("names") or [])
    return found
