"""Dropout whose every bit is a function of its address."""
