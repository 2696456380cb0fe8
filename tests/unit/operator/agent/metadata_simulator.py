"""A simulator of EC2 instance metadata (version 2 only), with the paths and bodies that interruptions have."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from aiohttp.test_utils import TestServer

TOKEN = "x-aws-ec2-metadata-token"


@dataclass
class Simulator:
    """What it answers: path below ``/latest/`` -> body; all others are 404, which is what real ones mostly say."""

    address: str = ""
    answers: dict[str, str] = field(default_factory=dict)
    down: bool = False
    tokens: int = 0
    asked: list[str] = field(default_factory=list)

    def expire(self) -> None:
        """The tokens that are out are not good any more."""
        self.tokens += 1

    async def handle(self, request: web.Request) -> web.Response:
        """One request."""
        path = request.path.removeprefix("/latest/")
        if self.down:
            return web.Response(status=503)
        if path == "api/token":
            if request.method != "PUT" or "X-aws-ec2-metadata-token-ttl-seconds" not in request.headers:
                return web.Response(status=405)
            return web.Response(text=f"token-{self.tokens}")
        self.asked.append(path)
        if request.headers.get(TOKEN) != f"token-{self.tokens}":
            return web.Response(status=401)
        return web.Response(text=self.answers[path]) if path in self.answers else web.Response(status=404)


@asynccontextmanager
async def simulated() -> AsyncIterator[Simulator]:
    """A simulator for the length of a test."""
    simulator = Simulator()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", simulator.handle)
    async with TestServer(app) as server:
        simulator.address = str(server.make_url("")).rstrip("/")
        yield simulator
