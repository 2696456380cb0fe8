"""Playbooks: a story of an exchange as events and the commands they must bring, without a socket."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tenantry_service.limits.decisions import Refusal, Reservation, Standing
from tenantry_service.limits.limiter import Decision
from tenantry_service.policy import Budget, Key, Limits, Models, Policy, Upstream, sealed
from tenantry_service.proxy import headers, request_head
from tenantry_service.proxy.exchange import Exchange
from tenantry_service.proxy.messages import (
    AbortClient,
    ClientHead,
    Command,
    Commands,
    Gone,
    OpenUpstream,
    Refuse,
    RequestHead,
    Reserve,
    Settle,
    Timer,
    ToClient,
)
from tenantry_service.proxy.snapshot import Snapshot, TenantView
from tenantry_service.proxy.states import State

KEY = "tn_abcdefghijkl_0123456789012345678901234567890123456789"
NOW = 1_700_000_000.0
CREDENTIAL = "sk-upstream-credential"


def policy(
    *,
    limits: Limits | None = None,
    budget: Budget | None = None,
    models: Models | None = None,
    upstreams: tuple[Upstream, ...] = (Upstream(name="main", base_url="http://upstream.test/v1"),),
    **more: Any,
) -> Policy:
    """A policy with one key; whatever is not given is open."""
    key = more.pop("key", Key(id="abcdefghijkl", name="default", sha256=hashlib.sha256(KEY.encode()).hexdigest()))
    return sealed(
        Policy(
            tenant="acme",
            generation=3,
            keys=(key,),
            limits=limits or Limits(),
            budget=budget,
            models=models or Models(),
            upstreams=upstreams,
            **more,
        )
    )


def snapshot(document: Policy | None = None) -> Snapshot:
    """The compiled policy, with a credential for each upstream."""
    document = document or policy()
    return Snapshot([TenantView(document, {upstream.name: CREDENTIAL for upstream in document.upstreams})])


def chat_body(**fields: object) -> bytes:
    """A chat request's body."""
    return json.dumps(
        {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hello"}], **fields}, separators=(",", ":")
    ).encode()


def head(
    method: str = "POST",
    path: str = "/v1/chat/completions",
    *,
    key: str | None = KEY,
    length: int | None = 0,
    continues: bool = False,
    extra: tuple[tuple[bytes, bytes], ...] = (),
) -> RequestHead:
    """A request's head."""
    kind = () if any(name == b"content-type" for name, _ in extra) else ((b"content-type", b"application/json"),)
    lines = [(b"host", b"tenant.test"), *kind, *extra]
    if key is not None:
        lines.append((b"authorization", f"Bearer {key}".encode()))
    if continues:
        lines.append((b"expect", b"100-continue"))
    if length is None:
        lines.append((b"transfer-encoding", b"chunked"))
    elif length:
        lines.append((b"content-length", b"%d" % length))
    found = request_head.build(method.encode(), path.encode(), lines, "1.1")
    assert isinstance(found, RequestHead)
    return found


def granted(tokens: int = 50, nano_usd: int = 1_000_000, standing: Standing | None = None) -> Reservation:
    """The limiter's yes, for the demand that the playbook's request makes (the figures do not matter)."""
    from tenantry_service.limits.decisions import Demand

    return Reservation("req_1", Demand(tokens, nano_usd), tokens, 0, 0, standing or Standing())


Event = Callable[[Exchange], Commands]


def request(what: RequestHead | None = None, body: bytes = b"") -> list[Event]:
    """Head, body and end of a request."""
    given = what or head(length=len(body))
    events: list[Event] = [lambda e: e.on_request(given, NOW, draining=False, ledger_full=False)]
    if body:
        events.append(lambda e: e.on_body(body))
    return [*events, lambda e: e.on_body_end()]


def reserved(decision: Decision | None = None) -> Event:
    """The limiter answers."""
    return lambda e: e.on_reserved(decision or granted())


def sent() -> Event:
    """The request is on its way."""
    return lambda e: e.on_upstream_sent()


def upstream_head(
    status: int = 200, kind: str = "application/json", length: int | None = None, *extra: tuple[bytes, bytes]
) -> Event:
    """The upstream's head."""
    lines = [(b"content-type", kind.encode()), *extra]
    if length is not None:
        lines.append((b"content-length", b"%d" % length))
    return lambda e: e.on_upstream_head(headers.response_head(status, lines))


def data(what: bytes) -> Event:
    """Bytes of the upstream's body."""
    return lambda e: e.on_upstream_data(what)


def end(*, framed: bool = True) -> Event:
    """The upstream's answer is complete."""
    return lambda e: e.on_upstream_end(framed)


def client_gone() -> Event:
    """The client closes."""
    return lambda e: e.on_client_gone()


def upstream_gone(gone: Gone = Gone.INTERRUPTED) -> Event:
    """The upstream is lost."""
    return lambda e: e.on_upstream_gone(gone)


def timer(which: Timer) -> Event:
    """A timer."""
    return lambda e: e.on_timer(which)


@dataclass
class Play:
    """An exchange under test and what came of it."""

    exchange: Exchange
    commands: list[Command] = field(default_factory=list)
    last: list[Command] = field(default_factory=list)

    def on(self, *events: Event | list[Event]) -> Play:
        """Play events."""
        for event in events:
            for one in event if isinstance(event, list) else [event]:
                self.last = list(one(self.exchange))
                self.commands += self.last
        return self

    def wants(self, *kinds: type[Command]) -> Play:
        """The last event brought exactly these kinds of commands, in this order."""
        assert [type(command) for command in self.last] == list(kinds), self.last
        return self

    def of(self, kind: type[Any]) -> Any:
        """The only command of a kind in the whole play."""
        found = [command for command in self.commands if isinstance(command, kind)]
        assert len(found) == 1, self.commands
        return found[0]

    @property
    def to_client(self) -> bytes:
        """The body that the client got."""
        return b"".join(command.data for command in self.commands if isinstance(command, ToClient))

    @property
    def client_head(self) -> ClientHead:
        """The head that the client got."""
        heads = [c.head for c in self.commands if isinstance(c, ToClient) and c.head is not None]
        assert len(heads) == 1
        return heads[0]

    @property
    def refusal(self) -> Refuse:
        """The error that the client got."""
        found = self.of(Refuse)
        assert isinstance(found, Refuse)
        return found

    @property
    def settled(self) -> Settle:
        """The settlement."""
        found = self.of(Settle)
        assert isinstance(found, Settle)
        return found

    @property
    def sent_upstream(self) -> bytes:
        """The request that the upstream got."""
        found = self.of(OpenUpstream)
        assert isinstance(found, OpenUpstream)
        return found.request

    @property
    def done(self) -> bool:
        """The exchange has ended."""
        return self.exchange.state is State.DONE


def play(document: Policy | None = None) -> Play:
    """A new exchange under a policy."""
    return Play(Exchange(snapshot(document), "req_1"))


def is_last_word(command: Command) -> bool:
    """After this, the client gets no more."""
    return isinstance(command, Refuse | AbortClient) or (isinstance(command, ToClient) and command.last)


__all__ = [
    "CREDENTIAL",
    "KEY",
    "NOW",
    "Event",
    "Gone",
    "Play",
    "Refusal",
    "Reserve",
    "Timer",
    "chat_body",
    "client_gone",
    "data",
    "end",
    "granted",
    "head",
    "is_last_word",
    "play",
    "policy",
    "request",
    "reserved",
    "sent",
    "snapshot",
    "timer",
    "upstream_gone",
    "upstream_head",
]
