"""A pod is told by its own labels and annotations that its node goes away."""

from pathlib import Path
from typing import cast

import pytest
from tenantry_service.leaving import SERVE, STREAMS_END_AT, Leaving
from tenantry_service.proxy.engine import Engine

END = "2026-03-01T12:00:00Z"
END_SECONDS = 1772366400.0


class Told:
    """As much of an engine as is told of it."""

    def __init__(self) -> None:
        self.leaving = False
        self.ends = 0
        self.telemetry = type("Figures", (), {"in_flight": 0})()

    def end_all(self) -> None:
        """What is open is ended."""
        self.ends += 1


def look(engine: Told, files: Path, at: float = 0.0, leaving: Leaving | None = None) -> Leaving:
    """Let it look once."""
    leaving = leaving or Leaving(files, now=lambda: at)
    leaving.look(cast("Engine", engine))
    return leaving


def test_a_pod_without_such_files_stays(tmp_path: Path) -> None:
    engine = Told()
    look(engine, tmp_path / "nothing")
    assert (engine.leaving, engine.ends) == (False, 0)


def test_out_of_the_service_answers_end_their_connections_and_back_in_it_they_do_not(tmp_path: Path) -> None:
    engine = Told()
    for text, leaves in (("yes", False), ("no\n", True), ("yes", False)):
        (tmp_path / SERVE).write_text(text)
        look(engine, tmp_path)
        assert engine.leaving is leaves
    assert engine.ends == 0


def test_streams_end_once_and_in_time(tmp_path: Path) -> None:
    engine, now = Told(), [END_SECONDS - 0.1]
    (tmp_path / STREAMS_END_AT).write_text(END)
    leaving = Leaving(tmp_path, now=lambda: now[0])
    look(engine, tmp_path, leaving=leaving)
    assert engine.ends == 0
    now[0] = END_SECONDS
    look(engine, tmp_path, leaving=leaving)
    look(engine, tmp_path, leaving=leaving)
    assert engine.ends == 1


@pytest.mark.parametrize("text", ["", "soon", "2026-03-01T12:00:00", "\xff"])
def test_what_is_no_time_ends_nothing(tmp_path: Path, text: str) -> None:
    engine = Told()
    (tmp_path / STREAMS_END_AT).write_text(text)
    look(engine, tmp_path, at=2e10)
    assert engine.ends == 0
