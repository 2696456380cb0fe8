"""Pods that only KWOK plays, made to answer: an HTTP proxy that says for each of them what it has to do."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

#: What a pod says of itself, by its address; None: nothing.
Says = Callable[[str], dict[str, object] | None]


class PodProxy:
    """Use as a context manager; ``says`` may be replaced at any time."""

    def __init__(self, says: Says) -> None:
        self.says = says
        self.asked: list[str] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                """One question, in the form that proxies get: with the whole URL."""
                address = urlsplit(self.path).hostname or ""
                proxy.asked.append(address)
                said = proxy.says(address)
                body = json.dumps(said).encode()
                self.send_response(503 if said is None else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
