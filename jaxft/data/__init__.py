"""From files and hubs to packed batches of tokens, on the host."""
