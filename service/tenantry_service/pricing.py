"""What tokens cost: pure, in integer nano-USD, rounded up once per request.

The golden rule: a model without a price follows the policy's declared rule (default rates, or refusal); nothing is free
by accident.
"""

import re
from decimal import Decimal
from typing import Final

from msgspec.structs import replace

from tenantry_service import price_table
from tenantry_service.policy import Rates

NANO: Final = 1_000_000_000
_MILLION: Final = 1_000_000
#: OpenAI names snapshots `<model>-YYYY-MM-DD`; they cost what the model costs.
_SNAPSHOT = re.compile(r"-\d{4}-\d{2}-\d{2}$")


class Usage:
    """Tokens of one request. The parts (cached, audio, image, reasoning) are included in ``input`` or ``output``.
    ``tier`` is the service tier that the upstream says it served, if it says so. Never changed once it is made."""

    __slots__ = (
        "audio_input",
        "audio_output",
        "cache_write",
        "cached_input",
        "image_input",
        "image_output",
        "input",
        "output",
        "reasoning",
        "tier",
    )

    def __init__(
        self,
        input: int = 0,  # noqa: A002
        output: int = 0,
        cached_input: int = 0,
        cache_write: int = 0,
        audio_input: int = 0,
        audio_output: int = 0,
        reasoning: int = 0,
        image_input: int = 0,
        image_output: int = 0,
        tier: str = "",
    ) -> None:
        self.input = input
        self.output = output
        self.cached_input = cached_input
        self.cache_write = cache_write
        self.audio_input = audio_input
        self.audio_output = audio_output
        self.reasoning = reasoning
        self.image_input = image_input
        self.image_output = image_output
        self.tier = tier

    def _all(self) -> tuple[int, int, int, int, int, int, int, int, int, str]:
        return (
            self.input,
            self.output,
            self.cached_input,
            self.cache_write,
            self.audio_input,
            self.audio_output,
            self.reasoning,
            self.image_input,
            self.image_output,
            self.tier,
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Usage) and self._all() == other._all()

    def __hash__(self) -> int:
        return hash(self._all())

    def __repr__(self) -> str:
        return f"Usage{self._all()}"


NO_USAGE = Usage()


class Price:
    """What is known about a model: rates, the most output tokens it can give, whether the rates are its own, and
    whether that most is (``capped``)."""

    __slots__ = (
        "_cached",
        "_flat",
        "_input",
        "_output",
        "_tiers",
        "capped",
        "dearest_input",
        "dearest_output",
        "known",
        "max_output",
        "rates",
    )

    def __init__(
        self, rates: Rates, max_output: int, known: bool, capped: bool, dearest_input: int, dearest_output: int
    ) -> None:
        self.rates = rates
        self.max_output = max_output
        self.known = known
        self.capped = capped
        #: The most that one token of input or of output can cost, in nano-USD per million tokens.
        self.dearest_input = dearest_input
        self.dearest_output = dearest_output
        # What nearly every answer is charged by.
        self._flat = rates.long_context is None
        self._input = rates.input
        self._cached = rates.input if rates.cached_input is None else rates.cached_input
        self._output = rates.output
        self._tiers = rates.tiers

    def of(self, usage: Usage) -> int:
        """The cost of ``usage``: that of :func:`price`, found sooner where nothing but text was used."""
        if (
            not self._flat
            or usage.tier in self._tiers
            or usage.cache_write
            or usage.audio_input
            or usage.audio_output
            or usage.image_input
            or usage.image_output
        ):
            return price(usage, self.rates)
        plain = usage.input - usage.cached_input
        total = (plain if plain > 0 else 0) * self._input + usage.cached_input * self._cached
        return -(-(total + usage.output * self._output) // _MILLION)


def nano_usd(amount: str) -> int:
    """A decimal string in USD as integer nano-USD.

    Raises:
        ValueError: not a plain non-negative decimal, or finer than a nano-dollar.
    """
    if not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", amount):
        raise ValueError(f"{amount!r} is not an amount in USD such as 12.50 (at most 9 decimals)")
    return int(Decimal(amount) * NANO)


def price(usage: Usage, rates: Rates) -> int:
    """The cost of ``usage`` in nano-USD, rounded up to the next one.

    Cached, cache-written, audio and image tokens are *subtracted* from the plain input before it is charged: OpenAI
    counts them inside ``prompt_tokens``. Parts that contradict the total never make the plain rest negative.
    Where a cached token was one of audio or of an image, the answer does not say so: it is charged as cached, once.
    """
    if usage.tier or rates.long_context is not None:
        rates = _applicable(usage, rates)
    cached_rate = rates.input if rates.cached_input is None else rates.cached_input
    if usage.cache_write or usage.audio_input or usage.audio_output or usage.image_input or usage.image_output:
        write_rate = rates.input if rates.cache_write is None else rates.cache_write
        audio_in_rate = rates.input if rates.audio_input is None else rates.audio_input
        audio_out_rate = rates.output if rates.audio_output is None else rates.audio_output
        image_in_rate = rates.input if rates.image_input is None else rates.image_input
        image_out_rate = rates.output if rates.image_output is None else rates.image_output
        plain = max(0, usage.input - usage.cached_input - usage.cache_write - usage.audio_input - usage.image_input)
        written = max(0, usage.output - usage.audio_output - usage.image_output)
        total = (
            plain * rates.input
            + usage.cached_input * cached_rate
            + usage.cache_write * write_rate
            + usage.audio_input * audio_in_rate
            + usage.image_input * image_in_rate
            + written * rates.output
            + usage.audio_output * audio_out_rate
            + usage.image_output * image_out_rate
        )
    else:
        plain = max(0, usage.input - usage.cached_input)
        total = plain * rates.input + usage.cached_input * cached_rate + usage.output * rates.output
    return -(-total // _MILLION)


def _applicable(usage: Usage, rates: Rates) -> Rates:
    """Those of the tier that was served, and of those the ones for long inputs."""
    of_tier = rates.tiers.get(usage.tier, rates)
    if of_tier.long_context is not None and usage.input > (of_tier.long_context_above or 0):
        return of_tier.long_context
    return of_tier


def of_rates(rates: Rates, max_output: int, *, known: bool, capped: bool) -> Price:
    """A price from rates."""
    every = _all_rates(rates)
    dearest_input = max(
        [
            _dearest(each.input, each.cached_input, each.cache_write, each.audio_input, each.image_input)
            for each in every
        ]
    )
    dearest_output = max([_dearest(each.output, each.audio_output, each.image_output) for each in every])
    return Price(rates, max_output, known, capped, dearest_input, dearest_output)


def _all_rates(rates: Rates) -> list[Rates]:
    """These and all that may take their place."""
    found = [rates]
    if rates.long_context is not None:
        found += _all_rates(rates.long_context)
    for tier in rates.tiers.values():
        found += _all_rates(tier)
    return found


def _dearest(*rates: int | None) -> int:
    return max([rate for rate in rates if rate is not None])


def worst_case(input_tokens: int, output_tokens: int, price: Price) -> int:
    """The most that so many tokens can cost, whatever kind they turn out to be, in nano-USD."""
    return -(-(input_tokens * price.dearest_input + output_tokens * price.dearest_output) // _MILLION)


def _entry(model: str, row: tuple[str, str, str], max_output: int, *, known: bool) -> Price:
    more = {kind: nano_usd(rate) for kind, rate in price_table.OTHER_KINDS.get(model, {}).items()}
    tiers = {
        tier: _with_long_context(_text_rates(prices[model]), model, tier)
        for tier, prices in price_table.TIERS.items()
        if model in prices
    }
    rates = replace(_with_long_context(_text_rates(row), model, ""), tiers=tiers, **more)
    return of_rates(rates, max_output, known=known, capped=known)


def _text_rates(row: tuple[str, str, str]) -> Rates:
    input_rate, cached_rate, output_rate = row
    return Rates(input=nano_usd(input_rate), cached_input=nano_usd(cached_rate), output=nano_usd(output_rate))


def _with_long_context(rates: Rates, model: str, tier: str) -> Rates:
    above, by_tier = price_table.LONG_CONTEXT.get(model, (0, {}))
    if tier not in by_tier:
        return rates
    return replace(rates, long_context=_text_rates(by_tier[tier]), long_context_above=above)


_TABLE = {
    model: _entry(model, (input_rate, cached_rate, output_rate), max_output, known=True)
    for model, (input_rate, cached_rate, output_rate, max_output, _) in price_table.TEXT.items()
}
DEFAULT_PRICE = _entry("", price_table.DEFAULT[:3], price_table.DEFAULT[3], known=False)
VERSION: Final = price_table.VERSION
PRICED_MODELS = frozenset(_TABLE)


def find(model: str, overrides: dict[str, Rates]) -> Price:
    """The price of ``model``: the policy's own, the table's, the one of the model that this is a dated snapshot of,
    or else the declared default (``known`` is then False)."""
    base = _SNAPSHOT.sub("", model)
    listed = _TABLE.get(model) or _TABLE.get(base)
    own = overrides.get(model) or overrides.get(base)
    if own is not None:
        most = (listed or DEFAULT_PRICE).max_output
        return of_rates(own, most, known=True, capped=listed is not None)
    return listed or DEFAULT_PRICE
