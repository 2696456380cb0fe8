"""Heads that the activator reads, and streams that begin before there is a pod. Pure."""

import pytest
from tenantry_service.activator.request import MalformedError, parse, wants_stream
from tenantry_service.activator.telling import Telling
from tenantry_service.activator.waiting import Waiting


def test_a_head_goes_on_as_it_came_for_one_request() -> None:
    head = parse(
        b"POST /v1/chat/completions?a=b HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\nAuthorization: B k\r\n\r\n"
    )
    assert (head.method, head.path, head.authorization, head.upgrades) == (
        b"POST",
        b"/v1/chat/completions",
        b"B k",
        False,
    )
    assert head.onward == (
        b"POST /v1/chat/completions?a=b HTTP/1.1\r\nHost: x\r\nAuthorization: B k\r\nconnection: close\r\n\r\n"
    )


def test_a_websocket_stays_one() -> None:
    head = parse(b"GET /v1/realtime HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert head.upgrades
    assert head.onward.endswith(b"Upgrade: websocket\r\nconnection: upgrade\r\n\r\n")


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"GET /v1/models HTTP/2.0\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\n folded: line\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nname : value\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\na: b\nauthorization: Bearer x\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nauthorization: a\r\nAuthorization: b\r\n\r\n",
    ],
)
def test_what_two_readers_could_read_in_two_ways_is_refused(sent: bytes) -> None:
    with pytest.raises(MalformedError):
        parse(sent)


def test_a_stream_is_told_by_its_field_and_not_by_a_text_about_one() -> None:
    assert wants_stream(b'{"model": "m", "stream" : true, "messages": [')
    assert not wants_stream(b'{"stream": false, "messages": [{"content": "say \\"stream\\": true"}]}')


def test_a_pods_stream_goes_on_without_its_frames() -> None:
    telling = Telling()
    head = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    out = telling.feed(head + b"9\r\ndata: 1\n\n\r\n") + telling.feed(b"9\r\ndata: 2\n\n\r\n0\r\n\r\n") + telling.end()
    assert out == b"data: 1\n\ndata: 2\n\n"


def test_a_pods_error_becomes_an_event() -> None:
    telling = Telling()
    body = b'{"error":\n {"message": "no"}}'
    out = telling.feed(b"HTTP/1.1 429 \r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)) + telling.end()
    assert out == b'data: {"error": {"message": "no"}}\n\n'


@pytest.mark.parametrize(
    "sent", [b"", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nda", b"nonsense\r\n"]
)
def test_an_answer_that_breaks_off_ends_in_an_event(sent: bytes) -> None:
    telling = Telling()
    out = telling.feed(sent) + telling.end()
    assert out.count(b'data: {"error":') == 1


def test_the_first_of_an_awakening_is_the_cold_start() -> None:
    called: list[int] = []
    waiting = Waiting(10, 2, lambda: called.append(1))
    assert waiting.enter("acme", 1.0)
    assert waiting.enter("acme", 2.0)
    assert not waiting.enter("acme", 2.0)
    assert (waiting.total, waiting.refused, len(called)) == (2, 1, 1)
    waiting.leave("acme", 2.0, 4.0, served=True)
    waiting.leave("acme", 1.0, 5.0, served=True)
    assert waiting.tenants() == ()
    assert (waiting.cold_start.total, waiting.held.total) == (3.0, 6.0)
    assert waiting.enter("acme", 9.0)
    assert len(called) == 2
