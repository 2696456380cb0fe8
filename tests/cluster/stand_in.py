"""A small HTTP server for what cannot be had in a test, on a port of its own."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self


class Answerer(BaseHTTPRequestHandler):
    """Answers in JSON, and says nothing of it."""

    def answer(self, status: int, said: object, content_type: str = "application/json") -> None:
        """The whole answer."""
        body = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Say nothing."""


class StandIn:
    """Use as a context manager."""

    def __init__(self, answerer: type[Answerer]) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), answerer)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
