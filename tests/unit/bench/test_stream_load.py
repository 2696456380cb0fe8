"""The load of streams notices every chunk that is lost, doubled or out of place, however the bytes are cut."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench.proxy.chat import (
    DONE_EVENT,
    MARK,
    MARK_BYTES,
    Wish,
    asks_for_usage,
    chunk_event,
    stream_request,
    wish_of,
)
from tests.bench.proxy.sse_upstream import Streamer
from tests.bench.proxy.stream_load import Load, Tally, percentile, report, run

SENT_NS = 1_000_000


def taken(*pieces: bytes) -> Tally:
    tally = Tally(asked_ns=0)
    for piece in pieces:
        tally.take(piece, SENT_NS + 5_000)
    return tally


def events(*numbers: int) -> bytes:
    return b"".join(chunk_event(number, SENT_NS) for number in numbers)


@given(st.data())
def test_cuts_between_reads_change_nothing(data: st.DataObject) -> None:
    text = events(0, 1, 2, 3) + DONE_EVENT
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    tally = taken(*(text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)))
    assert (len(tally.delays_us), tally.misplaced, tally.done) == (4, 0, True)
    assert tally.first_us == 1005
    assert set(tally.delays_us) == {5}


@pytest.mark.parametrize(
    ("numbers", "lost", "misplaced"),
    [((0, 1, 2), 0, 0), ((0, 2), 1, 1), ((0, 2, 1), 0, 2), ((0, 1, 1), 0, 1), ((), 3, 0)],
)
def test_losses_and_disorder_are_counted(numbers: tuple[int, ...], lost: int, misplaced: int) -> None:
    told = report([taken(events(*numbers))], Wish(3, 5), streams=1)
    assert (told.lost, told.misplaced, told.failed) == (lost, misplaced, 1)


def test_a_stream_that_never_began_has_lost_all_its_chunks() -> None:
    told = report([taken(events(0, 1) + DONE_EVENT)], Wish(2, 5), streams=3)
    assert (told.lost, told.failed) == (4, 2)


@pytest.mark.parametrize(("percent", "value"), [(50, 50), (99, 99), (100, 100)])
def test_percentile_is_the_nearest_rank(percent: int, value: int) -> None:
    assert percentile(list(range(100, 0, -1)), percent) == value


def test_percentile_of_nothing_is_zero() -> None:
    assert percentile([], 99) == 0


def test_the_longest_mark_fits_into_what_is_kept_of_a_read() -> None:
    longest = MARK.search(chunk_event(999_999, 2**64 - 1))
    assert longest is not None
    assert len(longest[0]) <= MARK_BYTES


def test_the_upstream_understands_what_the_load_asks_for() -> None:
    assert wish_of(stream_request("m", Wish(300, 5)).encode()) == Wish(300, 5)
    assert wish_of(b"{}") == Wish(1, 0)


@pytest.mark.parametrize("body", [b'{"stream_options":{"include_usage":true}}', b'{"x": {"include_usage": true}}'])
def test_a_wish_for_usage_is_seen_with_and_without_spaces(body: bytes) -> None:
    assert asks_for_usage(body)
    assert not asks_for_usage(body.replace(b"true", b"false"))


async def test_upstream_and_load_agree_on_every_chunk() -> None:
    server = await asyncio.get_running_loop().create_server(Streamer, "127.0.0.1", 0)
    async with server:
        load = Load(
            port=server.sockets[0].getsockname()[1],
            path="/v1/x",
            model="m",
            key="k",
            streams=6,
            concurrency=3,
            chunks=4,
            gap_ms=1,
            ramp=0.0,
            timeout=60,
        )
        told = await run(load)
    assert (told.chunks, told.lost, told.misplaced, told.failed) == (24, 0, 0, 0)
