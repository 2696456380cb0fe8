"""Serves the status page on the loopback address of the operator's pod, and nowhere else.

The way in is `kubectl port-forward`: the API server knows who asks, and RBAC says who may (create on
pods/portforward). So the page needs no log-in, no certificate and no right of its own.
"""

from collections.abc import Callable

from aiohttp import web

from tenantry_operator.page.html import page
from tenantry_operator.page.view import Overview

HOST = "127.0.0.1"

#: Names under which a forwarded port is opened. Any other is a web page that points its own name here (DNS rebinding).
NAMES = frozenset({"127.0.0.1", "localhost", "[::1]"})

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline';"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


async def serve(content: Callable[[], Overview], *, port: int) -> web.AppRunner:
    """Start the server; ``runner.addresses`` tells the port when 0 was asked for. Raises OSError for a taken port."""

    async def show(request: web.Request) -> web.Response:
        name, colon, tail = request.host.rpartition(":")
        if (name if colon and tail.isdigit() else request.host) not in NAMES:
            raise web.HTTPForbidden(text="open this page as http://localhost, through `kubectl port-forward`\n")
        return web.Response(text=page(content()), content_type="text/html", headers=_HEADERS)

    app = web.Application()
    app.router.add_get("/", show)
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    await web.TCPSite(runner, HOST, port).start()
    return runner
