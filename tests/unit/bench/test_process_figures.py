"""CPU time and memory are read from proc(5) texts, whatever a program calls itself."""

from pathlib import Path

import pytest

from tests.bench.proxy.gateways import configuration
from tests.bench.proxy.process import cpu_ticks, resident_kib


def test_cpu_time_is_user_and_system_even_for_a_name_with_parentheses() -> None:
    stat = "42 (a (b) c) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 9 9 20 0 1 0 100 0 0"
    assert cpu_ticks(stat) == 300


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
