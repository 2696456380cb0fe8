"""Whatever callers send, no label of a metric is theirs to invent."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tenantry_service.errors import ErrorType
from tenantry_service.policy import Limits, Models
from tenantry_service.proxy import routes

from tests.component.service.harness import KEY, Service, chat_request, service, until

CLOSE = b"connection: close\r\n"
ALIASES = {"fast": "gpt-4o-mini"}


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Service]:
    async with service(tmp_path, models=Models(aliases=ALIASES), limits=Limits(requests_per_minute=1000)) as found:
        yield found


def requests() -> list[bytes]:
    """Good ones, and inventions of every kind: models, routes, methods, keys, headers."""
    plain = f"host: x\r\nauthorization: Bearer {KEY}\r\n".encode() + CLOSE + b"content-length: 2\r\n\r\n{}"
    return [
        chat_request(extra=CLOSE),
        chat_request(extra=CLOSE, model="fast"),
        *(chat_request(extra=CLOSE, model=f"invented-{number}") for number in range(5)),
        chat_request(extra=CLOSE, model='"} 1\nevil{'),
        chat_request(extra=CLOSE, user="somebody", metadata={"team": "theirs"}),
        chat_request("tn_invented_key", extra=CLOSE),
        chat_request(extra=CLOSE + b"x-request-id: theirs\r\ntraceparent: theirs\r\nuser-agent: theirs\r\n"),
        chat_request(extra=CLOSE + b"x-simulator-error-status: 418\r\n"),
        *(b"POST /v1/invented-%d/theirs HTTP/1.1\r\n" % number + plain for number in range(5)),
        b"PATCH /v1/files/theirs HTTP/1.1\r\n" + plain,
        b"GET /v1/files/theirs/content?theirs=1 HTTP/1.1\r\n" + plain,
        b"INVENTED /theirs HTTP/1.1\r\n" + plain,
    ]


async def test_labels_are_from_closed_sets_whatever_callers_invent(running: Service) -> None:
    await asyncio.gather(*(running.raw(request) for request in requests()))
    await until(lambda: not running.engine.telemetry.in_flight)
    text = running.engine.telemetry.render().decode()
    found: dict[str, set[str]] = {}
    for name, value in re.findall(r'[{,](\w+)="((?:[^"\\]|\\.)*)"', text):
        found.setdefault(name, set()).add(value)
    assert found["gen_ai_operation_name"] <= {route.operation for route in routes.ROUTES} | {routes.OTHER_OPERATION}
    assert found["gen_ai_request_model"] == {"gpt-4o-mini", "fast", "other"}
    assert found["error_type"] <= {kind.value for kind in ErrorType}
    assert found["upstream"] == {"main"}
    assert found["tenant"] == {"acme"}
    assert "invented" not in text
    assert "theirs" not in text
    assert KEY.split("_")[1] not in text
