from __future__ import annotations

import pytest
from flax.serialization import msgpack_serialize

from jaxft.cli.convert import main
from jaxft.errors import UserError
from jaxft.model import folder
from jaxft.model.config import BertConfig, to_json
from jaxft.model.convert import from_params
from jaxft.model.heads import HEADS
from jaxft.model.initial import initialise
from jaxft.prng import stream

SMALL = BertConfig(20, 8, 1, 2, 12, max_position_embeddings=6)


def test_convert_writes_a_folder_that_loads(tmp_path, capsys):
    tensors = from_params(initialise(SMALL, "mlm", 0, stream("init", 0)), "mlm")
    tree: dict = {}
    for name, tensor in tensors.items():
        *path, last = name.split(".")
        if last == "weight":
            last = "scale" if path[-1] == "LayerNorm" else "embedding" if "embeddings" in path[-1] else "kernel"
        node = tree
        for key in path:
            node = node.setdefault(key, {})
        node[last] = tensor.T if last == "kernel" else tensor
    tree["extra"] = {"bias": tensors["cls.predictions.bias"]}
    (tmp_path / "flax_model.msgpack").write_bytes(msgpack_serialize(tree))
    (tmp_path / "config.json").write_text(to_json(SMALL, "Flax" + HEADS["mlm"].architecture))
    assert main([str(tmp_path), str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out.replace("\n", "")
    assert "head mlm" in told and str(tmp_path / "out") in told and "not used: extra.bias" in told
    folder.load(tmp_path / "out", "mlm")


def test_a_pickle_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(to_json(SMALL, "BertModel"))
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(UserError, match="is a pickle"):
        main([str(tmp_path), str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
