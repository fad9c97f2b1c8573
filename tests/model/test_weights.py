from __future__ import annotations

import json
import pickle
import struct
from pathlib import Path

import ml_dtypes
import msgpack
import numpy as np
import pytest
from flax.serialization import msgpack_serialize
from safetensors.numpy import save_file

from jaxft.errors import UserError
from jaxft.model import weights

A = np.arange(6, dtype=np.float32).reshape(2, 3)


def raw(path: Path, header, data: bytes = b"", length: int | None = None) -> Path:
    """A safetensors file put together by hand."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def entry(first: int = 0, last: int = 24, shape=(2, 3), dtype: str = "F32") -> dict:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [first, last]}


# --- sound files -----------------------------------------------------------------------------------------------------


def test_out_and_in(tmp_path):
    path = tmp_path / "new" / "model.safetensors"
    tensors = {"a": A, "transposed": A.T, "scalar": np.float32(3).reshape(()), "empty": np.zeros((0, 4), np.float32)}
    weights.write(path, tensors)
    back = weights.read(path)
    assert set(back) == set(tensors)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(back[name], tensor)
        assert back[name].dtype == np.float32
    assert [file.name for file in path.parent.iterdir()] == ["model.safetensors"]
    header = path.read_bytes()[8:300]
    assert b'"__metadata__":{"format":"pt"}' in header


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    weights.write(path, {"a": A})
    before = path.read_bytes()

    def fail(tensors, file, metadata):
        Path(file).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(weights, "save_file", fail)
    with pytest.raises(OSError, match="No space left"):
        weights.write(path, {"a": A + 1})
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_is_widened_exactly(tmp_path, dtype):
    half = np.random.default_rng(0).normal(size=(4, 5)).astype(dtype)
    save_file({"a": half}, tmp_path / "model.safetensors")
    back = weights.read(tmp_path / "model.safetensors")["a"]
    assert back.dtype == np.float32
    np.testing.assert_array_equal(back, half.astype(np.float64))


def shard(folder: Path, **changes) -> Path:
    save_file({"a": A, "b": A + 1}, folder / "model-00001-of-00002.safetensors")
    save_file({"c": A + 2}, folder / "model-00002-of-00002.safetensors")
    one, two = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    weight_map = {"a": one, "b": one, "c": two} | changes
    weight_map = {name: file for name, file in weight_map.items() if file is not None}
    (folder / weights.INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def test_shards(tmp_path):
    tensors = weights.read_folder(shard(tmp_path))
    assert sorted(tensors) == ["a", "b", "c"]
    np.testing.assert_array_equal(tensors["c"], A + 2)


# --- hostile files ---------------------------------------------------------------------------------------------------

HEADERS = {
    "empty file": (lambda p: p.write_bytes(b""), "header says 0 bytes, the file has 0 after"),
    "7 bytes": (lambda p: p.write_bytes(b"1234567"), "the file has 0 after the length"),
    "header longer than file": (lambda p: raw(p, {}, length=10**9), "header says 1000000000 bytes, the file has 2"),
    "header length 2**63": (lambda p: raw(p, {}, length=2**63), "header says 9223372036854775808 bytes"),
    "not JSON": (lambda p: raw(p, b"{nope"), "not sound JSON"),
    "not UTF-8": (lambda p: raw(p, b'{"\xff": 1}'), "not sound JSON"),
    "a list": (lambda p: raw(p, [1]), "its header is list"),
    "deep": (lambda p: raw(p, b"[" * 100_000), "not sound JSON"),
    "a tensor is a number": (lambda p: raw(p, {"a": 1}), "'a'.*is not sound"),
    "duplicate": (
        lambda p: raw(p, b'{"a":%b,"a":%b}' % ((json.dumps(entry()).encode(),) * 2), A.tobytes()),
        "'a' is given twice",
    ),
    "cut short": (lambda p: raw(p, {"a": entry()}, A.tobytes()[:-1]), "tensors end at byte 24, the file at 23"),
    "trailing bytes": (lambda p: raw(p, {"a": entry()}, A.tobytes() + b"x"), "tensors end at byte 24, the file at 25"),
    "overlap": (
        lambda p: raw(p, {"a": entry(), "b": entry(12, 36)}, bytes(36)),
        "'b' from byte 12 overlaps 'a', which ends at 24",
    ),
    "same bytes twice": (lambda p: raw(p, {"a": entry(), "b": entry()}, A.tobytes()), "overlaps"),
    "gap": (lambda p: raw(p, {"a": entry(4, 28)}, bytes(28)), "leaves a gap"),
    "out of range": (lambda p: raw(p, {"a": entry(0, 24)}, b""), "tensors end at byte 24, the file at 0"),
    "backwards": (lambda p: raw(p, {"a": entry(24, 0)}, A.tobytes()), "takes 24 bytes, its byte range holds -24"),
    "negative": (lambda p: raw(p, {"a": entry(-24, 0)}, A.tobytes()), "is not sound"),
    "huge shape": (lambda p: raw(p, {"a": entry(shape=(2**40, 2**40))}, A.tobytes()), "its byte range holds 24"),
    "shape of text": (lambda p: raw(p, {"a": entry(shape="ab")}, A.tobytes()), "is not sound"),
    "fractional shape": (lambda p: raw(p, {"a": entry(shape=(2.0, 3))}, A.tobytes()), "is not sound"),
    "wrong size": (lambda p: raw(p, {"a": entry(shape=(2, 4))}, A.tobytes()), r"F32 \[2, 4\] takes 32 bytes.*holds 24"),
    "F64": (lambda p: raw(p, {"a": entry(0, 48, dtype="F64")}, bytes(48)), "is 'F64', supported: F32, F16, BF16"),
    "unknown dtype": (lambda p: raw(p, {"a": entry(dtype="F7")}, A.tobytes()), "is 'F7', supported"),
    "dtype no text": (lambda p: raw(p, {"a": entry() | {"dtype": ["F32"]}}, A.tobytes()), "supported"),
    "NaN": (lambda p: save_file({"a": A * np.float32("nan")}, p), "'a' has 6 NaN or infinite values of 6"),
    "infinite": (lambda p: save_file({"a": A, "b": A / np.float32(0.5e-45)}, p), "'b' has"),
    "a folder": (lambda p: p.mkdir(), "cannot be read"),
    "absent": (lambda p: None, "cannot be read: No such file"),
}


@pytest.mark.parametrize("name", sorted(HEADERS))
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_hostile_file_is_one_clear_error(name, tmp_path):
    make, message = HEADERS[name]
    path = tmp_path / "model.safetensors"
    make(path)
    with pytest.raises(UserError, match=message) as error:
        weights.read(path)
    assert error.value.problems[0].where == str(path)


def test_random_damage_never_gets_past_as_another_exception(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"a": A, "b": A.astype(np.float16)}, path)
    sound, rng = path.read_bytes(), np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        content = bytearray(sound)
        for place in rng.integers(0, 8 + 200, rng.integers(1, 4)):
            content[place % len(content)] = rng.integers(0, 256)
        path.write_bytes(bytes(content[: rng.integers(len(content) - 3, len(content) + 1)]))
        try:
            weights.read(path)
        except UserError:
            refused += 1
    assert refused > 200


def test_several_bad_tensors_are_told_at_once(tmp_path):
    path = raw(tmp_path / "x.safetensors", {"a": entry(dtype="F64"), "b": entry(shape=(7,)), "c": 3})
    with pytest.raises(UserError) as error:
        weights.read(path)
    assert len(error.value.problems) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"a": "../model.safetensors"}, "'../model.safetensors' is not the name of a .safetensors file in this folder"),
        ({"a": "/etc/passwd"}, "is not the name"),
        ({"a": "pytorch_model.bin"}, "is not the name"),
        ({"a": "model-00003.safetensors"}, "cannot be read: No such file"),
        ({"d": "model-00002-of-00002.safetensors"}, "'d' of shard model-00002-of-00002.safetensors is listed but not"),
        ({"b": None}, "'b' of shard model-00001-of-00002.safetensors is in the file but not listed"),
        ({"a": 3}, "weight_map: expected tensor name -> file name"),
    ],
)
def test_hostile_index(changes, message, tmp_path):
    shard(tmp_path, **changes)
    with pytest.raises(UserError, match=message):
        weights.read_folder(tmp_path)


# --- other formats ---------------------------------------------------------------------------------------------------


class Evil:
    def __reduce__(self):
        return (Path("/nonexistent/owned").write_text, ("",))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pytorch_model.bin", "is a pickle, which can run code.*save_pretrained"),
        ("model.pt", "is a pickle"),
        ("model.ckpt", "is a pickle"),
        ("tf_model.h5", "TensorFlow checkpoints are not supported.*from_tf=True"),
        ("bert_model.ckpt.index", "TensorFlow checkpoints are not supported"),
        ("flax_model.msgpack", "an old Flax checkpoint.*`jaxft convert"),
        ("notes.txt", "holds neither model.safetensors nor model.safetensors.index.json"),
        ("training_args.bin", "holds neither model.safetensors"),
    ],
)
def test_other_formats_are_refused_unread(name, message, tmp_path):
    (tmp_path / name).write_bytes(pickle.dumps(Evil()))
    with pytest.raises(UserError, match=message):
        weights.read_folder(tmp_path)


def test_no_folder(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        weights.read_folder(tmp_path / "absent")


def test_msgpack(tmp_path):
    path = tmp_path / "flax_model.msgpack"
    tree = {"params": {"bert": {"x": {"kernel": A, "bias": A[0].astype(ml_dtypes.bfloat16)}}}}
    path.write_bytes(msgpack_serialize(tree))
    tensors = weights.read_msgpack(path)
    assert sorted(tensors) == ["bert.x.bias", "bert.x.kernel"]
    np.testing.assert_array_equal(tensors["bert.x.bias"], A[0])
    assert all(tensor.dtype == np.float32 for tensor in tensors.values())


def array(shape, dtype: str, data: bytes) -> msgpack.ExtType:
    return msgpack.ExtType(1, msgpack.packb((shape, dtype, data)))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xc1",
        b"not msgpack",
        msgpack.packb({"a": 3}),
        msgpack.packb([1, 2]),
        msgpack.packb({"a": {"b": "text"}}),
        msgpack_serialize({"a": A})[:-5],
        msgpack.packb({"a": array((2, 3), "object", bytes(48))}),
        msgpack.packb({"a": array((2, 3), "float32", bytes(3))}),
        msgpack.packb({"a": array((2**40, 2**40), "float32", bytes(24))}),
        msgpack.packb({"a": array((2, 3), "os.system", bytes(24))}),
        msgpack.packb({"a": array((1,), "float64", bytes(8))}),
        msgpack.packb({"a": msgpack.ExtType(1, b"junk")}),
        msgpack.packb({"__msgpack_chunked_array__": True, "shape": {"0": 4}, "chunks": {}}),
        b"\x81\xa1a" * 2000,
        msgpack_serialize({"a": A * np.float32("nan")}),
    ],
)
def test_hostile_msgpack(content, tmp_path):
    path = tmp_path / "flax_model.msgpack"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        weights.read_msgpack(path)
    assert error.value.problems[0].where == str(path)


def test_write_bytes_replaces_whole_files(tmp_path):
    path = tmp_path / "config.json"
    weights.write_bytes(path, b"one")
    weights.write_bytes(path, b"two")
    assert path.read_bytes() == b"two" and len(list(tmp_path.iterdir())) == 1
