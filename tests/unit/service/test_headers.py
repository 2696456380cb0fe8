"""Durations of the rate-limit headers."""

import pytest
from tenantry_service.limits.buckets import Standing
from tenantry_service.proxy import headers


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [
        (0, b"0ms"),
        (1, b"1ms"),
        (12_000, b"12ms"),
        (1_500_000, b"1.5s"),
        (60_000_000, b"1m0s"),
        (360_000_001, b"6m0.001s"),
    ],
)
def test_durations_are_written_as_openai_writes_them(microseconds: int, text: bytes) -> None:
    assert headers.duration(microseconds) == text


def test_limits_that_do_not_exist_have_no_headers() -> None:
    assert headers.rate_limit_lines(Standing()) == b""
    assert b"requests" not in headers.rate_limit_lines(Standing(tokens_limit=5, tokens_left=5))
