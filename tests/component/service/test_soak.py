"""The soak of docs/api.md, for seconds instead of a quarter of an hour."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.timeout(600)
def test_nothing_is_left_of_a_mixed_load_with_faults() -> None:
    argv = [sys.executable, "-m", "tests.bench.soak", "--source", "--seconds", "15", "--clients", "16"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=540, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["rows"] > 20
    assert figures["problems"] == figures["in_flight"] == 0
