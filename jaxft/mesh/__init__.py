"""Devices: which ones a run computes on."""
