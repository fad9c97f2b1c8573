"""Products with matrices of weights."""
