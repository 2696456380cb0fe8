"""Event streams other than chat's: what they used, and how they end."""

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tenantry_service import errors
from tenantry_service.pricing import Usage
from tenantry_service.proxy.events import TypedStreamMeter
from tenantry_service.proxy.sse import HELD_BYTES


def event(kind: str, **fields: object) -> bytes:
    return f"event: {kind}\ndata: ".encode() + json.dumps({"type": kind, **fields}).encode() + b"\n\n"


USED = {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10}
RESPONSE = [
    event("response.created", response={"id": "r", "usage": None}, sequence_number=0),
    event("response.output_text.delta", delta="Hello", sequence_number=1),
    event("response.output_text.delta", delta=" world, \u20ac", sequence_number=2),
    event("response.completed", response={"id": "r", "usage": USED}, sequence_number=3),
]
STREAMS = {
    "response": RESPONSE,
    "incomplete response": [*RESPONSE[:3], event("response.incomplete", response={"usage": USED})],
    "image": [event("image_generation.partial_image", b64_json="AAAA"), event("image_edit.completed", usage=USED)],
    "large image": [event("image_generation.completed", b64_json="A" * 300_000, usage=USED)],
    "speech": [event("speech.audio.delta", audio="AAAA"), event("speech.audio.done", usage=USED)],
    "transcript": [event("transcript.text.delta", delta="Hi"), event("transcript.text.done", text="Hi", usage=USED)],
}


@pytest.mark.parametrize("name", STREAMS)
@settings(deadline=None)
@given(cuts=st.lists(st.integers(0, 10**6), max_size=6))
def test_every_stream_passes_unchanged_and_says_what_it_used_however_it_is_cut(name: str, cuts: list[int]) -> None:
    whole = b"".join(STREAMS[name])
    edges = [0, *sorted(cut % (len(whole) + 1) for cut in cuts), len(whole)]
    meter = TypedStreamMeter()
    passed = b"".join(meter.feed(whole[start:stop]) for start, stop in itertools.pairwise(edges))
    assert passed + meter.finish() == whole
    assert meter.usage == Usage(7, 3)
    assert json.loads(meter.raw_usage or b"") == USED
    assert (meter.done, meter.failed) == (True, False)


def test_what_is_not_said_is_counted() -> None:
    meter = TypedStreamMeter()
    meter.feed(b"".join(RESPONSE[:3]))
    assert (meter.usage, meter.done, meter.deltas) == (None, False, 2)
    assert 2 <= meter.counted_output <= 6


@pytest.mark.parametrize(
    "last",
    [
        event("response.failed", response={"usage": None, "error": {"code": "server_error"}}),
        event("error", code="server_error", message="no"),
        b'data: {"error":{"message":"no"}}\n\n',
    ],
)
def test_a_stream_says_that_it_failed(last: bytes) -> None:
    meter = TypedStreamMeter()
    meter.feed(RESPONSE[0] + last)
    assert meter.failed


def test_an_event_of_ours_goes_on_counting_and_reads_both_ways() -> None:
    meter = TypedStreamMeter()
    meter.feed(b"".join(RESPONSE[:3]) + RESPONSE[3][:20])
    ending = meter.abort() + meter.error_event(errors.UPSTREAM_STALLED)
    name, data = ending.removesuffix(b"\n\n").split(b"\n")
    said = json.loads(data.removeprefix(b"data: "))
    assert (name, said["type"], said["sequence_number"]) == (b"event: error", "error", 3)
    assert said["message"] == said["error"]["message"] == errors.UPSTREAM_STALLED.message


def test_an_event_of_ours_after_half_a_large_one_stands_on_clean_ground() -> None:
    meter = TypedStreamMeter()
    assert not meter.feed(STREAMS["large image"][0][: HELD_BYTES // 2])
    held = meter.between_events
    meter.feed(STREAMS["large image"][0][HELD_BYTES // 2 : HELD_BYTES + 10])
    assert (held, meter.between_events) == (True, False)
    assert meter.abort() == b"\n\n"


@settings(deadline=None)
@given(st.binary(max_size=400))
def test_no_bytes_make_the_meter_fail(data: bytes) -> None:
    meter = TypedStreamMeter()
    assert meter.feed(data) + meter.finish() == data
