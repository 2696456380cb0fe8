"""Accounting of chat streams: the same bytes and the same figures however the network cuts them."""

import json
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from tenantry_service.pricing import Usage
from tenantry_service.proxy.chat_stream import ChatStreamMeter
from tenantry_service.proxy.sse import HELD_BYTES

USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 2}}


def event(payload: object, line_end: bytes = b"\n") -> bytes:
    return b"data: " + json.dumps(payload).encode() + line_end * 2


def chunk(text: str | None, usage: object = None) -> dict[str, object]:
    choices = [] if text is None else [{"index": 0, "delta": {"content": text}}]
    return {"choices": choices, "usage": usage}


texts = st.text(max_size=12)
line_ends = st.sampled_from([b"\n", b"\r\n", b"\r"])
events = st.one_of(
    st.builds(lambda text, end: event(chunk(text), end), texts, line_ends),
    st.builds(lambda end: event(chunk(None, USAGE), end), line_ends),
    st.builds(lambda end: b": comment" + end * 2, line_ends),
    st.builds(lambda end: b"data: [DONE]" + end * 2, line_ends),
    st.builds(lambda end: b'event: x\ndata: {"choices":' + end + b"data: []}" + end * 2, line_ends),
    st.sampled_from([b"\n", b"\r\n", b"data: not json\n\n", b"data\n\n", b"id: 1\n\n"]),
    st.binary(max_size=20),
)
streams = st.lists(events, max_size=12).map(b"".join)


def run(pieces: list[bytes], *, strip: bool) -> tuple[bytes, ChatStreamMeter]:
    meter = ChatStreamMeter(strip_usage=strip)
    out = [meter.feed(piece) for piece in pieces]
    return b"".join(out) + meter.finish(), meter


def figures(meter: ChatStreamMeter) -> tuple[object, ...]:
    return meter.usage, meter.raw_usage, meter.deltas, meter.counted_output, meter.done


def cut(stream: bytes, points: list[int]) -> list[bytes]:
    edges = [0, *sorted(point % (len(stream) + 1) for point in points), len(stream)]
    return [stream[a:b] for a, b in pairwise(edges) if a < b]


@settings(max_examples=400)
@given(streams, st.lists(st.integers(0, 10_000), max_size=20), st.booleans())
def test_any_cut_gives_the_same_bytes_and_the_same_figures(stream: bytes, points: list[int], strip: bool) -> None:
    whole_out, whole = run([stream], strip=strip)
    cut_out, in_pieces = run(cut(stream, points), strip=strip)
    assert cut_out == whole_out
    assert figures(in_pieces) == figures(whole)


@given(streams, st.lists(st.integers(0, 10_000), max_size=20))
def test_without_stripping_every_byte_passes(stream: bytes, points: list[int]) -> None:
    assert run(cut(stream, points), strip=False)[0] == stream


@given(st.lists(texts, max_size=8), st.lists(st.integers(0, 10_000), max_size=20), line_ends)
def test_stripping_takes_the_usage_chunk_and_nothing_else(words: list[str], points: list[int], line_end: bytes) -> None:
    visible = [event(chunk(word), line_end) for word in words]
    done = b"data: [DONE]" + line_end * 2
    stream = b"".join(visible) + event(chunk(None, USAGE), line_end) + done
    out, meter = run(cut(stream, points), strip=True)
    assert out == b"".join(visible) + done
    assert meter.usage == Usage(input=9, output=4, cached_input=2)
    assert meter.done


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 3 * HELD_BYTES), max_size=6), st.sampled_from([-5, -1, 0, 1, 2, HELD_BYTES]))
def test_an_event_too_large_to_hold_passes_unread_however_it_is_cut(points: list[int], beyond: int) -> None:
    frame = len(event(chunk("")))
    large = event(chunk("x" * (HELD_BYTES - frame + beyond)))
    stream = event(chunk("a")) + large + event(chunk(None, USAGE))
    whole_out, whole = run([stream], strip=True)
    cut_out, in_pieces = run(cut(stream, points), strip=True)
    assert cut_out == whole_out == event(chunk("a")) + large
    assert figures(in_pieces) == figures(whole)
    assert whole.usage is not None


def test_what_is_held_is_bounded() -> None:
    meter = ChatStreamMeter(strip_usage=True)
    passed = sum(len(meter.feed(b"x" * 1000)) for _ in range(2 * HELD_BYTES // 1000))
    assert passed > HELD_BYTES


def test_an_event_waits_for_its_end_and_leaves_with_it() -> None:
    meter = ChatStreamMeter(strip_usage=False)
    whole = event(chunk("hi"))
    assert meter.feed(whole[:-1]) == b""
    assert meter.feed(whole[-1:]) == whole


def test_tokens_are_counted_by_events_and_by_text() -> None:
    _, single = run([event(chunk("a")) * 3], strip=False)
    assert single.counted_output == 3
    _, packed = run([event(chunk("x" * 41))], strip=False)
    assert packed.counted_output == 11
    _, silent = run([event({"choices": [{"delta": {"role": "assistant", "content": ""}}]})], strip=False)
    assert silent.counted_output == 0


def test_an_end_of_ours_stands_on_clean_ground() -> None:
    meter = ChatStreamMeter(strip_usage=False)
    meter.feed(b'data: {"half')
    assert meter.abort() == b""
    large = ChatStreamMeter(strip_usage=False)
    large.feed(b"data: " + b"x" * (HELD_BYTES + 1))
    assert large.abort() == b"\n\n"
