"""The custom metrics API as the API server asks it, over TLS with real certificates."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from tenantry_operator.pods import Pod, Pods
from tenantry_operator.scaling import certificate, serving
from tenantry_operator.scaling.certificate import Identity
from tenantry_operator.scaling.inflight import InFlight
from tenantry_operator.scaling.metrics_api import ROOT, MetricsApi
from tenantry_operator.scaling.readings import FRESH, Reading, Readings
from tenantry_operator.scaling.serving import FrontProxy

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
VALUES = f"{ROOT}/namespaces/tenant-acme/pods/*/tenantry_in_flight_requests"


async def made(name: str) -> tuple[str, str]:
    """A certificate that is its own authority, and its key."""
    process = await asyncio.create_subprocess_exec(
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-days", "2", "-subj", f"/CN={name}", "-keyout", "-", "-out", "-"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    text = (await process.communicate())[0].decode()
    at = text.index("-----BEGIN CERT")
    return text[at:], text[:at]


class Server:
    """The leader's server with two pods' readings."""

    def __init__(self, authority: str, port: int, pems: dict[str, Path], asked: list[str]) -> None:
        self._authority, self._port, self._pems, self.asked = authority, port, pems, asked

    async def get(self, path: str, shown: str | None = None) -> tuple[int, Any]:
        """Ask, with a client certificate or without."""
        context = ssl.create_default_context(cadata=self._authority)
        context.check_hostname = False
        if shown:
            context.load_cert_chain(self._pems[shown])
        url = f"https://127.0.0.1:{self._port}{path}"
        async with aiohttp.ClientSession() as session, session.get(url, ssl=context) as response:
            return response.status, json.loads(await response.text())


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    pods, readings = Pods(), Readings()
    for number, requests in enumerate((3, 5)):
        pods.changed(
            Pod(tenant="acme", name=f"api-{number}", uid=str(number), version=1, pool="active", serve="yes"), False
        )
        readings.put(str(number), Reading(InFlight(requests=requests), 99.0 - FRESH, NOW))
    cert, key = await certificate._made(["localhost"])
    proxy, proxy_key = await made("front-proxy-client")
    other, other_key = await made("somebody-else")
    pems = {"proxy": tmp_path / "proxy.pem", "other": tmp_path / "other.pem"}
    pems["proxy"].write_text(proxy + proxy_key)
    pems["other"].write_text(other + other_key)
    told = FrontProxy(proxy + other, ("front-proxy-client",))
    app = web.Application()
    app[serving._IDENTITY], app[serving._FRONT_PROXY] = Identity(cert, key, "token"), told
    asked: list[str] = []

    async def freshen(tenant: str) -> None:
        """The first pod answers, the second does not any more."""
        asked.append(tenant)
        readings.put("0", Reading(InFlight(requests=3), 100.0, NOW))

    MetricsApi(pods, readings, freshen, clock=lambda: 101.0).add_to(app)
    runner = web.AppRunner(app)
    await runner.setup()
    context = serving.tls(Identity(cert, key, "token"), told)
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    try:
        yield Server(cert, runner.addresses[0][1], pems, asked)
    finally:
        await runner.cleanup()


async def test_pods_are_asked_when_the_api_server_asks_and_those_told_of_that_have_answered(server: Server) -> None:
    code, found = await server.get(VALUES, "proxy")
    assert (code, server.asked) == (200, ["acme"])
    assert (found["kind"], found["apiVersion"]) == ("MetricValueList", "custom.metrics.k8s.io/v1beta2")
    (item,) = found["items"]  # the other's last answer is older than is good
    assert item == {
        "describedObject": {"kind": "Pod", "namespace": "tenant-acme", "name": "api-0", "apiVersion": "/v1"},
        "metric": {"name": "tenantry_in_flight_requests", "selector": None},
        "timestamp": "2026-01-02T03:04:05Z",
        "windowSeconds": 0,
        "value": "3",
    }


async def test_the_selector_of_the_scale_is_followed(server: Server) -> None:
    _, found = await server.get(f"{VALUES}?labelSelector=tenantry.dev%2Fpool%3Ddraining", "proxy")
    assert found["items"] == []
    code, refused = await server.get(f"{VALUES}?labelSelector=%3D", "proxy")
    assert (code, refused["reason"]) == (400, "BadRequest")


async def test_what_is_not_there_is_not_found(server: Server) -> None:
    for path in (f"{ROOT}/namespaces/tenant-acme/pods/*/other", VALUES.replace("*", "api-9")):
        code, found = await server.get(path, "proxy")
        assert (code, found["kind"], found["reason"]) == (404, "Status", "NotFound")


async def test_discovery_names_the_metric(server: Server) -> None:
    _, found = await server.get(ROOT, "proxy")
    assert [each["name"] for each in found["resources"]] == ["pods/tenantry_in_flight_requests"]
    _, group = await server.get("/apis/custom.metrics.k8s.io", "proxy")
    assert group["preferredVersion"]["version"] == "v1beta2"


@pytest.mark.parametrize("shown", [None, "other"])
async def test_nobody_but_the_front_proxy_is_answered(server: Server, shown: str | None) -> None:
    code, found = await server.get(VALUES, shown)
    assert (code, found["reason"], server.asked) == (401, "Unauthorized", [])


def test_a_certificate_does_not_show_its_key_when_it_is_printed() -> None:
    assert "secret" not in repr(Identity("certificate", "secret", "secret"))


def test_it_is_renewed_long_before_its_end() -> None:
    assert certificate.LIFETIME > certificate.RENEW_BEFORE > timedelta(days=30)
