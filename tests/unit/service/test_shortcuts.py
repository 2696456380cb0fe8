"""Shortcuts of the hot path: what they find is what the whole way would have found, or they step aside."""

import httptools
from hypothesis import example, given
from hypothesis import strategies as st
from tenantry_service.proxy import framing
from tenantry_service.proxy.framing import chunk, chunk_body


class Parsed:
    """What llhttp makes of a chunk."""

    def __init__(self, data: bytes) -> None:
        self.body: list[bytes] = []
        self.ended = 0
        parser = httptools.HttpResponseParser(self)
        parser.feed_data(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        parser.feed_data(data)

    def on_body(self, data: bytes) -> None:
        self.body.append(data)

    def on_chunk_complete(self) -> None:
        self.ended += 1


@given(st.one_of(st.binary(max_size=40), st.lists(st.binary(max_size=9), max_size=3).map(b"\r\n".join)), st.booleans())
def test_one_chunk_is_taken_apart_as_the_parser_does_it(content: bytes, last: bool) -> None:
    data = chunk(content, last=last)
    found = chunk_body(data)
    assert found == (b"" if last else content)
    if found:
        parsed = Parsed(data)
        assert (b"".join(parsed.body), parsed.ended) == (found, 1)


@given(
    st.binary(max_size=12),
    st.sampled_from([b"", b"0", b"5", b"a", b"+5", b" 5", b"0x5", b"5;e=1", b"00000005", b"5_0"]),
)
@example(b"abc\r\n", b"5")
def test_whatever_is_no_plain_chunk_is_left_to_the_parser(rest: bytes, line: bytes) -> None:
    data = line + b"\r\n" + rest
    found = chunk_body(data)
    if found:
        parsed = Parsed(data)
        assert (b"".join(parsed.body), parsed.ended) == (found, 1)


def test_what_is_remembered_of_sizes_is_bounded() -> None:
    for size in range(1, 5000):
        data = chunk(b"x" * size, last=False)
        assert len(chunk_body(data)) == size
    assert len(framing._SIZES) <= 2048
    assert len(framing._SIZE_LINES) <= 2048
