"""Prices as data: what OpenAI charges, per kind of token, service tier and length of the input.

USD per 1,000,000 tokens. A policy's ``prices`` replace or complete these. Every row names the list that it was taken
from, and the day of that list; what the other tables say of a model is from the same one. The earlier ones were held
against the later list: they agree wherever both have the model, but for the sound that the two models which transcribe
it read, which is cheaper there. A new list is a new VERSION: the ledger keeps it with every row.

What is not sold by the token is entered by the tokens that it is counted as: a minute of audio is 1,000 (usage.py), and
of a request's text a token is counted for three bytes (body.py), so that 1,000,000 characters are 333,333 tokens.
"""

from typing import NamedTuple


class Source(NamedTuple):
    """Where prices come from, and of which day that is (ISO 8601)."""

    url: str
    as_of: str


OPENAI = Source("https://openai.com/api/pricing", "2025-08-07")
#: Release 1.106.2 of its package, which keeps a list of what providers charge.
LITELLM = Source(
    "https://github.com/BerriAI/litellm/blob/main/model_prices_and_context_window.json",
    "2026-11-21",
)

VERSION = "openai-2026-11-21"

#: model: (input, cached input, output, most output tokens, where that is from)
TEXT: dict[str, tuple[str, str, str, int, Source]] = {
    "gpt-5": ("1.25", "0.125", "10.00", 128_000, OPENAI),
    "gpt-5-mini": ("0.25", "0.025", "2.00", 128_000, OPENAI),
    "gpt-5-nano": ("0.05", "0.005", "0.40", 128_000, OPENAI),
    "gpt-4.1": ("2.00", "0.50", "8.00", 32_768, OPENAI),
    "gpt-4.1-mini": ("0.40", "0.10", "1.60", 32_768, OPENAI),
    "gpt-4.1-nano": ("0.10", "0.025", "0.40", 32_768, OPENAI),
    "gpt-4o": ("2.50", "1.25", "10.00", 16_384, OPENAI),
    "gpt-4o-mini": ("0.15", "0.075", "0.60", 16_384, OPENAI),
    "gpt-4o-audio-preview": ("2.50", "2.50", "10.00", 16_384, OPENAI),
    "gpt-4o-mini-audio-preview": ("0.15", "0.15", "0.60", 16_384, OPENAI),
    "gpt-4o-realtime-preview": ("5.00", "2.50", "20.00", 4_096, OPENAI),
    "gpt-4o-mini-realtime-preview": ("0.60", "0.30", "2.40", 4_096, OPENAI),
    "gpt-4o-transcribe": ("2.50", "2.50", "10.00", 2_000, OPENAI),
    "gpt-4o-mini-transcribe": ("1.25", "1.25", "5.00", 2_000, OPENAI),
    "gpt-4o-mini-tts": ("0.60", "0.60", "12.00", 2_000, OPENAI),
    "gpt-image-1": ("5.00", "1.25", "40.00", 6_240, OPENAI),
    "o3": ("2.00", "0.50", "8.00", 100_000, OPENAI),
    "o3-mini": ("1.10", "0.55", "4.40", 100_000, OPENAI),
    "o4-mini": ("1.10", "0.275", "4.40", 100_000, OPENAI),
    "gpt-4-turbo": ("10.00", "10.00", "30.00", 4_096, OPENAI),
    "gpt-3.5-turbo": ("0.50", "0.50", "1.50", 4_096, OPENAI),
    "text-embedding-3-small": ("0.02", "0.02", "0.00", 0, OPENAI),
    "text-embedding-3-large": ("0.13", "0.13", "0.00", 0, OPENAI),
    "text-embedding-ada-002": ("0.10", "0.10", "0.00", 0, OPENAI),
    # 0.006 USD a minute.
    "whisper-1": ("6.00", "6.00", "0.00", 0, OPENAI),
    # 15 and 30 USD per 1,000,000 characters.
    "tts-1": ("45.00", "45.00", "0.00", 0, OPENAI),
    "tts-1-hd": ("90.00", "90.00", "0.00", 0, OPENAI),
    "gpt-5-codex": ("1.25", "0.125", "10.00", 128_000, LITELLM),
    "gpt-5-chat-latest": ("1.25", "0.125", "10.00", 16_384, LITELLM),
    "gpt-5-pro": ("15.00", "15.00", "120.00", 272_000, LITELLM),
    "gpt-5.1": ("1.25", "0.125", "10.00", 128_000, LITELLM),
    "gpt-5.1-codex": ("1.25", "0.125", "10.00", 128_000, LITELLM),
    "gpt-5.1-codex-mini": ("0.25", "0.025", "2.00", 128_000, LITELLM),
    "gpt-5.2": ("1.75", "0.175", "14.00", 128_000, LITELLM),
    "gpt-5.2-pro": ("21.00", "21.00", "168.00", 128_000, LITELLM),
    "gpt-5.4": ("2.50", "0.25", "15.00", 128_000, LITELLM),
    "gpt-5.4-mini": ("0.75", "0.075", "4.50", 128_000, LITELLM),
    "gpt-5.4-nano": ("0.20", "0.02", "1.25", 128_000, LITELLM),
    "gpt-5.5": ("5.00", "0.50", "30.00", 128_000, LITELLM),
    "gpt-audio": ("2.50", "2.50", "10.00", 16_384, LITELLM),
    "gpt-audio-mini": ("0.60", "0.60", "2.40", 16_384, LITELLM),
    "gpt-realtime": ("4.00", "0.40", "16.00", 4_096, LITELLM),
    "gpt-realtime-mini": ("0.60", "0.06", "2.40", 4_096, LITELLM),
    "gpt-image-1-mini": ("2.00", "0.20", "8.00", 6_240, LITELLM),
    "o1": ("15.00", "7.50", "60.00", 100_000, LITELLM),
    "o3-pro": ("20.00", "20.00", "80.00", 100_000, LITELLM),
    "gpt-4": ("30.00", "30.00", "60.00", 4_096, LITELLM),
}

#: Kinds of tokens that cost something else than text: model -> kind -> USD per 1,000,000.
OTHER_KINDS: dict[str, dict[str, str]] = {
    "gpt-4o-audio-preview": {"audio_input": "40.00", "audio_output": "80.00"},
    "gpt-4o-mini-audio-preview": {"audio_input": "10.00", "audio_output": "20.00"},
    "gpt-4o-realtime-preview": {"audio_input": "40.00", "audio_output": "80.00"},
    "gpt-4o-mini-realtime-preview": {"audio_input": "10.00", "audio_output": "20.00"},
    "gpt-4o-transcribe": {"audio_input": "6.00"},
    "gpt-4o-mini-transcribe": {"audio_input": "3.00"},
    "gpt-image-1": {"image_input": "10.00", "image_output": "40.00"},
    "gpt-image-1-mini": {"image_input": "2.50", "image_output": "8.00"},
    "gpt-audio": {"audio_input": "32.00", "audio_output": "64.00"},
    "gpt-audio-mini": {"audio_input": "10.00", "audio_output": "20.00"},
    "gpt-realtime": {"audio_input": "32.00", "audio_output": "64.00", "image_input": "5.00"},
    "gpt-realtime-mini": {"audio_input": "10.00", "audio_output": "20.00", "image_input": "0.80"},
}

#: Service tiers: tier -> model -> (input, cached input, output). What is not here costs the same in every tier.
TIERS: dict[str, dict[str, tuple[str, str, str]]] = {
    "flex": {
        "gpt-5": ("0.625", "0.0625", "5.00"),
        "gpt-5-mini": ("0.125", "0.0125", "1.00"),
        "gpt-5-nano": ("0.025", "0.0025", "0.20"),
        "o3": ("1.00", "0.25", "4.00"),
        "o4-mini": ("0.55", "0.138", "2.20"),
        "gpt-5.1": ("0.625", "0.0625", "5.00"),
        "gpt-5.2": ("0.875", "0.0875", "7.00"),
        "gpt-5.4": ("1.25", "0.13", "7.50"),
        "gpt-5.4-mini": ("0.375", "0.0375", "2.25"),
        "gpt-5.4-nano": ("0.10", "0.01", "0.625"),
        "gpt-5.5": ("2.50", "0.25", "15.00"),
    },
    "priority": {
        "gpt-5": ("2.50", "0.25", "20.00"),
        "gpt-5-mini": ("0.45", "0.045", "3.60"),
        "gpt-4.1": ("3.50", "0.875", "14.00"),
        "gpt-4.1-mini": ("0.70", "0.175", "2.80"),
        "gpt-4.1-nano": ("0.20", "0.05", "0.80"),
        "gpt-4o": ("4.25", "2.125", "17.00"),
        "gpt-4o-mini": ("0.25", "0.125", "1.00"),
        "o3": ("3.50", "0.875", "14.00"),
        "o4-mini": ("2.00", "0.50", "8.00"),
        "gpt-5.1": ("2.50", "0.25", "20.00"),
        "gpt-5.2": ("3.50", "0.35", "28.00"),
        "gpt-5.4": ("5.00", "0.50", "30.00"),
        "gpt-5.4-mini": ("1.50", "0.15", "9.00"),
        "gpt-5.5": ("12.50", "1.25", "75.00"),
    },
    "batch": {
        "gpt-5": ("0.625", "0.0625", "5.00"),
        "gpt-5-mini": ("0.125", "0.0125", "1.00"),
        "gpt-5-nano": ("0.025", "0.0025", "0.20"),
        "gpt-4.1": ("1.00", "0.50", "4.00"),
        "gpt-4.1-mini": ("0.20", "0.10", "0.80"),
        "gpt-4.1-nano": ("0.05", "0.025", "0.20"),
        "gpt-4o": ("1.25", "1.25", "5.00"),
        "gpt-4o-mini": ("0.075", "0.075", "0.30"),
        "o3": ("1.00", "0.50", "4.00"),
        "o4-mini": ("0.55", "0.275", "2.20"),
        "gpt-5.1": ("0.625", "0.0625", "5.00"),
        "gpt-5.2": ("0.875", "0.0875", "7.00"),
        "gpt-5.4": ("1.25", "0.13", "7.50"),
        "gpt-5.4-mini": ("0.375", "0.0375", "2.25"),
        "gpt-5.4-nano": ("0.10", "0.01", "0.625"),
        "gpt-5.5": ("2.50", "0.25", "15.00"),
        "gpt-5-pro": ("7.50", "7.50", "60.00"),
        "gpt-5.2-pro": ("10.50", "10.50", "84.00"),
        "o1": ("7.50", "7.50", "30.00"),
        "o3-pro": ("10.00", "10.00", "40.00"),
        "o3-mini": ("0.55", "0.55", "2.20"),
        "text-embedding-3-small": ("0.01", "0.01", "0.00"),
        "text-embedding-3-large": ("0.065", "0.065", "0.00"),
    },
}

#: Long inputs: model -> (input tokens beyond which it holds, then for each tier, "" for the usual one: input, cached
#: input, output). All of such a request costs this.
LONG_CONTEXT: dict[str, tuple[int, dict[str, tuple[str, str, str]]]] = {
    "gpt-5.4": (
        272_000,
        {
            "": ("5.00", "0.50", "22.50"),
            "flex": ("2.50", "0.25", "11.25"),
            "batch": ("2.50", "0.25", "11.25"),
        },
    ),
    "gpt-5.5": (
        272_000,
        {
            "": ("10.00", "1.00", "45.00"),
            "flex": ("5.00", "0.50", "22.50"),
            "batch": ("5.00", "0.50", "22.50"),
        },
    ),
}

#: What a model without a price costs while the policy says ChargeDefault: as much as gpt-4o, so that a forgotten entry
#: shows up on the bill instead of being free.
DEFAULT: tuple[str, str, str, int] = ("2.50", "1.25", "10.00", 128_000)
