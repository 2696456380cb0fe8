"""Hours add up: whatever was seen, in whatever order of samples, is divided among tenants, idle and overhead."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tenantry_meter.hours import MONTH_SECONDS, Hour, Sample, add, hour_of, statement
from tenantry_meter.server import Desk
from tenantry_meter.store import Store
from tenantry_meter.windows import FORMS, WindowProblem, steps, window
from tenantry_showback.formats import Window
from tenantry_showback.statement import GIB, NodeCost, Sharing, Use

NOW = datetime(2026, 11, 18, 17, 30, tzinfo=UTC)  # a Wednesday
START = hour_of(NOW)

#: A node at a dollar an hour.
NODE = NodeCost("a", 730 * 10**9, 2000, 8 * GIB)
ACME, PLATFORM = Use("acme", "a", 1000, 4 * GIB), Use("", "a", 500, 2 * GIB)

KEEP = {"share_idle": Sharing.KEEP, "share_overhead": Sharing.KEEP}

samples = st.builds(
    Sample,
    st.lists(
        st.builds(
            NodeCost, st.sampled_from("abc"), st.integers(0, 10**12), st.integers(0, 9000), st.integers(0, 2**36)
        ),
        max_size=3,
        unique_by=lambda node: node.name,
    ),
    st.integers(0, 10**12),
    st.lists(
        st.builds(
            Use, st.sampled_from(["", "x", "y"]), st.sampled_from("abc"), st.integers(0, 9000), st.integers(0, 2**36)
        ),
        max_size=5,
    ),
    st.dictionaries(st.sampled_from("xy"), st.integers(0, 10**12)),
)


@given(
    st.lists(st.tuples(samples, st.integers(1, 180)), max_size=6), st.sampled_from(Sharing), st.sampled_from(Sharing)
)
def test_what_was_seen_is_divided_without_a_rest(
    seen: list[tuple[Sample, int]], idle: Sharing, overhead: Sharing
) -> None:
    hours = [Hour(start=START), Hour(start=START + timedelta(hours=1))]
    before, nodes, shared, tokens = None, dict[str, int](), 0, 0
    for at, (sample, seconds) in enumerate(seen):
        add(hours[at % 2], sample, seconds, before)
        shared += sample.overhead * seconds
        for node in sample.nodes:
            nodes[node.name] = nodes.get(node.name, 0) + node.nano_usd * seconds
        if before is not None:
            for tenant, spent in sample.spent.items():
                tokens += spent - before.get(tenant, 0) if spent >= before.get(tenant, 0) else spent
        before = sample.spent
    made, _, covered = statement(hours, share_idle=idle, share_overhead=overhead)
    assert covered == sum(seconds for _, seconds in seen)
    assert made.bill == sum(cost // MONTH_SECONDS for cost in nodes.values()) + shared // MONTH_SECONDS + tokens


def test_an_hour_of_a_node_costs_an_hour_and_a_new_window_of_the_budget_begins_at_nothing() -> None:
    hour = Hour(start=START)
    before = None
    for spent in (5, 9, 2):  # the window ended before the third
        sample = Sample([NODE], 0, [ACME, PLATFORM], {"acme": spent})
        add(hour, sample, 1200, before)
        before = sample.spent
    made, _, seconds = statement([hour], **KEEP)
    (line,) = made.lines
    assert seconds == 3600
    assert line.compute == pytest.approx(5 * 10**8, abs=2)
    assert made.overhead == pytest.approx(25 * 10**7, abs=2)
    assert made.idle == pytest.approx(25 * 10**7, abs=2)
    assert line.tokens == 4 + 2


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("today", datetime(2026, 11, 18, tzinfo=UTC), NOW),
        ("yesterday", datetime(2026, 11, 17, tzinfo=UTC), datetime(2026, 11, 18, tzinfo=UTC)),
        ("week", datetime(2026, 11, 16, tzinfo=UTC), NOW),
        ("lastweek", datetime(2026, 11, 9, tzinfo=UTC), datetime(2026, 11, 16, tzinfo=UTC)),
        ("month", datetime(2026, 11, 1, tzinfo=UTC), NOW),
        ("24h", START - timedelta(hours=24), NOW),
        ("7d", START - timedelta(days=7), NOW),
        (
            "2026-11-01T00:00:00Z,2026-11-02T00:00:00Z",
            datetime(2026, 11, 1, tzinfo=UTC),
            datetime(2026, 11, 2, tzinfo=UTC),
        ),
    ],
)
def test_windows_are_opencosts(text: str, start: datetime, end: datetime) -> None:
    assert window(text, NOW) == Window(start, end)


@pytest.mark.parametrize(
    "text", ["", "0h", "tomorrow", "2026-11-01,2026-11-02", "2026-11-02T00:00:00Z,2026-11-01T00:00:00Z"]
)
def test_what_is_no_window_is_told_what_is_one(text: str) -> None:
    with pytest.raises(WindowProblem) as told:
        window(text, NOW)
    assert FORMS in str(told.value) or "offset" in str(told.value)


def test_steps_cover_the_window_once() -> None:
    whole = window("24h", NOW)
    parts = list(steps(whole, "5h"))
    assert [parts[0].start, parts[-1].end] == [whole.start, whole.end]
    assert sum(part.seconds for part in parts) == whole.seconds
    with pytest.raises(WindowProblem, match="more than 1,000"):
        list(steps(window("365d", NOW), "1h"))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A day with one tenant that has half of a node."""
    store = Store(tmp_path / "hours.db")
    for back in range(24):
        hour = Hour(start=START - timedelta(hours=back))
        add(hour, Sample([NODE], 730 * 10**9, [ACME], {}), 3600, None)
        store.write(hour, timedelta(days=400))
    return Desk(store, lambda: NOW, lambda: None)


def test_opencosts_request_gets_opencosts_answer(desk: Desk) -> None:
    answer = desk.answer(
        "/allocation/compute?window=2026-11-18T00:00:00Z,2026-11-18T12:00:00Z&aggregate=namespace&step=6h"
    )
    assert answer.status == 200
    told = json.loads(answer.body)
    assert told["code"] == 200
    assert len(told["data"]) == 2
    for part in told["data"]:
        assert set(part) == {"tenant-acme", "__idle__", "__overhead__"}
        assert part["tenant-acme"]["totalCost"] == pytest.approx(3)
        assert part["tenant-acme"]["minutes"] == 360
        assert part["tenant-acme"]["cpuCoreHours"] == pytest.approx(6)
        assert sum(row["totalCost"] for row in part.values()) == pytest.approx(12)


def test_what_cannot_be_answered_says_so(desk: Desk) -> None:
    for target, status in (
        ("/allocation/compute?window=soon", 400),
        ("/allocation/compute?aggregate=pod", 400),
        ("/focus.csv?shareIdle=all", 400),
        ("/else", 404),
        ("/healthz", 200),
    ):
        assert desk.answer(target).status == status, target
    assert desk.answer("/focus.csv?window=24h&shareIdle=proportional").body.count("\n") == 5, (
        "CPU, memory, idle, overhead"
    )


def test_hours_outlive_the_process_and_end_when_they_are_old(tmp_path: Path) -> None:
    store = Store(tmp_path / "hours.db")
    for back in (5, 1, 0):
        store.write(Hour(start=START - timedelta(days=back), seconds=60), timedelta(days=2))
    store.close()
    again = Store(tmp_path / "hours.db")
    assert [hour.start for hour in again.read(START - timedelta(days=9), NOW)] == [START - timedelta(days=1), START]
    assert again.hour(START).seconds == 60
