"""WebSocket frames: seen as they are however they are cut, refused when they are none."""

import struct
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tenantry_service.proxy import frames
from tenantry_service.proxy.frames import MAX_FRAME_BYTES, SEEN_BYTES, CloseCode, FrameReader, frame

KEY = b"\x01\x02\x83\xff"


def fed(data: bytes, *cuts: int, masked: bool = False, hold: int = 0) -> FrameReader:
    reader = FrameReader(masked=masked, hold_bytes=hold)
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, stop in pairwise(edges):
        reader.feed(data[start:stop])
    return reader


def pieces(text: bytes, count: int, key: bytes) -> bytes:
    """A text message in several frames, with a ping between them."""
    size = -(-len(text) // count) or 1
    parts = [text[start : start + size] for start in range(0, len(text), size)] or [b""]
    out = b""
    for index, part in enumerate(parts):
        whole = bytearray(frame(0 if index else 1, part, key))
        if index < len(parts) - 1:
            whole[0] &= 0x7F
        out += bytes(whole) + frame(9, b"ping", key)
    return out


@settings(deadline=None)
@given(st.binary(max_size=400), st.integers(1, 5), st.booleans(), st.booleans(), st.lists(st.integers(0, 10**6)))
def test_messages_are_seen_and_bytes_pass_unchanged_however_they_are_cut(
    text: bytes, count: int, masked: bool, held: bool, cuts: list[int]
) -> None:
    wire = pieces(text, count, KEY if masked else b"") + frame(2, b"\x00binary", KEY if masked else b"")
    reader = fed(wire, *cuts, masked=masked, hold=10_000 if held else 0)
    passed, messages = reader.take()
    assert (reader.error, reader.between_frames) == (None, True)
    assert [message.payload for message in messages] == [text]
    if not held:
        assert b"".join(passed) == wire
    else:
        assert sorted(b"".join(passed) + messages[0].raw) == sorted(wire)
        assert fed(messages[0].raw, masked=masked).take()[1][0].payload == text


@settings(deadline=None)
@given(st.binary(max_size=300), st.booleans())
def test_no_bytes_make_the_reader_fail(data: bytes, masked: bool) -> None:
    fed(data, masked=masked)


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        (b"\xc1\x01a", CloseCode.PROTOCOL_ERROR),
        (b"\x83\x00", CloseCode.PROTOCOL_ERROR),
        (b"\x80\x01a", CloseCode.PROTOCOL_ERROR),
        (b"\x01\x01a\x81\x01b", CloseCode.PROTOCOL_ERROR),
        (b"\x09\x01a", CloseCode.PROTOCOL_ERROR),
        (b"\x89\x7e\x00\x80", CloseCode.PROTOCOL_ERROR),
        (frame(1, b"masked", KEY), CloseCode.PROTOCOL_ERROR),
        (b"\x81\x7f" + struct.pack("!Q", MAX_FRAME_BYTES + 1), CloseCode.TOO_BIG),
        (b"\x01\x00" + b"\x00\x00" * frames.MAX_FRAGMENTS, CloseCode.TOO_BIG),
    ],
)
def test_what_is_no_frame_ends_the_connection(wire: bytes, code: CloseCode) -> None:
    assert fed(wire).error is code


def test_a_client_must_mask_and_may_not_send_more_than_is_held() -> None:
    assert fed(frame(1, b"a"), masked=True).error is CloseCode.PROTOCOL_ERROR
    assert fed(frame(1, b"a" * 11, KEY), masked=True, hold=10).error is CloseCode.TOO_BIG


def test_of_a_large_message_both_ends_are_seen() -> None:
    text = b"<" + b"x" * (2 * SEEN_BYTES) + b">"
    (message,) = fed(frame(1, text), *range(0, len(text), 10_000)).take()[1]
    assert (message.payload, message.start[:1], message.end[-1:]) == (b"", b"<", b">")


def test_a_close_frame_is_seen_and_fits() -> None:
    reader = fed(frames.close(CloseCode.GOING_AWAY, "é" * 200))
    assert (reader.error, reader.closed) == (None, True)
