"""BERT in Flax: configuration, encoder, heads, and Hugging Face weights in and out."""
