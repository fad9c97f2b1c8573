"""Real processes, killed at random moments: a sample of what benchmarks/crashes.py does 600 times."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "crashes.py"


@pytest.mark.slow
def test_killed_runs_go_on_and_end_on_the_hash_of_the_undisturbed_one(tmp_path):
    command = [sys.executable, str(SCRIPT), "--kills", "4", "--terms", "2", "--each", "4", "--results", str(tmp_path)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert found.returncode == 0, found.stdout + found.stderr
    outcomes = json.loads((tmp_path / "crashes.json").read_text())
    assert [(name, outcome["signals"]) for name, outcome in outcomes.items()] == [("SIGKILL", 4), ("SIGTERM", 2)]
    assert all(outcome["wrong"] == [] and sum(outcome["moments"].values()) for outcome in outcomes.values())
