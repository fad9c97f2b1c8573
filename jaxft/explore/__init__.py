"""Exploring: the strategy of a fine-tuning run is searched, segment by segment."""
