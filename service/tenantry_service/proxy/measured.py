"""How long a request takes, and its way into the books when it has ended."""

import logging
import time
from typing import Final

from tenantry_service.proxy.engine import Engine
from tenantry_service.proxy.exchange import Exchange
from tenantry_service.proxy.messages import Settle
from tenantry_service.proxy.sides import Listener
from tenantry_service.served import Trace

log = logging.getLogger(__name__)

# As it is: looked up once and not with every use.
_clock: Final = time.perf_counter


class Measured(Listener):
    """An exchange and its times, in seconds of :func:`time.perf_counter`."""

    __slots__ = (
        "_ended_at",
        "_engine",
        "_exchange",
        "_first_byte",
        "_ours",
        "_settled",
        "_since",
        "_started",
        "_trace",
    )

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._exchange = Exchange(engine.snapshot, engine.new_id())
        self._settled: Settle | None = None
        self._trace: Trace | None = None
        self._started = _clock()
        #: Our own share: from an event outside to what it made us send (request sent on, first bytes passed back).
        self._since = self._started
        self._ours = 0.0
        self._first_byte: float | None = None
        self._ended_at = 0.0
        engine.telemetry.in_flight += 1

    def _began_ours(self) -> None:
        self._since = _clock()

    def _first_byte_came(self) -> None:
        self._since = _clock()
        self._first_byte = self._exchange.elapsed = self._since - self._started

    def _count_ours(self) -> None:
        if self._since:
            self._ours += _clock() - self._since
            self._since = 0.0

    def _record(self) -> None:
        """The request has ended: enter it into the books, once its answer is on its way."""
        now = self._ended_at = _clock()
        if self._since:
            self._ours += now - self._since
            self._since = 0.0
        self._engine.later(self._enter)

    def _enter(self) -> None:
        engine, exchange, settled = self._engine, self._exchange, self._settled
        if settled is not None:
            try:
                engine.settle(exchange, settled, self._started, self._ended_at)
            except Exception:
                # The boundary of a request: an error of ours is logged, and touches no other.
                log.exception("internal error", extra={"request_id": exchange.request_id})
                engine.telemetry.internal_errors += 1
        overhead = None if self._first_byte is None else self._ours
        seconds = self._ended_at - self._started
        engine.ended(exchange, settled, seconds, self._first_byte, overhead)
        if engine.observers:
            engine.observe(exchange, settled, self._trace, seconds, self._first_byte)
