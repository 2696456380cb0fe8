"""What each endpoint's answer costs by the table as it is, to the nano-dollar, from the bytes of the answer on."""

import json
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tenantry_service import price_table, pricing
from tenantry_service.policy import Rates
from tenantry_service.pricing import Usage
from tenantry_service.proxy.chat_stream import ChatStreamMeter
from tenantry_service.proxy.events import TypedStreamMeter
from tenantry_service.proxy.usage import AnswerMeter

CHAT = {
    "prompt_tokens": 1000,
    "completion_tokens": 300,
    "prompt_tokens_details": {"cached_tokens": 512, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 128, "audio_tokens": 0},
}
RESPONSE = {
    "input_tokens": 2000,
    "input_tokens_details": {"cached_tokens": 1024},
    "output_tokens": 800,
    "output_tokens_details": {"reasoning_tokens": 512},
}


@pytest.mark.parametrize(
    ("model", "answer", "nano_usd"),
    [
        # Chat: cached tokens are inside the prompt's, reasoning tokens inside the completion's.
        ("gpt-4o-mini", {"usage": CHAT}, 488 * 150 + 512 * 75 + 300 * 600),
        ("gpt-4o-mini", {"usage": CHAT, "service_tier": "default"}, 488 * 150 + 512 * 75 + 300 * 600),
        ("gpt-4o-mini", {"usage": CHAT, "service_tier": "priority"}, 488 * 250 + 512 * 125 + 300 * 1000),
        ("gpt-4o-mini", {"usage": CHAT, "service_tier": None}, 488 * 150 + 512 * 75 + 300 * 600),
        ("gpt-4o-mini", {"usage": CHAT, "service_tier": 7}, 488 * 150 + 512 * 75 + 300 * 600),
        ("gpt-4o-2024-11-20", {"usage": CHAT, "service_tier": "batch"}, 1000 * 1250 + 300 * 5000),
        (
            "gpt-4o-audio-preview",
            {
                "usage": {
                    "prompt_tokens": 120,
                    "completion_tokens": 90,
                    "prompt_tokens_details": {"audio_tokens": 100},
                    "completion_tokens_details": {"audio_tokens": 70},
                }
            },
            20 * 2500 + 100 * 40_000 + 20 * 10_000 + 70 * 80_000,
        ),
        # Responses.
        ("gpt-5", {"usage": RESPONSE}, 976 * 1250 + 1024 * 125 + 800 * 10_000),
        ("gpt-5", {"usage": RESPONSE, "service_tier": "flex"}, 976 * 625 + 1024 * 62.5 + 800 * 5000),
        # Embeddings.
        ("text-embedding-3-small", {"usage": {"prompt_tokens": 1000, "total_tokens": 1000}}, 1000 * 20),
        # Images.
        (
            "gpt-image-1",
            {
                "usage": {
                    "input_tokens": 50,
                    "input_tokens_details": {"text_tokens": 30, "image_tokens": 20},
                    "output_tokens": 4160,
                }
            },
            30 * 5000 + 20 * 10_000 + 4160 * 40_000,
        ),
        # Transcriptions: by tokens, by length.
        (
            "gpt-4o-transcribe",
            {
                "usage": {
                    "type": "tokens",
                    "input_tokens": 14,
                    "input_token_details": {"text_tokens": 0, "audio_tokens": 14},
                    "output_tokens": 101,
                }
            },
            14 * 6000 + 101 * 10_000,
        ),
        ("whisper-1", {"usage": {"type": "duration", "seconds": 30}}, 3_000_000),
        # A model that nobody has priced costs what gpt-4o costs.
        ("somebody-s-model", {"usage": {"prompt_tokens": 10, "completion_tokens": 1}}, 10 * 2500 + 10_000),
    ],
)
def test_an_answer_costs(model: str, answer: object, nano_usd: int) -> None:
    meter = AnswerMeter()
    meter.feed(json.dumps(answer).encode())
    found = meter.finish()
    assert found is not None
    assert pricing.price(found[0], pricing.find(model, {}).rates) == nano_usd


def test_a_realtime_turn_costs() -> None:
    turn = Usage(input=100, cached_input=20, audio_input=60, output=50, audio_output=40)
    rates = pricing.find("gpt-4o-realtime-preview-2025-06-03", {}).rates
    assert pricing.price(turn, rates) == 20 * 5000 + 20 * 2500 + 60 * 40_000 + 10 * 20_000 + 40 * 80_000


def test_a_million_characters_of_speech_cost_fifteen_dollars() -> None:
    # A token is counted for three bytes of the request (body.py).
    assert pricing.price(Usage(input=1_000_000 // 3 + 1), pricing.find("tts-1", {}).rates) == 15_000_030_000


def test_a_chat_stream_says_its_tier_in_its_chunks() -> None:
    meter = ChatStreamMeter()
    chunk = {"choices": [], "service_tier": "priority", "usage": CHAT}
    meter.feed(f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode())
    assert meter.usage is not None
    assert pricing.price(meter.usage, pricing.find("gpt-4o", {}).rates) == 488 * 4250 + 512 * 2125 + 300 * 17_000


def test_a_stream_of_responses_says_its_tier_in_the_last_event() -> None:
    meter = TypedStreamMeter()
    said = {"type": "response.completed", "response": {"usage": RESPONSE, "service_tier": "flex"}}
    meter.feed(f"event: response.completed\ndata: {json.dumps(said)}\n\n".encode())
    assert meter.usage is not None
    assert meter.usage.tier == "flex"


def test_a_long_input_costs_what_the_policy_says_of_long_ones() -> None:
    long = Rates(input=4000, output=15_000)
    rates = Rates(
        input=2000,
        output=10_000,
        long_context=long,
        long_context_above=200_000,
        tiers={"batch": Rates(input=1, output=1)},
    )
    assert pricing.price(Usage(input=200_000, output=100), rates) == 200 * 2 + 1
    assert pricing.price(Usage(input=200_001, output=100), rates) == 802
    assert pricing.price(Usage(input=1_000_000, tier="batch"), rates) == 1
    assert pricing.of_rates(rates, 1, known=True, capped=True).dearest_output == 15_000


@given(
    st.sampled_from(sorted(price_table.TEXT)),
    st.sampled_from(["", "default", "flex", "priority", "batch", "scale"]),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.data(),
)
def test_no_tier_and_no_kind_of_token_costs_more_than_was_reserved(
    model: str, tier: str, into: int, out: int, data: st.DataObject
) -> None:
    cached = data.draw(st.integers(0, into))
    audio = data.draw(st.integers(0, into - cached))
    image = data.draw(st.integers(0, into - cached - audio))
    drawn = data.draw(st.integers(0, out))
    used = Usage(into, out, cached, 0, audio, 0, 0, image, drawn, tier)
    price = pricing.find(model, {})
    assert pricing.price(used, price.rates) <= pricing.worst_case(into, out, price)


def test_every_row_says_where_it_is_from_and_of_which_day() -> None:
    for *_, source in price_table.TEXT.values():
        assert source.url.startswith("https://")
        assert date.fromisoformat(source.as_of) <= date.fromisoformat(price_table.VERSION.removeprefix("openai-"))


@pytest.mark.parametrize(
    ("tier", "into", "nano_usd"),
    [
        ("", 272_000, 272_000 * 2500 + 15_000),
        ("", 272_001, 272_001 * 5000 + 22_500),
        ("flex", 272_001, 272_001 * 2500 + 11_250),
        ("priority", 272_001, 272_001 * 5000 + 30_000),
    ],
)
def test_a_long_input_costs_more_for_all_of_its_request(tier: str, into: int, nano_usd: int) -> None:
    assert pricing.price(Usage(into, 1, tier=tier), pricing.find("gpt-5.4", {}).rates) == nano_usd


def test_every_model_of_the_other_tables_is_in_the_first() -> None:
    assert price_table.LONG_CONTEXT.keys() <= price_table.TEXT.keys()
    assert price_table.OTHER_KINDS.keys() <= price_table.TEXT.keys()
    for prices in price_table.TIERS.values():
        assert prices.keys() <= price_table.TEXT.keys()
