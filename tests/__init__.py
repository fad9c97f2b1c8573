"""Tests, by the folder of what they test. A package, so that no other one of that name is found first."""
