"""Errors as the SDK reads them."""

import json

import pytest
from tenantry_service import errors


@pytest.mark.parametrize(
    "error", [value for value in vars(errors).values() if isinstance(value, errors.ApiError)], ids=lambda e: str(e.code)
)
def test_every_error_has_openais_shape_and_steers_the_retry(error: errors.ApiError) -> None:
    body = json.loads(error.body())["error"]
    assert set(body) == {"message", "type", "param", "code"}
    assert body["message"].endswith(".")
    if error.status == 503:
        assert {b"retry-after", b"x-should-retry"} & {name for name, _ in error.headers}


def test_waits_are_rounded_up() -> None:
    assert errors.retry_after(1001) == ((b"retry-after-ms", b"1001"), (b"retry-after", b"2"))


def test_an_error_event_is_one_event() -> None:
    event = errors.UPSTREAM_INTERRUPTED.sse_event()
    assert event.startswith(b"data: {")
    assert event.count(b"\n") == 2
    assert event.endswith(b"\n\n")
