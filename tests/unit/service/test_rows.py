"""The rows that a request becomes have every column of the ledger."""

from tenantry_service import pricing
from tenantry_service.ledger import codec
from tenantry_service.ledger.event import LOST, UsageEvent
from tenantry_service.limits.decisions import Demand
from tenantry_service.proxy import rows

from tests.unit.service.playbook import chat_body, data, end, play, policy, request, reserved, sent, upstream_head
from tests.unit.service.test_exchange import ANSWER


def test_a_row_says_who_asked_for_what_and_what_it_used() -> None:
    story = play().on(request(body=chat_body()), reserved(), sent(), upstream_head(200), data(ANSWER), end())
    row = rows.usage_event(story.exchange, story.settled, 1_700_000_000_000, 12)
    assert len(row) == len(UsageEvent._fields)
    assert (row.event_id, row.tenant, row.key_name, row.status, row.error_type) == (
        "req_1",
        "acme",
        "default",
        200,
        "none",
    )
    assert (row.occurred_at_ms, row.duration_ms, row.estimated) == (1_700_000_000_000, 12, False)
    assert (row.input_tokens, row.output_tokens) == (story.settled.usage.input, story.settled.usage.output)


def test_the_row_written_ahead_bills_what_is_reserved() -> None:
    story = play().on(request(body=chat_body(max_tokens=7)))
    row = codec.decode(rows.lost_note(story.exchange, Demand(50, 1_234), 1_700_000_000_000))
    asked = story.exchange.asked
    assert asked.estimate is not None
    assert row == UsageEvent(
        event_id="req_1",
        tenant="acme",
        key_id="abcdefghijkl",
        occurred_at_ms=1_700_000_000_000,
        duration_ms=0,
        route="/v1/chat/completions",
        requested_model="gpt-4o-mini",
        served_model="gpt-4o-mini",
        upstream="main",
        status=0,
        error_type=LOST,
        stream=False,
        input_tokens=asked.estimate.input_tokens,
        cached_input_tokens=0,
        output_tokens=7,
        reasoning_tokens=0,
        nano_usd=1_234,
        estimated=True,
        price_version=pricing.VERSION,
        policy_revision=policy().revision,
        usage=None,
        key_name="default",
    )
