"""Segment-masked attention with addressed dropout."""
