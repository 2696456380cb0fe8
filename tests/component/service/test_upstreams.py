"""Several upstreams, and one that is in trouble, through the SDK and on real sockets."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam
from tenantry_service.policy import CredentialHeader, Upstream
from tenantry_service.proxy import breaker, dial, pool
from tenantry_service.proxy.addresses import Addresses
from tenantry_service.proxy.breaker import THRESHOLD
from tenantry_simulator.behaviour import Behaviour
from tenantry_simulator.server import Connection, Simulator

from tests.component.service.harness import CREDENTIAL, NOBODY, Service, service, until

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hello there"}]


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Service]:
    async with service(tmp_path) as found:
        yield found


@pytest.fixture
async def spare() -> AsyncIterator[tuple[Simulator, Upstream]]:
    simulator = Simulator(Behaviour(), f"Bearer {CREDENTIAL}")
    listening = await asyncio.get_running_loop().create_server(lambda: Connection(simulator), "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    yield simulator, Upstream(name="spare", base_url=f"http://127.0.0.1:{port}/v1", priority=9)
    listening.close()


def main(running: Service, **more: object) -> Upstream:
    return Upstream(name="main", base_url=f"http://127.0.0.1:{running.simulator_port}/v1", **more)  # type: ignore[arg-type]


async def ask(running: Service) -> str | None:
    async with running.sdk() as sdk:
        return (await sdk.chat.completions.create(model="gpt-4o-mini", messages=HELLO)).choices[0].message.content


@pytest.fixture
def long_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """A circuit that opens stays open for the whole test, however slow the machine is."""
    monkeypatch.setattr(breaker, "OPEN_SECONDS", 3600.0)


@pytest.mark.usefixtures("long_open")
@pytest.mark.parametrize("behaviour", [Behaviour(error_status=503), Behaviour(error_status=500), None])
async def test_the_spare_upstream_answers_for_one_in_trouble(
    running: Service, spare: tuple[Simulator, Upstream], behaviour: Behaviour | None
) -> None:
    simulator, upstream = spare
    running.simulator.behaviour = behaviour or Behaviour()
    first = main(running) if behaviour else Upstream(name="main", base_url=f"http://127.0.0.1:{NOBODY}/v1")
    running.serve(upstreams=(first, upstream))
    for _ in range(THRESHOLD + 3):
        assert await ask(running)
    assert simulator.requests.total() == THRESHOLD + 3
    if behaviour is None or behaviour.error_status == 503:
        # From then on the first one is not even asked.
        assert running.simulator.requests.total() <= THRESHOLD
    assert {row["upstream"] for row in await running.rows()} == {"spare"}


@pytest.mark.usefixtures("long_open")
async def test_an_only_upstream_that_fails_is_given_a_moment_and_then_asked_again(running: Service) -> None:
    running.simulator.behaviour = Behaviour(error_status=503)
    codes = []
    for _ in range(THRESHOLD + 2):
        with pytest.raises(openai.InternalServerError) as caught:
            await ask(running)
        codes.append(caught.value.code)
    assert codes == [None] * THRESHOLD + ["upstream_suspended"] * 2
    assert running.simulator.requests.total() == THRESHOLD
    running.simulator.behaviour = Behaviour()
    (opened,) = running.engine.upstreams._pools.values()
    # The moment has passed.
    opened._breaker.open_until = 0.0
    assert await ask(running)
    assert await ask(running)


async def test_a_busy_upstream_is_asked_again_when_it_says(running: Service) -> None:
    running.simulator.behaviour = Behaviour(error_status=429, retry_after_ms=300)
    asking = asyncio.create_task(ask(running))
    await until(lambda: running.simulator.requests.total() == 1)
    running.simulator.behaviour = Behaviour()
    assert await asking
    assert running.simulator.requests.total() == 2
    (row,) = await running.rows()
    assert (row["status"], row["output_tokens"]) == (200, 10)


async def test_azure_gets_its_key_in_its_own_header(running: Service) -> None:
    running.simulator.expected_authorization = None
    running.serve(upstreams=(main(running, credential_header=CredentialHeader.API_KEY),))
    assert await ask(running)
    seen = running.simulator.last_request["headers"]
    assert seen["api-key"] == CREDENTIAL
    assert "authorization" not in seen


async def test_a_line_that_is_too_long_is_our_own_overload(running: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "MAX_WAITING", 0)
    with pytest.raises(openai.InternalServerError) as caught:
        await ask(running)
    assert (caught.value.status_code, caught.value.code) == (503, "server_is_overloaded")
    assert caught.value.response.headers["retry-after"] == "1"


async def test_an_address_that_does_not_answer_does_not_hold_up_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    served = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    port = served.sockets[0].getsockname()[1]
    silent = "192.0.2.1"

    async def resolve(*_: object, **__: object) -> list[object]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in (silent, "127.0.0.1")]

    real = loop.create_connection

    async def connect(factory: object, host: str, *rest: object, **more: object) -> object:
        if host == silent:
            await asyncio.Event().wait()
        return await real(factory, host, *rest, **more)  # type: ignore[call-overload]

    monkeypatch.setattr(loop, "getaddrinfo", resolve)
    monkeypatch.setattr(loop, "create_connection", connect)
    async with asyncio.timeout(60):
        made = await dial.dial(asyncio.Protocol, Addresses("two.test", port), None, lambda late: None)
    assert isinstance(made, asyncio.Protocol)
    assert len(asyncio.all_tasks()) == 1
    served.close()


async def test_when_no_address_answers_the_last_failure_is_told() -> None:
    with pytest.raises(OSError, match="Connect call failed"):
        await dial.dial(asyncio.Protocol, Addresses("localhost", NOBODY), None, lambda late: None)
