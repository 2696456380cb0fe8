"""Heads that may not pass."""

import pytest
from tenantry_service.errors import ApiError
from tenantry_service.proxy import request_head
from tenantry_service.proxy.messages import RequestHead

HOST = (b"host", b"x")


def build(
    *headers: tuple[bytes, bytes], url: bytes = b"/v1/models?a=b", version: str = "1.1"
) -> RequestHead | ApiError:
    return request_head.build(b"GET", url, list(headers), version)


def test_a_good_head_is_taken_apart() -> None:
    head = build(HOST, (b"content-length", b"12"), (b"expect", b"100-Continue"))
    assert isinstance(head, RequestHead)
    assert (head.path, head.query, head.content_length, head.expects_continue) == (b"/v1/models", b"a=b", 12, True)


def test_a_client_of_http_1_0_gets_no_interim_answer() -> None:
    head = build((b"content-length", b"12"), (b"expect", b"100-continue"), version="1.0")
    assert isinstance(head, RequestHead)
    assert not head.expects_continue


def test_a_chunked_body_has_no_length() -> None:
    head = build(HOST, (b"transfer-encoding", b"Chunked"))
    assert isinstance(head, RequestHead)
    assert head.content_length is None


@pytest.mark.parametrize(
    "headers",
    [
        [HOST, (b"content-length", b"1"), (b"transfer-encoding", b"chunked")],
        [HOST, (b"content-length", b"1"), (b"content-length", b"1")],
        [HOST, (b"content-length", b"+1")],
        [HOST, (b"content-length", b"")],
        [HOST, (b"transfer-encoding", b"gzip, chunked")],
        [HOST, (b"transfer-encoding", b"chunked"), (b"transfer-encoding", b"chunked")],
        [HOST, HOST],
        [],
    ],
)
def test_framing_that_two_servers_could_read_differently_is_refused(headers: list[tuple[bytes, bytes]]) -> None:
    found = build(*headers)
    assert isinstance(found, ApiError)
    assert found.status == 400


@pytest.mark.parametrize("url", [b"http://x/v1/models", b"*", b""])
def test_a_target_that_is_no_path_is_refused(url: bytes) -> None:
    assert isinstance(build(HOST, url=url), ApiError)


def test_other_versions_of_http_are_refused() -> None:
    assert isinstance(build(HOST, version="2.0"), ApiError)


@pytest.mark.parametrize(
    "headers", [[(b"x-%d" % index, b"") for index in range(101)], [(b"x", b"y" * request_head.MAX_HEAD_BYTES)]]
)
def test_too_many_or_too_large_headers_are_431(headers: list[tuple[bytes, bytes]]) -> None:
    found = build(HOST, *headers)
    assert isinstance(found, ApiError)
    assert found.status == 431
