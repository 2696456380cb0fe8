"""Numbers of wrk are taken only from runs in which every answer was a good one."""

import pytest

from tests.bench.proxy import wrk

HEAD = "Running 4s test @ http://127.0.0.1:1/\n  1 threads and 64 connections\n"
GOOD = '{"requests":98400,"duration_us":4000000,"p50_us":176,"p99_us":402,"errors":0}\n'


def test_summary_is_found_among_what_wrk_prints() -> None:
    load = wrk.parse(HEAD + GOOD + "Requests/sec:  24600.00\n")
    assert load == wrk.Load(requests=98_400, requests_per_s=24_600.0, p50_us=176, p99_us=402)


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ("", "no summary: nothing"),
        ("unable to connect", "unable to connect"),
        (HEAD + GOOD.replace('"errors":0', '"errors":3'), "3 errors beside 98400 answers"),
        (HEAD + GOOD.replace("98400", "0"), "0 errors beside 0 answers"),
    ],
)
def test_run_without_good_answers_only_is_refused(output: str, says: str) -> None:
    with pytest.raises(wrk.LoadFailed, match=says):
        wrk.parse(output)
