"""Operations with more than one implementation, one folder each; installed as `jaxft.kernels`.

A folder holds `reference.py` (plain JAX), `api.py` (the one entry the rest of jaxft calls) and `cases.py` (the inputs
that every implementation must pass). Kernels import jax and numpy only.
"""
