"""The scripts in a real Redis as a store, under a clock that the test sets, with the law in memory beside it."""

import itertools
import socket
from urllib.parse import urlsplit

import hiredis
from localcluster.datastores import Redis
from tenantry_service.limits import answers, calls
from tenantry_service.limits.answers import Granted
from tenantry_service.limits.bounds import Bounds
from tenantry_service.limits.calls import Batch, Call, Keys
from tenantry_service.limits.connection import Reply, pack
from tenantry_service.limits.decisions import Demand, Refusal, Reservation

from tests.unit.service.limits_law import same
from tests.unit.service.memory_store import MemoryStore

#: The one difference to what is shipped: the caller says what time it is.
_TIMED = calls.TRANSACT.text.replace(b"redis.call('TIME')", b"{ ARGV[2], ARGV[3] }")

_names = itertools.count(1)


class Client:
    """One blocking connection."""

    def __init__(self, server: Redis) -> None:
        parts = urlsplit(server.url)
        self._socket = socket.create_connection(("127.0.0.1", server.port), timeout=60)
        self._replies = hiredis.Reader()
        self("AUTH", parts.password or "")

    def __call__(self, *words: str | bytes | int) -> Reply:
        self._socket.sendall(pack(*[word.encode() if isinstance(word, str) else word for word in words]))
        while (reply := self._replies.gets()) is False:
            self._replies.feed(self._socket.recv(65536))
        if isinstance(reply, hiredis.HiredisError):
            raise reply
        answer: Reply = reply
        return answer

    def run(self, call: Call) -> Reply:
        return self("EVAL", call.script.text, len(call.keys), *call.keys, call.argument)

    def close(self) -> None:
        self._socket.close()


def load(client: Client) -> bytes:
    """Make the script known; returns what it is called by."""
    sha = client("SCRIPT", "LOAD", _TIMED)
    assert isinstance(sha, bytes)
    return sha


class RedisStore:
    """See `limits_law.Store`. Every decision must be the one that the law in memory comes to, to the last figure."""

    def __init__(self, client: Client, sha: bytes) -> None:
        self._client = client
        self._sha = sha
        self._keys = Keys(f"law-{next(_names)}")
        self._memory = MemoryStore()
        self._bounds: tuple[int, Bounds, dict[str, Bounds]] = (1, Bounds(), {})
        self._twins: dict[str, Reservation] = {}

    def reserve(
        self, now_ms: int, generation: int, tenant: Bounds, keys: dict[str, Bounds], key: str, name: str, demand: Demand
    ) -> Reservation | Refusal:
        limited = key if key in keys else ""
        self._bounds = (generation, tenant, keys)
        batch = Batch(self._keys)
        batch.reserve(name, limited, demand, b"{}")
        (result,) = self._run(batch, 2**50, now_ms)
        decision = answers.read_decision(result, now_ms, name, limited, demand)
        expected = self._memory.reserve(now_ms, generation, tenant, keys, key, name, demand)
        if isinstance(decision, Granted):
            assert isinstance(expected, Reservation), "Redis admits what the law refuses"
            assert same(decision.reservation, expected)
            spent = (self._memory.tenant.day_spent, self._memory.tenant.month_spent)
            assert (decision.day_spent, decision.month_spent) == spent
            self._twins[name] = expected
            return decision.reservation
        assert isinstance(decision, Refusal)
        assert same(decision, expected)
        return decision

    def settle(self, reservation: Reservation, tokens: int, nano_usd: int, *, exact: bool) -> None:
        batch = Batch(self._keys)
        batch.settle(reservation, tokens, nano_usd, exact=exact, event=b"{}")
        assert self._run(batch, 0, 0) == [1]
        self._memory.settle(self._twins.pop(reservation.id), tokens, nano_usd, exact=exact)

    def _run(self, batch: Batch, deadline_ms: int, now_ms: int) -> list[object]:
        call = batch.call(*self._bounds, deadline_ms)
        seconds, rest = divmod(now_ms, 1000)
        reply = self._client(
            "EVALSHA", self._sha, len(call.keys), *call.keys, call.argument, seconds, rest * 1000 + 999
        )
        assert isinstance(reply, bytes)
        return list(answers.read_answers(reply, len(batch.ops)).results)

    def close(self) -> None:
        """Its keys have names of their own."""
