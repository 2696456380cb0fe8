"""What tests of several parts share: a real Redis."""

from collections.abc import Iterator

import pytest
from localcluster.datastores import Redis


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis]:
    """One for the session, every write of which is on disk before it is answered."""
    with Redis() as running:
        yield running
