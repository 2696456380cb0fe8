"""Daily sums of a batch: each event in exactly one line, added up exactly."""

from datetime import UTC, date, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from tenantry_service.ledger import daily
from tenantry_service.ledger.event import UsageEvent

DAY = daily.DAY_MS
NEW_YEAR_MS = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1000)


def event(unique: int, tenant: str, occurred_ms: int, duration_ms: int, cost: int, estimated: bool) -> UsageEvent:
    return UsageEvent(
        f"req_{occurred_ms - duration_ms:011x}{unique}", tenant, "k", occurred_ms, duration_ms, "/v1/x", "m", "m",
        "main", 200, "none", False, 1, 2, 3, 4, cost, estimated, "v", "r", None, key_name="web",
    )  # fmt: skip


EVENTS = st.lists(
    st.builds(
        event,
        st.integers(0, 10**6),
        st.sampled_from(["acme", "globex"]),
        st.integers(NEW_YEAR_MS - 3 * DAY, NEW_YEAR_MS + 3 * DAY),
        st.integers(0, 2 * DAY),
        st.integers(0, 10**15),
        st.booleans(),
    ),
    min_size=1,
    max_size=60,
)


@given(EVENTS)
def test_lines_are_what_their_events_add_up_to(events: list[UsageEvent]) -> None:
    rows = list(zip(*daily.columns(events), strict=True))
    expected: dict[tuple[object, ...], list[int]] = {}
    for made in events:
        began = datetime.fromtimestamp((made.occurred_at_ms - made.duration_ms) / 1000, UTC)
        # The id was made when the request began.
        name = (made.tenant, began.date(), "web", "m", began.date().replace(day=1))
        line = expected.setdefault(name, [0] * 7)
        for place, value in enumerate((1, 1, 2, 3, 4, made.nano_usd, made.estimated)):
            line[place] += value
    assert {row[:5]: list(row[5:]) for row in rows} == expected
    assert rows == sorted(rows), "two writers take their locks in the same order"


@given(EVENTS)
def test_the_months_of_a_batch_are_those_of_its_lines(events: list[UsageEvent]) -> None:
    months = {(made.year, made.month) for made in daily.columns(events)[4] if isinstance(made, date)}
    assert daily.months_of(events) == months


def test_days_are_utc_days() -> None:
    assert daily.day_of(NEW_YEAR_MS) == date(2026, 1, 1)
    assert daily.day_of(NEW_YEAR_MS - 1) == date(2025, 12, 31)
    assert daily.day_of(0) + timedelta(1) == daily.day_of(DAY)
