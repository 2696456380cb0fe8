"""A small HTTP server that answers as a test tells it to, and remembers what it was asked."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from unittest import mock

from aiohttp import web
from aiohttp.test_utils import TestServer
from tenantry_operator.kube import http
from tenantry_operator.kube.config import Access
from tenantry_operator.kube.tokens import StaticToken

#: Seconds that a server in this process is waited for: it is there, however slow the machine is.
PATIENCE = 60.0


@dataclass(slots=True)
class Asked:
    """One request."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


Answer = Callable[[Asked], Awaitable[web.Response]]


@dataclass(slots=True)
class Api:
    """Where it is, and what it was asked."""

    access: Access
    asked: list[Asked] = field(default_factory=list)


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[Api]:
    """Run the server for the length of a test."""
    api = Api(Access(server=""))

    async def handle(request: web.Request) -> web.Response:
        one = Asked(request.method, request.path, dict(request.query), dict(request.headers), await request.read())
        api.asked.append(one)
        return await answer(one)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    async with TestServer(app) as server:
        with mock.patch.object(http, "CONNECT_TIMEOUT", PATIENCE):
            api.access = Access(server=str(server.make_url("")).rstrip("/"), tokens=StaticToken("letmein"))
            yield api


def refusal(code: int, reason: str, *, cause: str = "", headers: dict[str, str] | None = None) -> web.Response:
    """An error as the API server words it."""
    body = {
        "kind": "Status",
        "reason": reason,
        "message": f"{reason} it is",
        "details": {"causes": [{"reason": cause}]},
    }
    return web.json_response(body, status=code, headers=headers)
