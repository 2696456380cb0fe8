"""Connections to upstreams: a bounded pool of kept-alive ones per address.

Names are resolved for each new connection, or for several at once. No task per request: only connecting takes one.
"""

import asyncio
import logging
import ssl
from collections import deque

from tenantry_service.proxy.addresses import Addresses
from tenantry_service.proxy.breaker import Breaker
from tenantry_service.proxy.dial import dial
from tenantry_service.proxy.messages import Gone
from tenantry_service.proxy.sides import Handle, Listener
from tenantry_service.proxy.snapshot import Endpoint
from tenantry_service.proxy.upstream import Connection, Owner

#: Connections to one address; as many as the OpenAI SDK allows itself. More requests wait in line.
MAX_CONNECTIONS = 1000
#: Requests that may wait in that line; more are told to come back.
MAX_WAITING = 1000
#: An idle connection is closed after this. Servers close theirs after 5 s (uvicorn) to 75 s (nginx), and say so first.
IDLE_SECONDS = 30.0
#: A connection is used no longer than this, however busy it is: the next one asks again what its host's name means, so
#: that an upstream which has moved is found. Names of CDNs live for 60 to 300 s; nginx keeps a connection for an hour.
MAX_AGE_SECONDS = 300.0
#: The exchange's own timer is shorter; this only makes sure that no attempt outlives everybody.
CONNECT_SECONDS = 30.0

log = logging.getLogger(__name__)


class Pending(Handle):
    """A request that waits for a connection."""

    def __init__(
        self, pool: "Pool", request: bytes, listener: Listener, *, complete: bool = True, once: bool = False
    ) -> None:
        self.pool = pool
        self.request = request
        self.listener = listener
        self.complete = complete
        self.once = once
        self.connecting: asyncio.Task[None] | None = None

    @property
    def starved(self) -> bool:
        """It waits for one of our own connections to become free, and not for the upstream."""
        return self.connecting is None

    def cancel(self, *, failed: bool = False) -> None:
        """Leave the line; ``failed``: because it took too long."""
        if failed and not self.starved:
            self.pool.failed()
        self.pool.leave(self)

    def write(self, data: bytes, *, last: bool) -> None:
        """Never called: nobody has said yet that the beginning is sent."""

    def pause(self) -> None:
        """Nothing is being read yet."""

    def resume(self) -> None:
        """Nothing is being read yet."""


class Pool(Owner):
    """Connections to one address. First come, first served: a connection that becomes free or ready goes to the
    request that has waited longest."""

    def __init__(self, where: Endpoint, tls: ssl.SSLContext | None, max_connections: int = MAX_CONNECTIONS) -> None:
        self.where = where
        self._addresses = Addresses(where.host, where.port)
        self._tls = tls
        self._max = max_connections
        self._idle: list[Connection] = []
        self._waiting: deque[Pending] = deque()
        self._open = 0
        self._connecting = 0
        self._breaker = Breaker()
        # An outage is logged when it begins and when it ends, not once per request.
        self._reachable = True
        # Asking for the running loop costs a system call each time (Python 3.11 looks for forks).
        self._loop = asyncio.get_running_loop()

    @property
    def idle(self) -> int:
        """Connections that wait for a request."""
        return len(self._idle)

    @property
    def busy(self) -> int:
        """Connections with a request."""
        return self._open - len(self._idle)

    def send(self, request: bytes, listener: Listener, *, complete: bool = True, once: bool = False) -> Handle | None:
        """Send ``request`` now if a connection is free (``upstream_sent`` has then been called, and None is returned),
        or as soon as one is. One that is not ``complete``, or to be sent only ``once``, is not sent again if its
        connection turns out to be stale, and so gets a new one while there is room."""
        if self._breaker.failures and not self._breaker.allows(self._loop.time()):
            listener.upstream_gone(Gone.SUSPENDED)
            return None
        while self._idle and ((complete and not once) or self._open + self._connecting >= self._max):
            connection = self._idle.pop()
            if not connection.closed:
                connection.send(request, listener, complete=complete, once=once)
                return None
        if len(self._waiting) >= MAX_WAITING:
            listener.upstream_gone(Gone.OVERLOADED)
            return None
        pending = Pending(self, request, listener, complete=complete, once=once)
        self._waiting.append(pending)
        self._connect_for(pending)
        return pending

    def again(self, request: bytes, listener: Listener) -> None:
        """Send what a stale connection did not take: before all that waits, and if possible on a new connection."""
        pending = Pending(self, request, listener)
        self._waiting.appendleft(pending)
        listener.upstream_sent(pending)
        self._connect_for(pending)

    def now(self) -> float:
        """The loop's time."""
        return self._loop.time()

    def _connect_for(self, pending: Pending) -> None:
        if self._open + self._connecting < self._max:
            self._connecting += 1
            pending.connecting = self._loop.create_task(self._connect(pending))

    async def _connect(self, pending: Pending) -> None:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                connection = await dial(lambda: Connection(self), self._addresses, self._tls, Connection.discard)
        except (OSError, TimeoutError, ValueError) as error:
            # A name that cannot be encoded is a ValueError.
            self._note(reachable=False, reason=str(error) or type(error).__name__)
            self.failed()
            connection = None
        finally:
            self._connecting -= 1
        pending.connecting = None
        if connection is not None:
            self._note(reachable=True)
            now = self._loop.time()
            connection.use_until = now + MAX_AGE_SECONDS
            self._open += 1
            self._offer(connection, now)
            return
        if pending in self._waiting:
            self._waiting.remove(pending)
            pending.listener.upstream_gone(Gone.UNREACHABLE)
        self._connect_for_next()

    def failed(self) -> None:
        """The upstream failed in a way that speaks against asking it again."""
        self._breaker.failed(self._loop.time())

    def answered(self) -> None:
        """The upstream answered."""
        if self._breaker.failures:
            self._breaker.succeeded()

    @property
    def unused(self) -> bool:
        """Nothing is kept here that anybody could miss."""
        return not (self._open or self._connecting or self._waiting or self._breaker.failures)

    def _note(self, *, reachable: bool, reason: str = "") -> None:
        if reachable is self._reachable:
            return
        self._reachable = reachable
        if reachable:
            log.info("upstream reachable again", extra={"upstream": self.where.name})
        else:
            log.warning("upstream unreachable", extra={"upstream": self.where.name, "reason": reason})

    def _connect_for_next(self) -> None:
        """A place became free: the first in line that has no attempt of its own gets one."""
        for pending in self._waiting:
            if pending.connecting is None:
                self._connect_for(pending)
                return

    def leave(self, pending: Pending) -> None:
        """Cancelled while waiting. Its attempt goes on: whoever comes next can use the connection, and a task cancelled
        just when it has connected would leave a socket that nobody owns."""
        if pending in self._waiting:
            self._waiting.remove(pending)

    def release(self, connection: Connection) -> None:
        """A connection has served its request."""
        now = self._loop.time()
        if not connection.closed and now >= connection.use_until:
            connection.cancel()
        else:
            self._offer(connection, now)

    def _offer(self, connection: Connection, now: float) -> None:
        """A connection is free: for who waits longest, else for later."""
        if connection.closed:
            return
        if self._waiting:
            pending = self._waiting.popleft()
            connection.send(pending.request, pending.listener, complete=pending.complete, once=pending.once)
        else:
            connection.idle_since = now
            self._idle.append(connection)

    def lost(self, connection: Connection) -> None:
        """A connection is closed."""
        self._open -= 1
        if connection in self._idle:
            self._idle.remove(connection)
        self._connect_for_next()

    def close_idle(self, before: float) -> None:
        """Close connections that have been idle since before ``before`` (loop time)."""
        for connection in [idle for idle in self._idle if idle.idle_since <= before]:
            connection.cancel()


class Upstreams:
    """The pools of a process, by address. Two upstreams of one address share connections; credentials travel with
    each request."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        """``tls``: what upstream certificates are checked with; the system's authorities unless given."""
        self._tls = tls
        self._pools: dict[tuple[str, int, bool], Pool] = {}

    def send(
        self, where: Endpoint, request: bytes, listener: Listener, *, complete: bool = True, once: bool = False
    ) -> Handle | None:
        """See :meth:`Pool.send`."""
        pool = self._pools.get(where.address)
        if pool is None:
            pool = self._pools[where.address] = Pool(where, self.tls_context() if where.tls else None)
        return pool.send(request, listener, complete=complete, once=once)

    def tls_context(self) -> ssl.SSLContext:
        """What upstream certificates are checked with."""
        if self._tls is None:
            self._tls = ssl.create_default_context()
            self._tls.set_alpn_protocols(["http/1.1"])
        return self._tls

    def figures(self) -> list[tuple[str, int, int]]:
        """Upstream name, busy and idle connections: of all addresses that go by that name."""
        found: dict[str, tuple[int, int]] = {}
        for pool in self._pools.values():
            busy, idle = found.get(pool.where.name, (0, 0))
            found[pool.where.name] = busy + pool.busy, idle + pool.idle
        return [(name, busy, idle) for name, (busy, idle) in found.items()]

    def close_idle(self, before: float) -> None:
        """See :meth:`Pool.close_idle`. Pools of addresses that are no longer in use go with their last connection."""
        for address, pool in list(self._pools.items()):
            pool.close_idle(before)
            if pool.unused:
                del self._pools[address]
