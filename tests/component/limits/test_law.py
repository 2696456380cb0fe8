"""Redis keeps the laws of limits, and gives in each case the very answers of the memory store."""

from functools import partial

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from localcluster.datastores import Redis
from tenantry_service.limits import calls

from tests.component.limits.redis_store import Client, RedisStore, load
from tests.unit.service.limits_law import LimitsMachine


def test_the_laws_hold_in_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    # The law in memory knows no leases: here they do not run out.
    monkeypatch.setattr(calls, "LEASE_MS", 10**13)
    with Redis(appendonly=False) as server:
        client = Client(server)
        script = load(client)

        class RedisMachine(LimitsMachine):
            new_store = partial(RedisStore, client, script)

        steps = settings(max_examples=40, stateful_step_count=30, deadline=None)
        run_state_machine_as_test(RedisMachine, settings=steps)
        client.close()
