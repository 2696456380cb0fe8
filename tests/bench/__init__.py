"""Benchmarks: each is a package that `python -m` runs, prints a table for people and ends with one line of JSON."""

import sys
from pathlib import Path

# The benchmarks keep what they install in the same cache, and get it in the same way, as the local cluster does.
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "kind"))
