"""Prices as data: what OpenAI charges, per kind of token and service tier.

Source: https://openai.com/api/pricing and the model pages of https://platform.openai.com/docs/models, as of the date in
``VERSION``. USD per 1,000,000 tokens. A policy's ``prices`` replace or complete these. A new list is a new VERSION: the
ledger keeps it with every row.

What is not sold by the token is entered by the tokens that it is counted as: a minute of audio is 1,000 (usage.py), and
of a request's text a token is counted for three bytes (body.py), so that 1,000,000 characters are 333,333 tokens.
"""

VERSION = "openai-2025-08-07"

#: model: (input, cached input, output, most output tokens)
TEXT: dict[str, tuple[str, str, str, int]] = {
    "gpt-5": ("1.25", "0.125", "10.00", 128_000),
    "gpt-5-mini": ("0.25", "0.025", "2.00", 128_000),
    "gpt-5-nano": ("0.05", "0.005", "0.40", 128_000),
    "gpt-4.1": ("2.00", "0.50", "8.00", 32_768),
    "gpt-4.1-mini": ("0.40", "0.10", "1.60", 32_768),
    "gpt-4.1-nano": ("0.10", "0.025", "0.40", 32_768),
    "gpt-4o": ("2.50", "1.25", "10.00", 16_384),
    "gpt-4o-mini": ("0.15", "0.075", "0.60", 16_384),
    "gpt-4o-audio-preview": ("2.50", "2.50", "10.00", 16_384),
    "gpt-4o-mini-audio-preview": ("0.15", "0.15", "0.60", 16_384),
    "gpt-4o-realtime-preview": ("5.00", "2.50", "20.00", 4_096),
    "gpt-4o-mini-realtime-preview": ("0.60", "0.30", "2.40", 4_096),
    "gpt-4o-transcribe": ("2.50", "2.50", "10.00", 2_000),
    "gpt-4o-mini-transcribe": ("1.25", "1.25", "5.00", 2_000),
    "gpt-4o-mini-tts": ("0.60", "0.60", "12.00", 2_000),
    "gpt-image-1": ("5.00", "1.25", "40.00", 6_240),
    "o3": ("2.00", "0.50", "8.00", 100_000),
    "o3-mini": ("1.10", "0.55", "4.40", 100_000),
    "o4-mini": ("1.10", "0.275", "4.40", 100_000),
    "gpt-4-turbo": ("10.00", "10.00", "30.00", 4_096),
    "gpt-3.5-turbo": ("0.50", "0.50", "1.50", 4_096),
    "text-embedding-3-small": ("0.02", "0.02", "0.00", 0),
    "text-embedding-3-large": ("0.13", "0.13", "0.00", 0),
    "text-embedding-ada-002": ("0.10", "0.10", "0.00", 0),
    # 0.006 USD a minute.
    "whisper-1": ("6.00", "6.00", "0.00", 0),
    # 15 and 30 USD per 1,000,000 characters.
    "tts-1": ("45.00", "45.00", "0.00", 0),
    "tts-1-hd": ("90.00", "90.00", "0.00", 0),
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
}

#: Service tiers: tier -> model -> (input, cached input, output). What is not here costs the same in every tier.
TIERS: dict[str, dict[str, tuple[str, str, str]]] = {
    "flex": {
        "gpt-5": ("0.625", "0.0625", "5.00"),
        "gpt-5-mini": ("0.125", "0.0125", "1.00"),
        "gpt-5-nano": ("0.025", "0.0025", "0.20"),
        "o3": ("1.00", "0.25", "4.00"),
        "o4-mini": ("0.55", "0.138", "2.20"),
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
    },
}

#: What a model without a price costs while the policy says ChargeDefault: as much as gpt-4o, so that a forgotten entry
#: shows up on the bill instead of being free.
DEFAULT: tuple[str, str, str, int] = ("2.50", "1.25", "10.00", 128_000)
