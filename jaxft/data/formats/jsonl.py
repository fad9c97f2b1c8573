"""JSON lines: one object a line; blank lines are skipped."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxft.data.formats.text import load_text
from jaxft.data.listing import Listing
from jaxft.data.rows import Rows
from jaxft.errors import Problems


def read(path: Path, source: str, needed: Sequence[str], problems: Problems) -> Rows:
    """Rows of a JSONL file.

    An object without a key of `needed` that others have is a problem, and left out; other missing keys become None.
    """
    text, sha256 = load_text(path, problems)
    items: list[tuple[int, dict[str, Any]]] = []
    if text is not None:
        with Listing(problems, str(path)) as listing:
            items = _complete(list(_objects(text, path, listing)), needed, path, listing)
            if not items and not listing.count:
                listing.add(str(path), "no JSON objects")
    names = list(dict.fromkeys(name for _, item in items for name in item))
    columns = {name: [item.get(name) for _, item in items] for name in names}
    return Rows(columns, [number for number, _ in items], source, str(path), sha256, "jsonl")


def _objects(text: str, path: Path, listing: Listing) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, object) of each line that holds one; other lines are problems."""
    if text.lstrip().startswith("["):
        fix = f"jq -c '.[]' {path} > {path.with_name(path.stem + '.lines.jsonl')}"
        listing.add(str(path), "is one JSON array, expected an object a line", fix)
        return
    for number, line in enumerate(text.split("\n"), 1):  # not splitlines: U+2028 may stand in a JSON string
        item = _parse(line, f"{path}:{number}", listing) if line.strip() else None
        if item is not None:
            yield number, item


def _parse(line: str, where: str, listing: Listing) -> dict[str, Any] | None:
    try:
        item = json.loads(line)
    except json.JSONDecodeError as error:
        listing.add(f"{where}:{error.colno}", f"is not JSON: {error.msg}")
        return None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; very deep nesting
        listing.add(where, f"is not usable JSON: {error}")
        return None
    if isinstance(item, dict):
        return item
    listing.add(where, f'expected an object such as {{"text": …}}, came {type(item).__name__}')
    return None


def _complete(
    items: list[tuple[int, dict[str, Any]]], needed: Sequence[str], path: Path, listing: Listing
) -> list[tuple[int, dict[str, Any]]]:
    """The items that have every key of `needed` that any item has; the others are problems."""
    known = {name for _, item in items for name in item}
    wanted = [name for name in needed if name in known]
    kept = []
    for number, item in items:
        missing = [name for name in wanted if name not in item]
        for name in missing:
            listing.add(f"{path}:{number}", f"no key {name!r}; its keys: {', '.join(map(repr, item)) or 'none'}")
        if not missing:
            kept.append((number, item))
    return kept
