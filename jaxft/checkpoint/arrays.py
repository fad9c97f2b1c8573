"""Named arrays in a folder, written and read by orbax-checkpoint as a few shards of raw bytes.

    arrays/_METADATA      orbax's own list of the shards
    arrays/00000/.zarray  shape and type of the first shard: bytes, not compressed (floats of a model hardly shrink)
    arrays/00000/0        its bytes:  | word embeddings ... | pad | bias | pad | ...     each array begins at 64 bytes
    arrays/00001/...

Shards rather than one file an array: a model with its moments has hundreds of arrays, most of them small, and forcing
hundreds of files to the disk takes longer than writing them. As the file of a shard is the shard, byte for byte, its
SHA-256 can be taken from memory, beside the writing, and says what should be on the disk rather than what is.

Orbax hashes nothing: a changed byte is restored as it is. Whoever reads checks (store.py).
Left out: arrays of several processes, and reading onto devices.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

DTYPES = frozenset(f"{kind}{width}" for kind in ("int", "uint") for width in (8, 16, 32, 64)) | frozenset(
    ("bool", "float16", "bfloat16", "float32", "float64")
)
SHARD_BYTES = 32 * 2**20
"""A shard is closed when it has this many; one array is never parted."""
ALIGN_BYTES = 64


@dataclass(frozen=True)
class Place:
    """Where an array lies. shard: its number. offset: bytes. dtype, shape: of the array."""

    shard: int
    offset: int
    dtype: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * _dtype(self.dtype).itemsize


def check(arrays: Mapping[str, np.ndarray]) -> None:
    """TypeError for anything but a host array of DTYPES in the byte order of this machine."""
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise TypeError(f"{name}: expected a NumPy array, got {type(array).__name__}")
        if array.dtype.name not in DTYPES or not array.dtype.isnative:
            raise TypeError(f"{name}: dtype {array.dtype} cannot be saved, only {', '.join(sorted(DTYPES))}")


def pack(arrays: Mapping[str, np.ndarray]) -> tuple[list[np.ndarray], dict[str, Place]]:
    """Shards, uint8 [N] each and N > 0, and where each array lies in them. An array alone in its shard is not copied,
    the others are."""
    shards: list[list[np.ndarray]] = []
    places, end = {}, SHARD_BYTES
    for name, array in arrays.items():
        raw = _raw(array)
        start = math.ceil(end / ALIGN_BYTES) * ALIGN_BYTES
        if raw.size and (not shards or start + raw.size > SHARD_BYTES):
            shards.append([])
            start = end = 0
        places[name] = Place(max(0, len(shards) - 1), start if raw.size else 0, array.dtype.name, array.shape)
        if raw.size:
            shards[-1] += [np.zeros(start - end, np.uint8), raw] if start > end else [raw]
            end = start + raw.size
    return [parts[0] if len(parts) == 1 else np.concatenate(parts) for parts in shards], places


def unpack(shards: list[np.ndarray], places: Mapping[str, Place]) -> dict[str, np.ndarray]:
    """The arrays, as parts of the shards' memory. ValueError if a shard is too short for them."""
    arrays = {}
    for name, place in places.items():
        raw = shards[place.shard][place.offset : place.offset + place.bytes] if place.bytes else np.zeros(0, np.uint8)
        arrays[name] = raw.view(_dtype(place.dtype)).reshape(place.shape)
    return arrays


def file_of(number: int) -> str:
    """File that holds the bytes of a shard and nothing else, relative to the folder."""
    return f"{_key(number)}/0"


def write(folder: Path, shards: list[np.ndarray]) -> None:
    """Writes at least one shard into a new folder. Nothing is forced to the disk: see disk.sync_all.

    Raises OSError, also for a file that is not as long as its shard.
    """
    from orbax import checkpoint

    folder.mkdir()
    handler = _handler()
    try:
        tree = {_key(number): shard for number, shard in enumerate(shards)}
        handler.save(_path(folder), args=checkpoint.args.PyTreeSave(tree))
    except ValueError as error:  # how TensorStore tells what it met, with its settings after it
        code = re.search(r"os_error_code='(\d+)'", str(error))
        raise OSError(int(code[1]) if code else errno.EIO, str(error).split(" [", 1)[0]) from error
    finally:
        handler.close()
    for number, shard in enumerate(shards):
        size = (folder / file_of(number)).stat().st_size
        if size != shard.size:
            raise OSError(f"{folder / file_of(number)}: {size:,} bytes were written, expected {shard.size:,}")


def read(folder: Path, numbers: Iterable[int]) -> list[np.ndarray]:
    """Shards, uint8 [N] each if the folder is intact. Raises whatever orbax does."""
    from orbax import checkpoint

    handler = _handler()
    try:
        keys = [_key(number) for number in numbers]
        wanted = {key: checkpoint.RestoreArgs(restore_type=np.ndarray) for key in keys}
        args = checkpoint.args.PyTreeRestore(restore_args=wanted)
        found = handler.restore(_path(folder), args=args)
        return [found[key] for key in keys]
    finally:
        handler.close()


def _raw(array: np.ndarray) -> np.ndarray:
    """uint8 [N], row-major; a copy only if the array is not so in memory."""
    return np.asarray(array, order="C").reshape(-1).view(np.uint8)


def _dtype(name: str) -> np.dtype:
    import ml_dtypes  # noqa: F401  makes bfloat16 known to NumPy

    return np.dtype(name)


def _key(number: int) -> str:
    return f"{number:05d}"


def _path(folder: Path) -> Any:
    from etils import epath  # orbax's own kind of path

    return epath.Path(folder.absolute())


def _listed(parts: Iterable[Any]) -> list[list[Any]]:
    return [[part] for part in parts]


def _told_by_raising(record: logging.LogRecord) -> bool:
    """False for what orbax logs, with two pages of tracebacks, about an error that it raises as well."""
    return "_SignalingThread.run() raised" not in str(record.msg)


def _handler() -> Any:
    """Orbax's handler of trees. A new one each time: TensorStore caches by path, and paths are used again."""
    import jax
    import tensorstore
    from orbax import checkpoint
    from orbax.checkpoint import type_handlers

    class Shards(type_handlers.NumpyHandler):
        """Writes without an fsync after each file: they are all forced out together at the end, in their order.

        One shard at a time goes through orbax: among several, the first error would end the event loop that the others
        still report to.
        """

        async def serialize(self, values, infos, args=None):
            unsynced = tensorstore.Context({"file_io_sync": False}, infos[0].ts_context)
            infos = [info.replace(ts_context=unsynced) for info in infos]
            args = args or [type_handlers.SaveArgs()] * len(infos)
            one = super().serialize
            return [future for each in zip(values, infos, args, strict=True) for future in await one(*_listed(each))]

        async def deserialize(self, infos, args=None):
            args = args or [type_handlers.RestoreArgs()] * len(infos)
            one = super().deserialize
            reading = (one(*_listed(each)) for each in zip(infos, args, strict=True))
            found = await asyncio.gather(*reading, return_exceptions=True)
            for error in found:
                if isinstance(error, BaseException):
                    raise error
            return [shard for (shard,) in found]

    logging.getLogger("absl").addFilter(_told_by_raising)  # adding it again changes nothing
    registry = type_handlers.create_type_handler_registry(
        (np.ndarray, Shards(deepcopy_host_arrays=False)),  # nobody changes them
        (jax.Array, type_handlers.ArrayHandler()),  # never used; orbax warns where there is none
    )
    return checkpoint.PyTreeCheckpointHandler(
        use_ocdbt=False,
        use_zarr3=False,
        use_compression=False,
        type_handler_registry=registry,
        enable_pinned_host_transfer=False,
    )
