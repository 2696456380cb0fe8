"""A tenant's own rates, as the service charges them. Pure."""

from msgspec.structs import replace
from tenantry_service import policy as contract

from tenantry_operator.api.traffic import Rates, TierRates, TokenRates
from tenantry_operator.api.units import parse_usd


def of(rates: Rates) -> contract.Rates:
    """The same in nano-USD; what is left out follows another rate, which the service knows."""
    return replace(_tier(rates), tiers={name: _tier(tier) for name, tier in (rates.tiers or {}).items()})


def _tier(rates: TierRates) -> contract.Rates:
    longer = rates.long_context
    if longer is None:
        return _tokens(rates)
    return replace(_tokens(rates), long_context=_tokens(longer), long_context_above=longer.above)


def _tokens(rates: TokenRates) -> contract.Rates:
    given = {name: value for name in TokenRates.__struct_fields__ if (value := getattr(rates, name)) is not None}
    amounts = {name: parse_usd(amount) for name, amount in given.items()}
    return replace(contract.Rates(input=0, output=0), **amounts)
