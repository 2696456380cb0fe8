"""CPU time and memory are read from proc(5) texts, whatever a program calls itself."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.proxy.gateways import configuration
from tests.bench.proxy.process import TICKS_PER_SECOND, cpu_ticks, machine_s, resident_kib, ticks_with_ended_children


def test_cpu_time_is_user_and_system_even_for_a_name_with_parentheses() -> None:
    stat = "42 (a (b) c) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 9 9 20 0 1 0 100 0 0"
    assert cpu_ticks(stat) == 300
    assert ticks_with_ended_children(stat) == 318


def test_what_a_program_that_has_ended_used_still_counts_for_the_machine() -> None:
    def ours() -> int:
        return ticks_with_ended_children(Path("/proc/self/stat").read_text())

    before = ours()
    subprocess.run([sys.executable, "-c", "while __import__('time').process_time() < 0.5: pass"], check=True)
    assert ours() - before >= 0.45 * TICKS_PER_SECOND, "clocks are read in whole ticks"
    assert machine_s() >= ours() / TICKS_PER_SECOND


@pytest.mark.parametrize(("status", "kib"), [("Name:\tx\nVmRSS:\t   61440 kB\n", 61_440), ("Name:\tzombie\n", 0)])
def test_resident_memory_of_a_zombie_is_none(status: str, kib: int) -> None:
    assert resident_kib(status) == kib


@pytest.mark.parametrize("name", ["nginx.conf", "envoy.yaml", "tensorzero.toml", "litellm.yaml"])
def test_every_placeholder_of_a_configuration_is_filled_in(name: str, tmp_path: Path) -> None:
    values = ("port", "stream_port", "upstream_port", "upstream_stream_port", "model", "stream_model", "key", "answer")
    path = configuration(name, tmp_path, directory=tmp_path, **dict.fromkeys(values, "7171"))
    text = path.read_text()
    assert "7171" in text
    assert "$" not in text
