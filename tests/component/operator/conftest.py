"""Fixtures that these tests share with the pure ones, and what holds for all of them."""

import pytest
from tenantry_operator.redis import connection

from tests.unit.conftest import render_helper

__all__ = ["render_helper"]

#: Seconds that Redis has to connect and to answer here: one that stands still for a while is not away.
PATIENT = 60.0


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator waits for Redis: what comes of one that is slow is not what is tested here."""
    monkeypatch.setattr(connection, "CONNECT", PATIENT)
    monkeypatch.setattr(connection, "ANSWER", PATIENT)
