"""Hashes of parameters: equal if and only if names, types, shapes and bits are."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from jaxft.train.partition import flatten


def params_sha256(params: dict[str, Any]) -> str:
    """SHA-256 over path, type, shape and bytes of every parameter, in the order of their paths."""
    digest = hashlib.sha256()
    for path, leaf in sorted(flatten(params).items()):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{'/'.join(path)}\0{array.dtype}\0{array.shape}\0".encode())
        digest.update(array.data)
    return digest.hexdigest()
