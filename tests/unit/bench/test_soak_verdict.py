"""The verdict of the soak: what is a leak, and what is not."""

from dataclasses import replace

import pytest

from tests.bench.soak import verdict
from tests.bench.soak.verdict import Books, Look

IDLE = Look(seconds=0.0, rss_mb=50.0, files=12, tasks=4, in_flight=0, connections=1)
BOOKS = Books({"none": 10, "caller_cancelled": 3}, {"none": 10, "caller_cancelled": 2}, internal_errors=0)
SEEN = {"sent": 14, "answered": 12, "suspended": 1}
METRICS = """\
# HELP tenantry_requests_total Requests that ended, by how.
tenantry_requests_total{gen_ai_operation_name="chat",gen_ai_request_model="gpt-4o-mini",error_type="none"} 7.0
tenantry_requests_total{gen_ai_operation_name="embeddings",gen_ai_request_model="other",error_type="none"} 2.0
tenantry_requests_total{gen_ai_operation_name="chat",gen_ai_request_model="other",error_type="caller_malformed"} 1.0
tenantry_requests_total{gen_ai_operation_name="realtime",gen_ai_request_model="other",error_type="none"} 5.0
tenantry_in_flight_requests 3.0
tenantry_upstream_connections{upstream="a",state="busy"} 1.0
tenantry_upstream_connections{upstream="a",state="idle"} 2.0
"""


def test_a_service_that_is_as_it_was_has_no_problem() -> None:
    assert verdict.problems(IDLE, [IDLE] * 9, IDLE, BOOKS, SEEN) == []


@pytest.mark.parametrize("field", ["files", "tasks", "in_flight", "connections"])
def test_whatever_is_left_is_named(field: str) -> None:
    last = replace(IDLE, **{field: getattr(IDLE, field) + 1})
    (problem,) = verdict.problems(IDLE, [], last, BOOKS, SEEN)
    assert problem.startswith(str(getattr(last, field)))


def test_memory_that_goes_on_growing_is_a_leak_and_memory_that_has_grown_once_is_none() -> None:
    steady = [replace(IDLE, rss_mb=50.0 if second < 30 else 70.0) for second in range(90)]
    assert verdict.problems(IDLE, steady, IDLE, BOOKS, SEEN) == []
    leaking = [replace(IDLE, rss_mb=50.0 + second / 5) for second in range(90)]
    assert "memory grew by 6.0 MB" in verdict.problems(IDLE, leaking, IDLE, BOOKS, SEEN)[0]


@pytest.mark.parametrize(
    "books",
    [
        Books({"none": 11}, {"none": 10}, internal_errors=0),
        Books({"none": 10}, {"none": 11}, internal_errors=0),
        Books({"none": 10}, {"none": 10, "provider_timeout": 1}, internal_errors=0),
        Books({"none": 10}, {"none": 10}, internal_errors=1),
    ],
)
def test_a_request_without_its_row_and_a_row_without_its_request_are_found(books: Books) -> None:
    requests = sum(books.counted.values())
    assert len(verdict.problems(IDLE, [], IDLE, books, {"sent": requests, "answered": requests})) == 1


@pytest.mark.parametrize(("sent", "answered"), [(12, 12), (20, 14)])
def test_a_request_that_was_counted_twice_or_not_at_all_is_found(sent: int, answered: int) -> None:
    (problem,) = verdict.problems(IDLE, [], IDLE, BOOKS, {"sent": sent, "answered": answered})
    assert problem.startswith("13 requests ended")


def test_a_run_that_mostly_refused_met_no_open_breaker_or_left_something_out_proves_little() -> None:
    good = Books({"none": 90, "provider_unreachable": 10}, {}, internal_errors=0)
    assert verdict.thin(good, SEEN, {"chat": 1}, ["chat"]) == []
    poor = Books({"none": 58, "provider_unreachable": 42}, {}, internal_errors=0)
    served, breaker = verdict.thin(poor, {}, {"chat": 1}, ["chat"])
    assert "58%" in served
    assert "breaker" in breaker
    assert verdict.thin(good, SEEN, {"chat": 1}, ["chat", "stream"]) == ["nobody played 'stream'"]


def test_metrics_are_read_without_what_has_no_rows_of_its_own() -> None:
    assert verdict.counted(METRICS) == {"none": 9, "caller_malformed": 1}
    assert verdict.gauge(METRICS, "tenantry_in_flight_requests") == 3
    assert verdict.gauge(METRICS, "tenantry_upstream_connections") == 3
