"""Events for tests."""

import time

from tenantry_service.ledger import codec
from tenantry_service.ledger.event import LOST, UsageEvent, new_id
from tenantry_service.ledger.link import Link
from tenantry_service.writer.streams import stream_of


def event(unique: str, tenant: str = "acme", **fields: object) -> UsageEvent:
    made = UsageEvent(
        new_id(unique), tenant, "key1", time.time_ns() // 1_000_000, 20, "/v1/chat/completions", "gpt-4o", "gpt-4o",
        "main", 200, "none", False, 10, 2, 5, 1, 1000, False, "prices-1", "rev", '{"prompt_tokens":10}',
    )  # fmt: skip
    return made._replace(**fields)  # type: ignore[arg-type]


def lost(of: UsageEvent) -> UsageEvent:
    """What the sweeper bills if its pod died."""
    return of._replace(
        status=0, error_type=LOST, estimated=True, input_tokens=40, output_tokens=400, nano_usd=90_000, usage=None
    )


async def put(redis: Link, *events: UsageEvent) -> None:
    """Append events to their tenants' streams, as the settle script does."""
    await redis.call(("XADD", stream_of(made.tenant), "*", "e", codec.encode(made)) for made in events)
