"""Text to tokens: a model's own fast tokenizer over a whole data set, with truncation or windows.

The result is columnar, so that packing a step is array indexing and the cache is one file. An example is one *piece*,
or with `overflow: window` several overlapping ones. A tagged word is predicted from its first sub-token:

    words      EU     rejects       German call
    tokens     [CLS]  eu   reject ##s  german  call  [SEP]
    words_at   -1     0    1      -1   2       3     -1
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from jaxft import assets
from jaxft.errors import UserError

if TYPE_CHECKING:
    from jaxft.data.examples import Examples

_FORMAT = "2"
"""Part of the cache key: changes when what is stored changes."""
_CHUNK = 1024


@dataclass(frozen=True)
class Encoded:
    """P pieces of E examples, T tokens in all.

    tokens, types: int32 [T], token ids and segment (A/B) ids. words_at: int32 [T], the word whose first sub-token
    this is and that is predicted here, else -1. offsets: int64 [P + 1], where pieces start. example: int32 [P].
    window: int32 [P], number of the piece inside its example. lengths: int32 [E], tokens each example would need
    uncut.
    """

    tokens: np.ndarray
    types: np.ndarray
    words_at: np.ndarray
    offsets: np.ndarray
    example: np.ndarray
    window: np.ndarray
    lengths: np.ndarray

    @property
    def piece_lengths(self) -> np.ndarray:
        """int64 [P]."""
        return np.diff(self.offsets)

    @property
    def num_examples(self) -> int:
        return len(self.lengths)


def load_tokenizer(folder: Path) -> Any:
    """The fast tokenizer of a model folder (tokenizer.json or vocab.txt). Nothing in the folder is executed."""
    import transformers

    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.txt")):
        raise UserError(str(folder), "has no tokenizer", "it needs tokenizer.json or vocab.txt")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder), use_fast=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            str(folder), f"its tokenizer cannot be loaded: {reason}", "it needs tokenizer.json or vocab.txt"
        ) from None
    if not tokenizer.is_fast:
        raise UserError(str(folder), "only fast tokenizers know word positions, this one is slow", "add tokenizer.json")
    return tokenizer


def encode(
    examples: Examples,
    tokenizer: Any,
    *,
    max_tokens: int,
    overflow: Literal["truncate", "window", "error"],
    cache: bool = True,
) -> Encoded:
    """Tokenises `examples`, from the cache if this very text was tokenised before; `cache=False` leaves no trace there.

    Raises UserError for texts over `max_tokens` with `overflow="error"`, naming the first ones.
    """
    if cache:
        encoded = _encode_cached(examples, tokenizer, max_tokens, overflow)
    else:
        encoded = _encode(examples, tokenizer, max_tokens, overflow)
    if overflow == "error" and (encoded.lengths > max_tokens).any():
        _refuse(examples, encoded.lengths, max_tokens)
    return encoded


def _encode_cached(examples: Examples, tokenizer: Any, max_tokens: int, overflow: str) -> Encoded:
    key = _cache_key(examples, tokenizer, max_tokens, overflow)
    path = assets.cache_folder() / "tokens" / f"{key}.npz"
    encoded = _read_cache(path)
    if encoded is None:
        encoded = _encode(examples, tokenizer, max_tokens, overflow)
        _write_cache(path, encoded)
    return encoded


def _encode(examples: Examples, tokenizer: Any, max_tokens: int, overflow: str) -> Encoded:
    columns: dict[str, list[np.ndarray]] = {name: [] for name in ("tokens", "types", "words_at")}
    example, window, lengths, sizes = [], [], [], []
    for start in range(0, len(examples), _CHUNK):
        numbers = range(start, min(start + _CHUNK, len(examples)))
        for number, (length, pieces) in zip(
            numbers, _encode_chunk(examples, numbers, tokenizer, max_tokens, overflow), strict=True
        ):
            lengths.append(length)
            for order, piece in enumerate(pieces):
                for name, values in piece.items():
                    columns[name].append(values)
                example.append(number)
                window.append(order)
                sizes.append(len(piece["tokens"]))
    flat = {
        name: np.concatenate(parts).astype(np.int32) if parts else np.zeros(0, np.int32)
        for name, parts in columns.items()
    }
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return Encoded(**flat, offsets=offsets, example=_int32(example), window=_int32(window), lengths=_int32(lengths))


def _encode_chunk(examples: Examples, numbers: range, tokenizer: Any, max_tokens: int, overflow: str):
    """Yields (uncut length, pieces) of each example."""
    part = examples.take(numbers)
    options = {"is_split_into_words": part.is_tagged, "add_special_tokens": True, "verbose": False}
    whole = tokenizer(part.texts, part.pairs, **options)
    for at, encoding in enumerate(whole.encodings):
        if len(encoding.ids) <= max_tokens:
            pieces = [encoding]
        else:
            pieces = _cut(part, at, tokenizer, max_tokens, overflow, options)
        yield len(encoding.ids), _pieces(pieces, part.is_tagged)


def _cut(part: Examples, at: int, tokenizer: Any, max_tokens: int, overflow: str, options: dict) -> list:
    """The encodings of an example that is too long: one, or overlapping windows."""
    text, pair = part.texts[at], None if part.pairs is None else part.pairs[at]
    if overflow != "window":
        cut = tokenizer([text], None if pair is None else [pair], truncation=True, max_length=max_tokens, **options)
        return cut.encodings[:1]
    cut = tokenizer(
        [text],
        None if pair is None else [pair],
        truncation="only_first" if pair is None else "longest_first",
        max_length=max_tokens,
        stride=max_tokens // 4,
        return_overflowing_tokens=True,
        **options,
    )
    return cut.encodings


def _pieces(encodings: list, tagged: bool) -> list[dict[str, np.ndarray]]:
    pieces = [
        {
            "tokens": _int32(encoding.ids),
            "types": _int32(encoding.type_ids),
            "words_at": _first_sub_tokens(encoding, tagged),
        }
        for encoding in encodings
    ]
    if tagged and len(pieces) > 1:
        _assign_words([piece["words_at"] for piece in pieces])
    return pieces


def _first_sub_tokens(encoding: Any, tagged: bool) -> np.ndarray:
    """int32 [tokens]: number of the word that starts here, else -1."""
    if not tagged:
        return np.full(len(encoding.ids), -1, np.int32)
    words = np.array([-1 if word is None else word for word in encoding.word_ids], np.int32)
    starts = np.concatenate([[True], words[1:] != words[:-1]])
    if encoding.offsets and len(words) > 1:  # a window may begin inside a word: its first sub-token is then elsewhere
        first = int(np.argmax(words >= 0))
        if words[first] > 0 and encoding.offsets[first][0] > 0:
            starts[first] = False
    return np.where(starts, words, -1).astype(np.int32)


def _assign_words(windows: list[np.ndarray]) -> None:
    """Leaves each word in the one window where it has most context on its nearer side."""
    best: dict[int, tuple[int, int]] = {}
    for number, words in enumerate(windows):
        for at in np.flatnonzero(words >= 0):
            context = int(min(at, len(words) - 1 - at))
            word = int(words[at])
            if word not in best or context > best[word][0]:
                best[word] = (context, number)
    for number, words in enumerate(windows):
        for at in np.flatnonzero(words >= 0):
            if best[int(words[at])][1] != number:
                words[at] = -1


def _refuse(examples: Examples, lengths: np.ndarray, max_tokens: int) -> None:
    long = np.flatnonzero(lengths > max_tokens)
    first = ", ".join(f"{examples.where[i]} ({lengths[i]} tokens)" for i in long[:5])
    what = f"{len(long)} of {len(lengths)} texts are over data.max_tokens = {max_tokens}: {first}"
    raise UserError(examples.source, what, "raise data.max_tokens, or set data.overflow to truncate or window")


def _cache_key(examples: Examples, tokenizer: Any, max_tokens: int, overflow: str) -> str:
    digest = hashlib.sha256(f"{_FORMAT}\0{max_tokens}\0{overflow}\0{examples.is_tagged}\0".encode())
    digest.update(tokenizer.backend_tokenizer.to_str().encode())
    for column in (examples.texts, examples.pairs or []):
        for text in column:
            for word in text if isinstance(text, list) else [text]:
                digest.update(word.encode() + b"\0")
            digest.update(b"\1")
        digest.update(b"\2")
    return digest.hexdigest()


def _read_cache(path: Path) -> Encoded | None:
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
            return Encoded(**{name: stored[name] for name in Encoded.__dataclass_fields__})
    except (OSError, ValueError, KeyError, EOFError):
        return None  # absent or damaged: made again
    except Exception as error:  # zipfile.BadZipFile, without importing zipfile for its name
        if type(error).__name__ == "BadZipFile":
            return None
        raise


def _write_cache(path: Path, encoded: Encoded) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **{name: getattr(encoded, name) for name in Encoded.__dataclass_fields__})
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def _int32(values: Any) -> np.ndarray:
    return np.asarray(values, np.int32)
