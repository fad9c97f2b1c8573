"""Bytes of a text file as text: UTF-8 or a clear problem, no NUL bytes, not empty."""

from __future__ import annotations

import codecs
import hashlib
from pathlib import Path

from jaxft.data.listing import Listing
from jaxft.errors import Problems

_WIDE_BOMS = {  # the UTF-32 marks begin with the UTF-16 ones, so they come first
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def load_bytes(path: Path, problems: Problems) -> tuple[bytes | None, str]:
    """(bytes, sha256) of a file; None and a problem if it cannot be read or is empty."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        problems.add(str(path), f"cannot be read: {error.strerror or error}")
        return None, ""
    if not raw.strip():
        problems.add(
            str(path), f"the file is empty ({len(raw)} bytes)" if not raw else f"only blanks ({len(raw)} bytes)"
        )
        return None, ""
    return raw, hashlib.sha256(raw).hexdigest()


def load_text(path: Path, problems: Problems) -> tuple[str | None, str]:
    """(text, sha256) of a UTF-8 file; None and a problem for each line that is not UTF-8 or holds a NUL byte.

    A UTF-8 byte order mark is taken off, with a warning. Line ends are kept as they are.
    """
    raw, sha256 = load_bytes(path, problems)
    if raw is None:
        return None, ""
    for mark, encoding in _WIDE_BOMS.items():
        if raw.startswith(mark):
            problems.add(
                str(path), f"starts with a {encoding} byte order mark; UTF-8 is expected", _iconv(encoding, path)
            )
            return None, sha256
    if b"\0" in raw:
        _add_nul_lines(raw, path, problems)
        return None, sha256
    if raw.startswith(codecs.BOM_UTF8):
        problems.warn(f"{path}:1", "starts with a UTF-8 byte order mark, which was taken off", _strip_mark(path))
        raw = raw.removeprefix(codecs.BOM_UTF8)
    try:
        return raw.decode("utf-8"), sha256
    except UnicodeDecodeError:
        _add_undecodable_lines(raw, path, problems)
        return None, sha256


def _add_nul_lines(raw: bytes, path: Path, problems: Problems) -> None:
    total = raw.count(b"\0")
    fix = _iconv("UTF-16LE", path) if total > len(raw) // 4 else f"tr -d '\\000' < {path} > {_renamed(path)}"
    with Listing(problems, str(path)) as listing:
        for number, line in enumerate(raw.split(b"\n"), 1):
            if b"\0" in line:
                what = f"{line.count(0):,} of the file's {total:,} NUL bytes (the first at column {line.index(0) + 1})"
                listing.add(f"{path}:{number}", what, fix)


def _add_undecodable_lines(raw: bytes, path: Path, problems: Problems) -> None:
    start = 0
    with Listing(problems, str(path)) as listing:
        for number, line in enumerate(raw.split(b"\n"), 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                what = f"byte 0x{line[error.start]:02x} at offset {start + error.start:,} is not UTF-8"
                listing.add(f"{path}:{number}", what, f"if the file is Latin-1: {_iconv('latin1', path)}")
            start += len(line) + 1


def _iconv(encoding: str, path: Path) -> str:
    return f"iconv -f {encoding} -t utf-8 {path} > {_renamed(path)}"


def _strip_mark(path: Path) -> str:
    return f"tail -c +4 {path} > {_renamed(path)}"


def _renamed(path: Path) -> Path:
    return path.with_name(f"{path.stem}.utf8{path.suffix}")
