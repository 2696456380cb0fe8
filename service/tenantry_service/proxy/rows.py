"""The rows of the ledger that a request becomes, and what observers are told of it. Times are Unix milliseconds."""

from typing import Protocol

import msgspec

from tenantry_service import pricing
from tenantry_service.errors import ErrorType
from tenantry_service.ledger.event import LOST, UsageEvent
from tenantry_service.limits.decisions import Demand
from tenantry_service.proxy.asked import Asked
from tenantry_service.proxy.messages import Settle
from tenantry_service.proxy.snapshot import Account, Caller, Target
from tenantry_service.served import Served, Trace


class Ended(Protocol):
    """What has been served: an exchange, or a turn of a WebSocket session."""

    status: int
    error_type: ErrorType
    asked: Asked

    @property
    def request_id(self) -> str:
        """Unique, and the id of its row."""

    @property
    def streamed(self) -> bool:
        """Whether the answer came in pieces."""


def usage_event(exchange: Ended, settle: Settle, at_ms: int, duration_ms: int) -> UsageEvent:
    """The row of an admitted request."""
    asked = exchange.asked
    caller, target, route, endpoint = asked.caller, asked.target, asked.route, asked.endpoint
    assert caller is not None
    assert target is not None
    assert route is not None
    usage = settle.usage
    # All columns in their order: giving each to the class by its name or its default costs many times as much.
    return tuple.__new__(
        UsageEvent,
        (
            exchange.request_id,
            caller.view.tenant,
            caller.key_id,
            at_ms,
            duration_ms,
            route.template,
            target.requested,
            target.served,
            "" if endpoint is None else endpoint.name,
            exchange.status,
            exchange.error_type._value_,
            exchange.streamed,
            usage.input,
            usage.cached_input,
            usage.output,
            usage.reasoning,
            settle.nano_usd,
            not settle.exact,
            pricing.VERSION,
            caller.view.revision,
            None if settle.raw_usage is None else settle.raw_usage.decode("utf-8", "replace"),
            usage.cache_write,
            usage.audio_input,
            usage.audio_output,
            usage.image_input,
            usage.image_output,
            usage.tier,
            caller.key_name,
        ),
    )


def lost_note(exchange: Ended, demand: Demand, at_ms: int) -> bytes:
    """The row of a request whose process dies before it ends, encoded: what was reserved for it."""
    asked = exchange.asked
    estimate = asked.estimate
    assert estimate is not None
    known = _account(asked)
    return (
        f'["{exchange.request_id}",{known.after_id}{at_ms}{known.after_time}{estimate.input_tokens},0,'
        f"{estimate.output_tokens}{known.after_output}{demand.nano_usd}{known.after_price}"
    ).encode()


def _account(asked: Asked) -> Account:
    caller, target, route, endpoint = asked.caller, asked.target, asked.route, asked.endpoint
    assert caller is not None
    assert target is not None
    assert route is not None
    upstream = "" if endpoint is None else endpoint.name
    known = target.accounts.get(caller.key_id)
    if known is None or known.route != route.template or known.upstream != upstream:
        known = target.accounts[caller.key_id] = _new_account(caller, target, route.template, upstream)
    return known


def _new_account(caller: Caller, target: Target, route: str, upstream: str) -> Account:
    view = caller.view
    # In the order of the columns: see UsageEvent.
    return Account(
        route,
        upstream,
        f"{_text(view.tenant)},{_text(caller.key_id)},",
        f",0,{_text(route)},{_text(target.requested)},{_text(target.served)},{_text(upstream)},0,{_text(LOST)},false,",
        ",0,",
        f',true,{_text(pricing.VERSION)},{_text(view.revision)},null,0,0,0,0,0,"",{_text(caller.key_name)}]',
    )


def _text(value: str) -> str:
    """A text as JSON; what no column can hold becomes a question mark."""
    return msgspec.json.encode(value.encode("utf-8", "replace").decode()).decode()


def served(exchange: Ended, settled: Settle | None, trace: Trace | None) -> Served:
    """What observers are told of an ended request, but for its times."""
    told, asked = Served(exchange.request_id, trace), exchange.asked
    told.operation, told.model = asked.operation, asked.model_label
    if asked.route is not None:
        told.method, told.route = asked.route.method, asked.route.template
    if asked.caller is not None:
        told.tenant = asked.caller.view.tenant
    if asked.target is not None:
        told.served_model = asked.target.served
    if asked.endpoint is not None:
        told.upstream = asked.endpoint.name
    told.status, told.error_type, told.streamed = exchange.status, exchange.error_type.value, exchange.streamed
    if settled is not None:
        told.settled, told.nano_usd = True, settled.nano_usd
        told.input_tokens, told.output_tokens = settled.usage.input, settled.usage.output
    return told
