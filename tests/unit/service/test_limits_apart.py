"""What surrounds the shared limiter: addresses, shares, and what is kept while Redis is away."""

from pathlib import Path

import pytest
from tenantry_service.limits import address, settlement
from tenantry_service.limits.address import AddressError
from tenantry_service.limits.backlog import Backlog
from tenantry_service.limits.decisions import Demand, Reservation, Standing
from tenantry_service.limits.settlement import Settlement
from tenantry_service.limits.share import share
from tenantry_service.policy import Budget, Key, KeyLimits, Limits, Window

from tests.unit.service.playbook import policy


def one(number: int, tenant: str = "acme") -> Settlement:
    reservation = Reservation(f"r{number}", Demand(5, 7), 5, 1, 2, Standing(), "key", 5)
    return Settlement(tenant, reservation, 3, 4, True, b"event %d" % number, 99)


def told(kept: Settlement) -> tuple[object, ...]:
    made = kept.reservation
    return (kept.tenant, kept.tokens, kept.nano_usd, kept.exact, kept.event, kept.occurred_ms, made.id, made.day,
            made.month, made.tokens_taken, made.key_name, made.key_tokens_taken, made.demand.nano_usd)  # fmt: skip


def test_an_address_names_host_user_password_and_database() -> None:
    found = address.parse("rediss://tenant-acme:p%40ss@redis.internal:6380/2?ca=/etc/ca.pem\n")
    assert found == ("redis.internal", 6380, True, "tenant-acme", "p@ss", 2, "/etc/ca.pem")
    assert "p@ss" not in repr(found)
    assert address.parse("redis://localhost") == ("localhost", 6379, False, "", "", 0, "")


@pytest.mark.parametrize(
    "text", ["", "localhost:6379", "http://x", "redis://", "redis://x:99999", "redis://u:secret@x/db", "redis://[x"]
)
def test_what_is_no_address_is_refused_without_saying_the_password(text: str) -> None:
    with pytest.raises(AddressError, match="redis://") as refused:
        address.parse(text)
    assert "secret" not in str(refused.value)


def test_a_share_is_a_part_of_every_limit_and_of_what_is_left_of_the_budget() -> None:
    whole = policy(
        limits=Limits(requests_per_minute=10, tokens_per_minute=2, concurrent_requests=9),
        budget=Budget(amount_nano_usd=1000, window=Window.DAY),
        key=Key(id="a", name="a", sha256="0" * 64, limits=KeyLimits(requests_per_minute=7)),
    )
    part = share(whole, 3, 400, 999)
    assert (part.limits.requests_per_minute, part.limits.concurrent_requests) == (3, 3)
    assert part.limits.tokens_per_minute == 1, "never nothing"
    assert part.budget is not None
    assert part.budget.amount_nano_usd == 200
    assert part.keys[0].limits is not None
    assert part.keys[0].limits.requests_per_minute == 2
    # All shares together are no more than the whole, but for the ones that would be nothing.
    assert share(whole, 1, 0, 0).limits == whole.limits
    assert part.revision != whole.revision


def test_a_settlement_survives_the_journal_word_for_word() -> None:
    assert told(settlement.decode(settlement.encode(one(1)))) == told(one(1))


def test_what_was_not_answered_is_there_for_the_next_process(tmp_path: Path) -> None:
    first = Backlog(tmp_path)
    for number in range(3):
        first.add(one(number))
    (answered,) = first.take(1)
    first.done(answered)
    first.begin("acme", "local", b"note")
    assert first.close() == 2
    second = Backlog(tmp_path)
    found = second.take(10)
    assert {told(kept)[4] for kept in found} >= {b"event 1", b"event 2", b"note"}
    assert all(kept.sent for kept in found), "they may have been said before"


def test_what_is_settled_needs_its_note_no_more(tmp_path: Path) -> None:
    first = Backlog(tmp_path)
    first.begin("acme", "r1", b"note")
    first.add(one(1))
    (kept,) = first.take(1)
    first.done(kept)
    assert first.close() == 0
    assert len(Backlog(tmp_path)) == 0


def test_a_backlog_is_handed_out_by_tenant_in_its_order_and_has_an_end() -> None:
    backlog = Backlog(None, most=3)
    for number, tenant in enumerate(("a", "a", "b")):
        assert not backlog.full
        backlog.add(one(number, tenant))
    assert backlog.full
    assert [kept.reservation.id for kept in backlog.take(10)] == ["r0", "r1"]
    assert [kept.reservation.id for kept in backlog.take(10)] == ["r2"]
    assert not backlog.take(10)
