"""Usage as OpenAI's endpoints spell it."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tenantry_service.pricing import Usage
from tenantry_service.proxy import usage
from tenantry_service.proxy.usage import TAIL_BYTES, WHOLE_BYTES, AnswerMeter

CHAT = {
    "prompt_tokens": 100,
    "completion_tokens": 50,
    "total_tokens": 150,
    "prompt_tokens_details": {"cached_tokens": 40, "audio_tokens": 3, "cache_write_tokens": 5},
    "completion_tokens_details": {"reasoning_tokens": 30, "audio_tokens": 2, "accepted_prediction_tokens": 0},
}
RESPONSES = {
    "input_tokens": 100,
    "input_tokens_details": {"cached_tokens": 40},
    "output_tokens": 50,
    "output_tokens_details": {"reasoning_tokens": 30},
}


@pytest.mark.parametrize(
    ("given_usage", "expected"),
    [
        (CHAT, Usage(100, 50, 40, 5, 3, 2, 30)),
        (RESPONSES, Usage(100, 50, 40, 0, 0, 0, 30)),
        ({"prompt_tokens": 8, "total_tokens": 8}, Usage(8)),
        ({"prompt_tokens": 8, "completion_tokens": None, "prompt_tokens_details": None}, Usage(8)),
        ({"prompt_tokens": -5, "completion_tokens": 1}, Usage(0, 1)),
        ({"prompt_tokens": 10**19, "completion_tokens": 1}, Usage(usage.MOST_TOKENS, 1)),
        ({}, None),
        ({"type": "duration", "seconds": 3}, Usage(50, audio_input=50)),
        ({"type": "duration", "seconds": 0.01}, Usage(1, audio_input=1)),
        ({"type": "duration", "seconds": -3}, None),
        ({"type": "duration", "seconds": 1e300}, None),
        ({"type": "duration"}, None),
        ({"input_tokens": 8, "output_tokens": 2, "input_token_details": {"audio_tokens": 5}}, Usage(8, 2, 0, 0, 5)),
        (
            {"input_tokens": 8, "output_tokens": 9, "input_tokens_details": {"text_tokens": 3, "image_tokens": 5}},
            Usage(8, 9, image_input=5),
        ),
        ({"prompt_tokens": "many"}, None),
        (None, None),
        ([], None),
    ],
)
def test_every_spelling_is_read(given_usage: object, expected: Usage | None) -> None:
    assert usage.parse(json.dumps(given_usage).encode()) == expected


@given(st.lists(st.integers(0, 10_000), max_size=6), st.integers(0, 3))
def test_an_answer_in_pieces_gives_the_same_usage(points: list[int], size: int) -> None:
    filler = ["", "x" * 100, "x" * WHOLE_BYTES, 'é"' * WHOLE_BYTES][size]
    answer = json.dumps({"choices": [filler], "usage": CHAT, "service_tier": "default"}).encode()
    edges = [0, *sorted(point % len(answer) for point in points), len(answer)]
    meter = AnswerMeter()
    for start, end in pairwise(edges):
        meter.feed(answer[start:end])
    found = meter.finish()
    assert found is not None
    assert found[0] == Usage(100, 50, 40, 5, 3, 2, 30, tier="default")
    assert json.loads(found[1]) == CHAT


def test_usage_far_from_the_end_of_a_huge_answer_is_not_guessed_at() -> None:
    answer = json.dumps({"usage": CHAT, "data": "x" * (WHOLE_BYTES + TAIL_BYTES)}).encode()
    meter = AnswerMeter()
    meter.feed(answer)
    assert meter.finish() is None


@pytest.mark.parametrize("answer", [b"", b"{", b"[]", b"null", b'{"usage":null}', b'{"usage":5}', b"\xff" * 9])
def test_an_answer_without_usage_has_none(answer: bytes) -> None:
    meter = AnswerMeter()
    meter.feed(answer)
    assert meter.finish() is None
