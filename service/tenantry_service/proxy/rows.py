"""The rows of the ledger that a request becomes, and what observers are told of it. Times are Unix milliseconds."""

from typing import Protocol

from tenantry_service import pricing
from tenantry_service.errors import ErrorType
from tenantry_service.ledger.event import LOST, UsageEvent
from tenantry_service.limits.buckets import Demand
from tenantry_service.proxy.asked import Asked
from tenantry_service.proxy.messages import Settle
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
    # All columns in their order: giving each to the class by its name or its default costs four times as much.
    return UsageEvent._make(
        (
            exchange.request_id,
            settle.policy.tenant,
            caller.key.id,
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
            settle.policy.revision,
            None if settle.raw_usage is None else settle.raw_usage.decode("utf-8", "replace"),
            usage.cache_write,
            usage.audio_input,
            usage.audio_output,
            usage.image_input,
            usage.image_output,
            usage.tier,
            caller.key.name,
        )
    )


def lost_event(exchange: Ended, demand: Demand, at_ms: int) -> UsageEvent:
    """The row of a request whose process dies before it ends: what was reserved for it."""
    asked = exchange.asked
    caller, target, route, endpoint, estimate = asked.caller, asked.target, asked.route, asked.endpoint, asked.estimate
    assert caller is not None
    assert target is not None
    assert route is not None
    assert estimate is not None
    policy = caller.view.policy
    return UsageEvent._make(
        (
            exchange.request_id,
            policy.tenant,
            caller.key.id,
            at_ms,
            0,
            route.template,
            target.requested,
            target.served,
            "" if endpoint is None else endpoint.name,
            0,
            LOST,
            False,
            estimate.input_tokens,
            0,
            estimate.output_tokens,
            0,
            demand.nano_usd,
            True,
            pricing.VERSION,
            policy.revision,
            None,
            0,
            0,
            0,
            0,
            0,
            "",
            caller.key.name,
        )
    )


def served(exchange: Ended, settled: Settle | None, trace: Trace | None) -> Served:
    """What observers are told of an ended request, but for its times."""
    told, asked = Served(exchange.request_id, trace), exchange.asked
    told.operation, told.model = asked.operation, asked.model_label
    if asked.route is not None:
        told.method, told.route = asked.route.method, asked.route.template
    if asked.caller is not None:
        told.tenant = asked.caller.view.policy.tenant
    if asked.target is not None:
        told.served_model = asked.target.served
    if asked.endpoint is not None:
        told.upstream = asked.endpoint.name
    told.status, told.error_type, told.streamed = exchange.status, exchange.error_type.value, exchange.streamed
    if settled is not None:
        told.settled, told.nano_usd = True, settled.nano_usd
        told.input_tokens, told.output_tokens = settled.usage.input, settled.usage.output
    return told
