from __future__ import annotations

import dataclasses

import jax
import numpy as np

from jaxft import prng
from jaxft.model.initial import initialise, shapes

KEY = prng.stream("init", 7)


def flat(tree) -> dict[str, np.ndarray]:
    return {"/".join(k.key for k in path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}


def test_every_parameter_of_the_module_has_a_value(small):
    params = flat(initialise(small, "pretrain", 0, KEY))
    expected = {"/".join(path): shape for path, shape in shapes(small, "pretrain").items()}
    assert {name: leaf.shape for name, leaf in params.items()} == expected
    assert all(isinstance(leaf, np.ndarray) and leaf.dtype == np.float32 for leaf in params.values())


def test_values_are_those_of_bert(small):
    params = flat(initialise(dataclasses.replace(small, vocab_size=2000), "classify", 3, KEY))
    for name, leaf in params.items():
        if name.endswith("bias"):
            assert not leaf.any(), name
        elif name.endswith("scale"):
            assert (leaf == 1).all(), name
    words = params["encoder/embeddings/word"]
    assert not words[0].any(), "the padding token"
    # 31,984 normal numbers: the deviation's standard error is 0.0012, the mean's 0.0017.
    assert abs(words[1:].std() - 0.3) < 0.006 and abs(words[1:].mean()) < 0.008
    assert abs(np.corrcoef(words[1:].ravel()[:-1], words[1:].ravel()[1:])[0, 1]) < 0.03


def test_another_depth_head_or_vocabulary_moves_no_other_value(small):
    one = flat(initialise(small, "classify", 3, KEY))
    deep = flat(initialise(dataclasses.replace(small, num_hidden_layers=5), "tag", 3, KEY))
    for name in set(one) & set(deep):
        np.testing.assert_array_equal(one[name], deep[name][:3] if "/layers/" in name else deep[name], err_msg=name)


def test_layers_and_parameters_differ_and_the_seed_matters(small):
    params = flat(initialise(small, "classify", 3, KEY))
    kernels = params["encoder/layers/out/kernel"]
    assert not np.array_equal(kernels[0], kernels[1])
    assert not np.array_equal(kernels[0], params["pooler/kernel"])
    other = flat(initialise(small, "classify", 3, prng.stream("init", 8)))
    assert not np.array_equal(params["classifier/kernel"], other["classifier/kernel"])


def test_golden_values(small):
    came = flat(initialise(small, "classify", 3, prng.stream("init", 0)))["classifier/kernel"].ravel()[:4]
    np.testing.assert_allclose(came, GOLDEN, rtol=1e-6)


GOLDEN = [0.06955569982528687, 0.39861223101615906, -0.07190688699483871, -0.360181599855423]
