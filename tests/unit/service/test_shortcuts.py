"""Shortcuts of the hot path: what they find is what the whole way would have found, or they step aside."""

import json

import httptools
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tenantry_service.proxy import framing
from tenantry_service.proxy.alike import learn
from tenantry_service.proxy.chat_stream import ChatStreamMeter
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


texts = st.text(st.sampled_from('ab "\\{}\u00e9\u20ac\u2028\n\r'), max_size=6)


def chat_event(text: str, padding: str | None, usage: bool, ascii_only: bool) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": None}
    chunk: dict[str, object] = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [choice]}
    if usage:
        chunk["usage"] = None
    if padding is not None:
        chunk["obfuscation"] = padding
    return b"data: " + json.dumps(chunk, separators=(",", ":"), ensure_ascii=ascii_only).encode() + b"\n\n"


@given(st.lists(st.tuples(texts, st.none() | texts, st.booleans(), st.booleans()), max_size=12))
@example([("word", None, True, True), (" more", None, True, True), ("\n", None, True, True)])
@example([("word", "abc", True, True), ('"}', "x", True, True), ("", None, True, False)])
def test_events_that_differ_by_their_text_count_as_if_each_were_decoded(
    events: list[tuple[str, str | None, bool, bool]],
) -> None:
    meter = ChatStreamMeter()
    stream = [chat_event(*event) for event in events]
    assert b"".join(meter.feed(event) for event in stream) == b"".join(stream)
    said = [text.encode() for text, *_ in events if text]
    assert (meter.deltas, meter._bytes) == (len(said), sum(map(len, said)))


@pytest.mark.parametrize("padding", [None, "xYz"])
def test_the_second_event_of_a_stream_is_recognised_and_usage_never_is(padding: str | None) -> None:
    alike = learn(chat_event("word", padding, True, True), "word")
    assert alike is not None
    assert alike.text_size(chat_event(" and more", padding, True, True)) == 9
    with_usage = chat_event("x", None, True, True).replace(b"null}\n", b'{"prompt_tokens":1,"completion_tokens":1}}\n')
    assert alike.text_size(with_usage) == -1
    assert alike.text_size(chat_event("x", padding, True, True) * 2) == -1
    assert alike.text_size(chat_event("x", padding, True, True)[:-1]) == -1
