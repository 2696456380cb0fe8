"""Prices as data: what OpenAI charges for text tokens, standard service tier.

Source: https://openai.com/api/pricing and the model pages of https://platform.openai.com/docs/models, as of the date in
``VERSION``. USD per 1,000,000 tokens: input, cached input, output; then the most output tokens one answer can have.
A policy's ``prices`` replace or complete these. A new list is a new VERSION: the ledger keeps it with every row.
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
    "o3": ("2.00", "0.50", "8.00", 100_000),
    "o3-mini": ("1.10", "0.55", "4.40", 100_000),
    "o4-mini": ("1.10", "0.275", "4.40", 100_000),
    "gpt-4-turbo": ("10.00", "10.00", "30.00", 4_096),
    "gpt-3.5-turbo": ("0.50", "0.50", "1.50", 4_096),
    "text-embedding-3-small": ("0.02", "0.02", "0.00", 0),
    "text-embedding-3-large": ("0.13", "0.13", "0.00", 0),
    "text-embedding-ada-002": ("0.10", "0.10", "0.00", 0),
    # A minute is 1,000 tokens (usage.py).
    "whisper-1": ("6.00", "6.00", "0.00", 0),
}

#: What a model without a price costs while the policy says ChargeDefault: as much as gpt-4o, so that a forgotten entry
#: shows up on the bill instead of being free.
DEFAULT: tuple[str, str, str, int] = ("2.50", "1.25", "10.00", 128_000)
