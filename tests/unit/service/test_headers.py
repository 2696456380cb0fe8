"""Durations of the rate-limit headers."""

import pytest
from tenantry_service.limits.decisions import Standing
from tenantry_service.proxy import headers


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0ms"),
        (12, "12ms"),
        (1_500, "1.5s"),
        (60_000, "1m0s"),
        (360_001, "6m0.001s"),
    ],
)
def test_durations_are_written_as_openai_writes_them(ms: int, text: str) -> None:
    assert headers.duration(ms) == text


def test_limits_that_do_not_exist_have_no_headers() -> None:
    assert headers.rate_limit_lines(Standing()) == b""
    assert b"requests" not in headers.rate_limit_lines(Standing(tokens_limit=5, tokens_left=5))
