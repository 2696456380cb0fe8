"""What tokens cost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from tenantry_service import pricing
from tenantry_service.policy import Rates
from tenantry_service.pricing import Usage

USD = 1_000_000_000
RATES = Rates(input=2 * USD, cached_input=USD // 2, output=8 * USD)

counts = st.integers(0, 10_000_000)
rates = st.builds(
    Rates,
    input=st.integers(0, 100 * USD),
    output=st.integers(0, 100 * USD),
    cached_input=st.none() | st.integers(0, 100 * USD),
    cache_write=st.none() | st.integers(0, 100 * USD),
    audio_input=st.none() | st.integers(0, 100 * USD),
    audio_output=st.none() | st.integers(0, 100 * USD),
)

usages = st.builds(Usage, *[counts] * 9, tier=st.sampled_from(["", "flex", "default"]))


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        (Usage(), 0),
        (Usage(input=1_000_000), 2 * USD),
        (Usage(input=1_000_000, cached_input=1_000_000), USD // 2),
        (Usage(input=1_000_000, cached_input=400_000, output=500_000), 1_200_000_000 + 200_000_000 + 4 * USD),
        # A part larger than the whole is charged as a part, and the rest is not negative.
        (Usage(input=10, cached_input=20), 10_000),
        (Usage(input=100, audio_input=100, output=100, audio_output=100), 100 * 2000 + 100 * 8000),
    ],
)
def test_cached_tokens_are_taken_out_of_the_input_before_it_is_charged(usage: Usage, cost: int) -> None:
    assert pricing.price(usage, RATES) == cost


def test_a_fraction_of_a_nano_dollar_is_rounded_up_once() -> None:
    assert pricing.price(Usage(input=1), Rates(input=12_500_000, output=0)) == 13
    assert pricing.price(Usage(input=2), Rates(input=12_500_000, output=0)) == 25


@given(counts, counts, st.data(), rates)
def test_no_mix_of_tokens_costs_more_than_the_worst_case(
    into: int, out: int, data: st.DataObject, given_rates: Rates
) -> None:
    cached = data.draw(st.integers(0, into))
    written = data.draw(st.integers(0, into - cached))
    heard = data.draw(st.integers(0, into - cached - written))
    spoken = data.draw(st.integers(0, out))
    usage = Usage(into, out, cached, written, heard, spoken)
    assert pricing.price(usage, given_rates) <= pricing.worst_case(
        into, out, pricing.of_rates(given_rates, 1, known=True, capped=True)
    )


@given(usages, rates, rates, st.booleans())
def test_a_price_charges_what_its_rates_say(usage: Usage, given_rates: Rates, other: Rates, long_context: bool) -> None:
    charged = structs.replace(given_rates, tiers={"flex": other})
    if long_context:
        charged = structs.replace(charged, long_context=other, long_context_above=5_000_000)
    assert pricing.of_rates(charged, 1, known=True, capped=True).of(usage) == pricing.price(usage, charged)


@given(counts, counts, counts, rates)
def test_a_price_charges_plain_text_what_its_rates_say(into: int, out: int, cached: int, given_rates: Rates) -> None:
    usage = Usage(into, out, cached)
    assert pricing.of_rates(given_rates, 1, known=True, capped=True).of(usage) == pricing.price(usage, given_rates)


def test_a_dated_snapshot_costs_what_its_model_costs_and_overrides_win() -> None:
    assert pricing.find("gpt-4o-2024-08-06", {}) == pricing.find("gpt-4o", {})
    own = Rates(input=1, output=1)
    assert pricing.find("gpt-4o-2024-08-06", {"gpt-4o": own}).rates == own
    assert pricing.find("mine", {"mine": own}).known


def test_an_unknown_model_has_a_price_and_is_known_to_be_unknown() -> None:
    found = pricing.find("never-heard-of", {})
    assert not found.known
    assert found.rates.input > 0
    assert found.rates.output > 0


@pytest.mark.parametrize(("text", "amount"), [("0", 0), ("12.50", 12_500_000_000), ("0.000000001", 1)])
def test_dollars_become_nano_dollars(text: str, amount: int) -> None:
    assert pricing.nano_usd(text) == amount


@pytest.mark.parametrize("text", ["", "-1", "1e3", "1.0000000001", "NaN", " 1", "١"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="amount in USD"):
        pricing.nano_usd(text)
