"""What a tenant's developer meets at the gateway that all tenants share."""

import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from urllib.parse import urlsplit

import openai
import pytest

from tests.e2e.world import ANSWER, COUNTS_ALONE, HELLO, MODEL, Access, World, answers, simulated, until

#: Without a word on timeouts Envoy Gateway ends every request after so many seconds.
ENVOYS_OWN = 15
#: Seconds between two pieces of a slow stream: more than that, even if a busy machine is ten late with the first piece.
SILENCE = ENVOYS_OWN + 12


def pieces(access: Access, gap_ms: int, tokens: int) -> list[float]:
    """When each piece of a stream came."""
    came: list[float] = []
    headers = simulated(output_tokens=tokens, gap_ms=gap_ms)
    with access.sdk(timeout=120) as sdk:
        stream = sdk.chat.completions.create(
            model=MODEL, messages=HELLO, stream=True, max_tokens=tokens, extra_headers=headers
        )
        came.extend(time.monotonic() for chunk in stream if chunk.choices and chunk.choices[0].delta.content)
    return came


@pytest.fixture(scope="module")
def slow(acme: Access) -> Iterator[Future[list[float]]]:
    """A stream that is silent longer than a request may last by default; it runs while the other tests do."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(pieces, acme, SILENCE * 1000, 2)


def status(url: str, host: str | None = None) -> int:
    """What a GET is answered with; 0 if nobody answers."""
    request = urllib.request.Request(url, headers={"Host": host} if host else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def test_a_tenants_address_is_its_path_on_the_gateway(acme: Access, slow: Future[list[float]]) -> None:
    assert urlsplit(acme.endpoint).path == "/acme/v1"
    until(lambda: answers(acme), "it answers there")


def test_the_pieces_of_a_stream_pass_as_they_are_made(acme: Access) -> None:
    # Longer than a busy machine may stand still with the first piece.
    came = pieces(acme, 600, 20)
    assert len(came) == 20
    assert came[-1] - came[0] > 1.0, "they came together"


def test_one_tenants_key_is_nothing_on_anothers_path(world: World, acme: Access) -> None:
    with world.tenant("neighbour", exposed=False):
        world.wait_ready("neighbour")
        foreign = Access(world.access("neighbour").endpoint, acme.key)
        until(lambda: status(f"{foreign.endpoint}/models") == 401, "the neighbour's path is served", pause=0.05)
        with foreign.sdk() as sdk, pytest.raises(openai.AuthenticationError):
            sdk.chat.completions.create(model=MODEL, messages=HELLO)


@pytest.mark.parametrize(
    "path", ["/metrics", "/acme/metrics", "/acme/healthz", "/acme/tenantry/v1/inflight", "/v1/models"]
)
def test_nothing_but_the_tenants_api_is_let_through(acme: Access, path: str) -> None:
    address = urlsplit(acme.endpoint)
    assert status(f"http://{address.netloc}{path}") == 404


def test_a_host_name_of_its_own_leads_to_one_tenant_and_to_its_api_alone(world: World) -> None:
    host = "chat.example.com"
    with world.tenant("hosted", exposed=False, exposure={"hostnames": [host]}, limits=COUNTS_ALONE):
        world.wait_ready("hosted")
        access = world.access("hosted")
        address = urlsplit(access.endpoint)
        assert (address.hostname, address.path) == (host, "/v1")
        here = Access(f"http://127.0.0.1:{address.port}/v1", access.key)

        def served() -> bool:
            return status(f"{here.endpoint}/models", host) == 401

        until(served, "the host name is served", pause=0.05)
        with here.sdk(default_headers={"Host": host}) as sdk:
            assert sdk.chat.completions.create(model=MODEL, messages=HELLO).choices[0].message.content == ANSWER
        assert status(f"http://127.0.0.1:{address.port}/metrics", host) == 404


def test_a_node_port_leads_past_the_gateway(world: World) -> None:
    with world.tenant("direct") as applied:
        world.wait_ready("direct")
        port = applied["spec"]["exposure"]["nodePort"]
        past = Access(f"http://127.0.0.1:{port}/v1", world.access("direct").key)
        until(lambda: answers(past), "the node port answers", pause=0.05)


def test_a_stream_may_be_long_and_silent(slow: Future[list[float]]) -> None:
    first, second = slow.result(timeout=120)
    assert second - first > ENVOYS_OWN
