"""Requests taken apart: a head that is recognised must mean what the parser would have found."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tenantry_service import errors
from tenantry_service.errors import ApiError
from tenantry_service.proxy import known_head
from tenantry_service.proxy.incoming import Incoming, Requests
from tenantry_service.proxy.messages import RequestHead

from tests.unit.service.playbook import KEY


class Told:
    """A reader that writes down what it is told."""

    def __init__(self) -> None:
        self.requests: list[Incoming] = []
        self.bodies: list[bytes] = []
        self.failed = False

    def on_incoming(self, incoming: Incoming) -> ApiError | None:
        self.requests.append(incoming)
        return None

    def on_incoming_body(self, incoming: Incoming, data: bytes) -> None:
        incoming.body.append(data)

    def on_incoming_complete(self, incoming: Incoming) -> None:
        self.bodies.append(b"".join(incoming.body))

    def on_websocket(self, head: RequestHead, rest: bytes) -> ApiError | None:
        return errors.malformed("no")

    def on_internal_error(self) -> None:
        self.failed = True

    def story(self) -> list[object]:
        assert not self.failed
        # The length that a head declares is not remembered with it: the whole body is there.
        return [
            [[header for header in i.head.headers if header[0] != b"content-length"] for i in self.requests],
            [(i.head.method, i.head.path, i.head.query, i.head.lines, i.manner.keep_alive) for i in self.requests],
            self.bodies,
        ]


def message(body: bytes, length: bytes | None = None, *more: bytes, name: bytes = b"Content-Length") -> bytes:
    declared = b"%d" % len(body) if length is None else length
    lines = [b"POST /v1/x?y HTTP/1.1", b"Host: h", name + b": " + declared, *more, b"Authorization: Bearer k"]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def read(*reads: bytes, remember: bool = True) -> tuple[list[object], bool]:
    told = Told()
    requests = Requests(told)
    for data in reads:
        if not remember:
            requests._known = None
        requests.feed(data)
    return told.story(), requests.error is None


READS = st.one_of(
    st.binary(max_size=30).map(message),
    st.builds(
        message,
        st.binary(max_size=8),
        st.sampled_from([b"0", b"3", b"08", b"+3", b"3 ", b" 3", b"-1", b"", b"9" * 20, b"3\r\nContent-Length: 3"]),
    ),
    st.binary(max_size=8).map(lambda body: message(body, None, b"Transfer-Encoding: chunked")),
    st.binary(max_size=8).map(lambda body: message(body, None, b"Connection: close")),
    st.binary(max_size=8).map(lambda body: message(body, None, b"Upgrade: h2c", b"Connection: upgrade")),
    st.binary(max_size=8).map(lambda body: message(body, name=b"CONTENT-LENGTH")),
    st.tuples(st.binary(max_size=8), st.binary(max_size=8)).map(lambda two: message(two[0]) + message(two[1])),
    st.tuples(st.binary(max_size=40), st.integers(0, 140)).map(lambda cut: message(cut[0])[: cut[1]]),
    st.binary(max_size=40),
    st.just(b"\r\n" + message(b"abc")),
)


@given(st.lists(READS, max_size=6))
def test_what_is_recognised_is_what_the_parser_finds(reads: list[bytes]) -> None:
    assert read(*reads) == read(*reads, remember=False)


def test_a_head_that_comes_again_is_recognised_whatever_its_length() -> None:
    told = Told()
    requests = Requests(told)
    for body in (b"one", b"another", b""):
        requests.feed(message(body))
    first, second, third = told.requests
    # Not only equal: what was made of it once is used again.
    assert second.head is third.head
    assert second.head.bearer is first.head.bearer
    assert told.bodies == [b"one", b"another", b""]


@pytest.mark.parametrize(
    "data",
    [
        message(b"four", b"3"),
        message(b"four", b"5"),
        message(b"four", b"4 "),
        message(b"four", b""),
        message(b"four", b"00000004"),
        message(b"four", b"\xb2"),
        message(b"four") + b"G",
        message(b"four").replace(b"Bearer k", b"Bearer K"),
        message(b"four").replace(b"/v1/x", b"/v1/z"),
        message(b"four")[:-1],
        b"",
    ],
)
def test_one_byte_more_less_or_other_is_not_recognised(data: bytes) -> None:
    known = known_head.learn("head", message(b"abc"), b"abc")
    assert known is not None
    assert known.body_start(message(b"four")) > 0
    assert known.body_start(data) == 0


def test_nothing_is_remembered_of_what_the_parser_read_in_another_way() -> None:
    """As with an interim answer before the real one: the first blank line is not where the body begins."""
    assert known_head.learn("head", message(message(b"abc")), b"abc") is None
    assert known_head.learn("head", message(b"", None, b"X-Long: " + KEY.encode() * 99), b"") is None


def test_many_offers_of_another_protocol_in_one_read_are_as_many_requests() -> None:
    offer = b"GET /v1/x HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n"
    told = Told()
    Requests(told).feed(offer * 2000)
    assert len(told.bodies) == 2000


def test_an_offer_of_another_protocol_does_not_undo_what_else_the_head_says_of_its_connection() -> None:
    told = Told()
    Requests(told).feed(b"GET /v1/x HTTP/1.1\r\nHost: h\r\nConnection: upgrade, close\r\nUpgrade: h2c\r\n\r\n")
    assert not told.requests[0].manner.keep_alive
