"""Who watches the requests of a process: a collector of traces, readers of an access log. Nobody, unless asked for."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from tenantry_service import traces
from tenantry_service.outbox import Outbox
from tenantry_service.proxy.engine import Engine
from tenantry_service.served import Served, access_line
from tenantry_service.traces import Endpoint, Tracer


class Watchers:
    """What is sent where. ``environment`` has OpenTelemetry's variables."""

    def __init__(
        self, traces_endpoint: str | None, traces_ratio: float, *, access_log: bool, environment: Mapping[str, str]
    ) -> None:
        """Raises:
        ValueError: the endpoint or the ratio cannot be used; the message says why.
        """
        if not 0 <= traces_ratio <= 1:
            raise ValueError(f"--traces-ratio: {traces_ratio:g} is not between 0 and 1")
        self._outboxes: list[Outbox[Served]] = []
        self._tracer: Tracer | None = None
        to = traces.endpoint(traces_endpoint, environment)
        if to is not None:
            self._tracer = Tracer(traces_ratio)
            service = environment.get("OTEL_SERVICE_NAME") or "tenantry"
            self._outboxes.append(Outbox("spans", partial(_send_spans, to, service)))
        if access_log:
            self._outboxes.append(Outbox("access_log", _write_lines))

    def join(self, engine: Engine) -> None:
        """Be told of all requests from now on."""
        engine.tracer = self._tracer
        engine.observers = tuple(self._outboxes)
        engine.telemetry.dropped = self.dropped

    def dropped(self) -> Iterable[tuple[str, int]]:
        """What could not be sent, by kind."""
        return [(outbox.name, outbox.dropped) for outbox in self._outboxes]

    def close(self) -> None:
        """Send what is left."""
        for outbox in self._outboxes:
            outbox.close()


def _send_spans(to: Endpoint, service: str, served: Sequence[Served]) -> None:
    traced = [one for one in served if one.trace is not None]
    if traced:
        traces.send(to, traces.encode(traced, service))


def _write_lines(served: Sequence[Served]) -> None:
    sys.stdout.write("".join(f"{access_line(one).decode()}\n" for one in served))
    sys.stdout.flush()
