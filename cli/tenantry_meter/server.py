"""``GET /allocation/compute`` in OpenCost's form, ``GET /focus.csv``, and ``/healthz``. Read-only."""

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

from tenantry_showback.formats import Window, allocations, focus
from tenantry_showback.statement import Sharing

from tenantry_meter.hours import statement
from tenantry_meter.store import Store
from tenantry_meter.windows import WindowProblem, steps, window

#: Values of ``aggregate`` that mean: by tenant.
BY_TENANT = ("tenant", "label:tenant", "label:tenantry.dev/tenant", "label:tenantry_dev_tenant")
BY_NAMESPACE = "namespace"


class Answer(NamedTuple):
    """What goes over the wire."""

    status: HTTPStatus
    content_type: str
    body: str


class Desk:
    """Answers requests from the store."""

    def __init__(self, store: Store, now: Callable[[], datetime], healthy: Callable[[], str | None]) -> None:
        self._store, self._now, self._healthy = store, now, healthy

    def answer(self, target: str) -> Answer:
        """The answer to a GET."""
        asked = urlsplit(target)
        query = {name: values[-1] for name, values in parse_qs(asked.query).items()}
        try:
            match asked.path:
                case "/allocation/compute" | "/model/allocation/compute" | "/allocation":
                    return _json(HTTPStatus.OK, {"code": 200, "status": "success", "data": self._allocations(query)})
                case "/focus.csv":
                    return Answer(HTTPStatus.OK, "text/csv; charset=utf-8", self._focus(query))
                case "/healthz":
                    problem = self._healthy()
                    status = HTTPStatus.SERVICE_UNAVAILABLE if problem else HTTPStatus.OK
                    return Answer(status, "text/plain; charset=utf-8", f"{problem or 'ok'}\n")
                case _:
                    return _json(HTTPStatus.NOT_FOUND, {"code": 404, "message": f"nothing is at {asked.path}"})
        except WindowProblem as problem:
            return _json(HTTPStatus.BAD_REQUEST, {"code": 400, "message": str(problem)})

    def _allocations(self, query: Mapping[str, str]) -> list[dict[str, dict[str, object]]]:
        by = query.get("aggregate", BY_TENANT[0])
        if by not in (*BY_TENANT, BY_NAMESPACE):
            raise WindowProblem(f"aggregate: {by!r} is none of: {', '.join((*BY_TENANT, BY_NAMESPACE))}")
        found = []
        for part in steps(window(query.get("window", "24h"), self._now()), query.get("step", "window")):
            made, uses, seen = statement(self._store.read(part.start, part.end), **_sharing(query))
            (rows,) = allocations(made, uses, part, minutes=seen / 60)
            found.append({_named(name, by): _row(row, _named(name, by), by) for name, row in rows.items()})
        return found

    def _focus(self, query: Mapping[str, str]) -> str:
        part: Window = window(query.get("window", "24h"), self._now())
        made, _, _ = statement(self._store.read(part.start, part.end), **_sharing(query))
        return focus(made, part, account=query.get("account", "cluster"))


def _named(name: str, by: str) -> str:
    return f"tenant-{name}" if by == BY_NAMESPACE and not name.startswith("__") else name


def _row(row: dict[str, object], name: str, by: str) -> dict[str, object]:
    if by != BY_NAMESPACE or name.startswith("__"):
        return {**row, "name": name}
    return {**row, "name": name, "properties": {"namespace": name}}


def _sharing(query: Mapping[str, str]) -> dict[str, Sharing]:
    try:
        idle = Sharing(query.get("shareIdle", "keep"))
        overhead = Sharing(query.get("shareOverhead", "keep"))
    except ValueError as error:
        raise WindowProblem(f"shareIdle, shareOverhead: {error}; there are: {', '.join(Sharing)}") from None
    return {"share_idle": idle, "share_overhead": overhead}


def _json(status: HTTPStatus, content: object) -> Answer:
    return Answer(status, "application/json", json.dumps(content))


def listen(desk: Desk, host: str, port: int) -> ThreadingHTTPServer:
    """A server that is bound and not yet started. Raises OSError for a taken port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def do_GET(self) -> None:
            answer = desk.answer(self.path)
            body = answer.body.encode()
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - no line for each request
            pass

    return ThreadingHTTPServer((host, port), Handler)
