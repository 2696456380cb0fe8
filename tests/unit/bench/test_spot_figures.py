"""What a soak of interruptions counts as lost, when several nodes are on their way at a time."""

from datetime import UTC, datetime, timedelta

from tests.bench.spot.figures import Found, untimely
from tests.bench.spot.load import Outcomes

END = datetime(2026, 3, 1, 12, 2, tzinfo=UTC)


def before(end: datetime, seconds: float) -> datetime:
    return end - timedelta(seconds=seconds)


def test_a_stream_may_end_early_in_the_last_seconds_of_any_node_that_goes() -> None:
    another = END + timedelta(seconds=36)
    assert untimely([before(END, 15), before(END, 0), before(another, 14.2)], [END, another]) == []


def test_a_stream_that_ends_early_between_two_nodes_ends_is_a_cut_one() -> None:
    another = END + timedelta(seconds=36)
    wrong = [before(END, 40), before(another, 18), another + timedelta(seconds=1)]
    assert untimely([*wrong, before(END, 3)], [END, another]) == wrong


def test_the_last_line_tells_apart_what_had_to_end_and_what_was_cut() -> None:
    served = Outcomes(streams=9, cut_streams=1, ended_early=3, early=[before(END, 9), before(END, 60), before(END, 1)])
    found = Found(served, Outcomes(), interruptions=1, ends=[END])
    found.judge()
    assert (found.line()["ended_early"], found.line()["cut_streams"]) == (2, 2)
    assert "no node was to end" in served.failures[-1]
