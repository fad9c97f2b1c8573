"""Tensors in files: safetensors in and out, `flax_model.msgpack` in. Nothing here runs code from a file.

A safetensors file is 8 bytes of header length, a JSON header (name -> dtype, shape, byte range) and the bytes
(https://github.com/huggingface/safetensors). The library parses it; what it lets pass, or says in its own words, is
checked here first. Tensors come out as numpy f32 (from F32, F16, BF16), index buffers as I64. Pickles are refused.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
from flax.serialization import msgpack_restore
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from jaxft.errors import Problems, UserError
from jaxft.model.config import read_json, show, unique_keys

Tensors = dict[str, np.ndarray]

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
MSGPACK = "flax_model.msgpack"
MAX_HEADER_BYTES = 100_000_000  # the library's own limit

_FLOATS = {"F32": 4, "F16": 2, "BF16": 2}
_INTEGERS = {"I64": 8, "I32": 4}
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_TENSORFLOW = (".h5", ".ckpt.index", ".ckpt.meta", ".pb")


def read_folder(folder: str | Path) -> Tensors:
    """All tensors of a model folder: model.safetensors, else the shards of its index.

    Raises UserError for a folder without either, saying what to do with the format found instead.
    """
    folder = Path(folder)
    if (folder / SINGLE).is_file():
        return read(folder / SINGLE)
    if (folder / INDEX).is_file():
        return _read_shards(folder)
    raise _no_safetensors(folder)


def read(path: str | Path) -> Tensors:
    """All tensors of a safetensors file. Raises UserError for a damaged file, other dtypes, NaN or infinite weights."""
    path = Path(path)
    _check_header(path)
    try:
        with safe_open(path, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise UserError(str(path), f"not a sound safetensors file: {error}", "copy or download it again") from None
    return _to_f32(tensors, path)


def write(path: str | Path, tensors: Tensors) -> None:
    """Writes a safetensors file as `transformers` does, by way of a temporary file: it appears whole or not at all."""
    # The library writes the buffer as it lies in memory: a transposed view would be saved wrong.
    solid = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    _replace(Path(path), lambda temporary: save_file(solid, temporary, metadata={"format": "pt"}))


def write_bytes(path: str | Path, content: bytes) -> None:
    """Writes a file that appears whole or not at all."""
    _replace(Path(path), lambda temporary: temporary.write_bytes(content))


def read_msgpack(path: str | Path) -> Tensors:
    """The arrays of a Flax msgpack file, keyed by their path with dots. Data only: the format holds no code."""
    path = Path(path)
    try:
        tree = msgpack_restore(path.read_bytes())
    except FileNotFoundError:
        raise UserError(str(path), "no such file") from None
    except (msgpack.exceptions.UnpackException, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(str(path), f"not a sound Flax msgpack file: {error!r}", "copy or download it again") from None
    tensors: Tensors = {}
    _flatten(tree, "", tensors, path)
    return _to_f32({name.removeprefix("params."): tensor for name, tensor in tensors.items()}, path)


# --- reading ---------------------------------------------------------------------------------------------------------


def _check_header(path: Path) -> None:
    """Refuses a header that does not fit the file, repeats a name, or names a dtype that a BERT checkpoint has not."""
    problems, where, fix = Problems(), str(path), "copy or download it again"
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            text = file.read(length) if length <= min(size - 8, MAX_HEADER_BYTES) else b""
    except OSError as error:
        raise UserError(where, f"cannot be read: {error.strerror}") from None
    if size < 8 or length > size - 8:
        raise UserError(where, f"its header says {length} bytes, the file has {max(size - 8, 0)} after the length", fix)
    if length > MAX_HEADER_BYTES:
        raise UserError(where, f"its header is {length} bytes long, at most {MAX_HEADER_BYTES} are allowed", fix)
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        raise UserError(where, f"its header is not sound JSON: {error}", fix) from None
    if not isinstance(header, dict):
        raise UserError(where, f"its header is {type(header).__name__}, expected name -> tensor", fix)
    ranges = [_check_entry(name, entry, where, problems) for name, entry in header.items() if name != "__metadata__"]
    problems.raise_if_any()
    _check_ranges(sorted(ranges), size - 8 - length, where, problems)
    problems.raise_if_any()


def _check_entry(name: str, entry: Any, where: str, problems: Problems) -> tuple[int, int, str]:
    """Checks one tensor of a header; its first and one-past-last byte, and its name."""
    entry = entry if isinstance(entry, dict) else {}
    dtype, shape, offsets = (entry.get(key) for key in ("dtype", "shape", "data_offsets"))
    sizes = _FLOATS | _INTEGERS
    if not _whole_numbers(shape) or not _whole_numbers(offsets) or len(offsets) != 2:
        problems.add(where, f"tensor {show(name)}: shape {show(shape)} or byte range {show(offsets)} is not sound")
        return 0, 0, name
    if not isinstance(dtype, str) or dtype not in sizes:
        problems.add(where, f"tensor {show(name)} is {show(dtype)}, supported: {', '.join(sizes)}", "save it as F32")
        return 0, 0, name
    first, last = offsets
    expected = sizes[dtype]
    for axis in shape:
        expected *= axis
    if last - first != expected:
        what = f"tensor {show(name)}: {dtype} {shape} takes {expected} bytes, its byte range holds {last - first}"
        problems.add(where, what)
    return first, last, name


def _check_ranges(ranges: list[tuple[int, int, str]], size: int, where: str, problems: Problems) -> None:
    """Byte ranges must follow each other without gap or overlap and end with the file."""
    end, before = 0, "the header"
    for first, last, name in ranges:
        if first != end:
            kind = "overlaps" if first < end else "leaves a gap after"
            problems.add(where, f"tensor {show(name)} from byte {first} {kind} {show(before)}, which ends at {end}")
        end, before = max(end, last), name
    if end != size:
        problems.add(where, f"its tensors end at byte {end}, the file at {size}", "it is cut short or was changed")


def _whole_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 2**48 for item in value)


def _read_shards(folder: Path) -> Tensors:
    """The tensors of a sharded model: the index maps each name to the file that holds it."""
    path, problems = folder / INDEX, Problems()
    weight_map = read_json(path).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map or not all(isinstance(f, str) for f in weight_map.values()):
        raise UserError(str(path), f"weight_map: expected tensor name -> file name, came {show(weight_map)}")
    tensors: Tensors = {}
    for name in sorted(set(weight_map.values())):
        # A plain name beside the index: nothing may reach out of the folder.
        if Path(name).name != name or not name.endswith(".safetensors") or "\\" in name:
            problems.add(str(path), f"shard {show(name)} is not the name of a .safetensors file in this folder")
            continue
        try:
            shard = read(folder / name)
        except UserError as error:
            problems.take(error)
            continue
        listed = {tensor for tensor, file in weight_map.items() if file == name}
        for tensor in sorted(listed ^ set(shard)):
            where = "listed but not in the file" if tensor in listed else "in the file but not listed"
            problems.add(str(path), f"tensor {show(tensor)} of shard {name} is {where}")
        tensors |= shard
    problems.raise_if_any()
    return tensors


def _no_safetensors(folder: Path) -> UserError:
    """What is wrong with a folder that has no safetensors, by what it has instead."""
    if not folder.is_dir():
        return UserError(str(folder), "no such folder", f"a model folder holds config.json and {SINGLE}")
    names = sorted(path.name for path in folder.iterdir())
    if MSGPACK in names:
        fix = f"`jaxft convert {folder} OUT_FOLDER`, then use OUT_FOLDER"
        return UserError(str(folder / MSGPACK), "an old Flax checkpoint", fix)
    for endings in (_PICKLES, _TENSORFLOW):
        for name in names:
            if name.endswith(endings) and name != "training_args.bin":
                return refusal(folder / name)
    return UserError(str(folder), f"holds neither {SINGLE} nor {INDEX}", "a model folder holds config.json and one")


def refusal(path: Path) -> UserError:
    """The error for a file in a format that is not read, with the way out."""
    save = f"AutoModel.from_pretrained({str(path.parent)!r}{{}}).save_pretrained(OUT_FOLDER)"
    if path.name.endswith(_TENSORFLOW):
        fix = "in transformers 4, `" + save.format(", from_tf=True") + "` writes safetensors"
        return UserError(str(path), "TensorFlow checkpoints are not supported", fix)
    if path.name.endswith(_PICKLES):
        fix = "if you trust it, `" + save.format("") + "` in transformers writes safetensors"
        return UserError(str(path), "is a pickle, which can run code when it is read: refused", fix)
    return UserError(str(path), "not a weight file that can be read", "expected .safetensors or .msgpack")


def _to_f32(tensors: Tensors, path: Path) -> Tensors:
    """Floating tensors as f32, exactly. Refuses NaN and infinity by name: they would spread without a word."""
    problems, out = Problems(), {}
    for name, tensor in tensors.items():
        if tensor.dtype.kind in "iu":
            out[name] = tensor
            continue
        if tensor.dtype.name not in ("float32", "float16", "bfloat16"):
            what = f"tensor {show(name)} is {tensor.dtype.name}, supported: float32, float16, bfloat16"
            problems.add(str(path), what)
            continue
        out[name] = np.asarray(tensor, np.float32)
        bad = tensor.size - int(np.isfinite(out[name]).sum())
        if bad:
            problems.add(str(path), f"tensor {show(name)} has {bad} NaN or infinite values of {tensor.size}")
    problems.raise_if_any()
    return out


def _flatten(tree: Any, name: str, out: Tensors, path: Path) -> None:
    if isinstance(tree, dict):
        for key, value in tree.items():
            _flatten(value, f"{name}.{key}" if name else str(key), out, path)
    elif hasattr(tree, "dtype") and hasattr(tree, "shape"):
        out[name] = np.asarray(tree)
    else:
        raise UserError(str(path), f"{show(name or 'the top')}: expected arrays, came {type(tree).__name__}")


# --- writing ---------------------------------------------------------------------------------------------------------


def _replace(path: Path, write_to: Callable[[Path], Any]) -> None:
    """Lets `write_to` fill a temporary file beside `path`, then moves it there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        write_to(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
