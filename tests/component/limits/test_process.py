"""`tenantry serve --redis-file` as processes: two replicas of a tenant share its limits, and a killed one is billed."""

import contextlib
import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import openai
import pytest
from openai import OpenAI
from tenantry_service import policy as policies
from tenantry_service.ledger import codec
from tenantry_service.ledger.event import LOST
from tenantry_service.limits import records
from tenantry_service.policy import Limits, Policy

from tests.component.limits.asking import KEYS, events, reservations
from tests.component.limits.patient import patient_service_program
from tests.component.limits.redis_store import Client
from tests.component.service.harness import KEY, Program, policy, simulator_program


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[Program]:
    with simulator_program(tmp_path) as running:
        yield running


@contextlib.contextmanager
def replica(tmp_path: Path, name: str, address: Path, document: Policy) -> Iterator[OpenAI]:
    directory = tmp_path / name
    directory.mkdir()
    path = directory / "policy.json"
    path.write_bytes(policies.encode(document))
    flags = ("--policy", str(path), "--state-dir", str(directory), "--redis-file", str(address))
    with patient_service_program(directory, *flags) as running:
        yield OpenAI(base_url=running.base_url, api_key=KEY, max_retries=0, timeout=60)
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(60) == 0


def chat(client: OpenAI, **more: object) -> None:
    client.chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": "hello"}], extra_body={**more}
    )


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_replicas_share_one_limit_and_one_bill(
    tmp_path: Path, simulator: Program, address: Path, admin: Client
) -> None:
    document = policy(simulator.port, limits=Limits(requests_per_minute=3))
    with (
        replica(tmp_path, "one", address, document) as one,
        replica(tmp_path, "other", address, document) as other,
    ):
        for client in (one, other, one):
            chat(client)
        for client in (one, other):
            with pytest.raises(openai.RateLimitError) as refused:
                chat(client)
            assert refused.value.code == "rate_limit_exceeded"
            assert int(refused.value.response.headers["retry-after-ms"]) <= 20_000
        until(lambda: len(events(admin)) == 3)
    billed = [codec.decode(event.encode()) for event, _ in events(admin)]
    assert all(event.output_tokens and not event.estimated and event.tenant == document.tenant for event in billed)
    assert reservations(admin) == 0


def test_a_request_whose_process_is_killed_leaves_what_it_is_billed_at(
    tmp_path: Path, simulator: Program, address: Path, admin: Client
) -> None:
    document = policy(simulator.port)
    path = tmp_path / "policy.json"
    path.write_bytes(policies.encode(document))
    flags = ("--policy", str(path), "--state-dir", str(tmp_path), "--redis-file", str(address))
    with patient_service_program(tmp_path, *flags) as running:
        client = OpenAI(base_url=running.base_url, api_key=KEY, max_retries=0, timeout=60)
        stream = client.chat.completions.create(
            model="gpt-4o-mini",
            messages=[{"role": "user", "content": "a long story"}],
            stream=True,
            max_tokens=500,
            extra_headers={"x-simulator-stall-after": "2"},
        )
        next(iter(stream))
        assert json.loads(running.get("/tenantry/v1/inflight")[1])["limiter"] == "shared"
        assert 'tenantry_limiter_mode{mode="shared"} 1.0' in running.get("/metrics")[1]
        running.process.kill()
        running.process.wait()
    kept = admin("HVALS", KEYS.reservations)
    assert isinstance(kept, list)
    (raw,) = kept
    assert isinstance(raw, bytes)
    record = records.read_record(raw)
    billed = codec.decode(record.note)
    assert (billed.estimated, billed.error_type, billed.nano_usd) == (True, LOST, record.demand.nano_usd)
    assert billed.output_tokens == 500
