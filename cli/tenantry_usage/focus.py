"""Usage as a FOCUS 1.2 dataset (https://focus.finops.org/focus-specification/v1-2/): every column of the specification,
in its order, and our own ones behind, which have to begin with ``x_``. Pure.

A line is a daily charge: one SKU (the model) of one resource (the endpoint of a tenant), by one of its keys. Tokens of
different kinds have different prices, so what is priced is the day, and what is consumed are its tokens. The list price
is what is charged; discounts and commitments do not exist here, and their columns are null.

The 57 columns are those of AWS' dictionary of the same version, too:
https://docs.aws.amazon.com/cur/latest/userguide/table-dictionary-focus-1-2-aws-columns.html.
"""

import json
from collections.abc import Iterator
from datetime import date, timedelta

from tenantry_usage.lines import Line, usd

COLUMNS = (
    "AvailabilityZone",
    "BilledCost",
    "BillingAccountId",
    "BillingAccountName",
    "BillingAccountType",
    "BillingCurrency",
    "BillingPeriodEnd",
    "BillingPeriodStart",
    "CapacityReservationId",
    "CapacityReservationStatus",
    "ChargeCategory",
    "ChargeClass",
    "ChargeDescription",
    "ChargeFrequency",
    "ChargePeriodEnd",
    "ChargePeriodStart",
    "CommitmentDiscountCategory",
    "CommitmentDiscountId",
    "CommitmentDiscountName",
    "CommitmentDiscountQuantity",
    "CommitmentDiscountStatus",
    "CommitmentDiscountType",
    "CommitmentDiscountUnit",
    "ConsumedQuantity",
    "ConsumedUnit",
    "ContractedCost",
    "ContractedUnitPrice",
    "EffectiveCost",
    "InvoiceId",
    "InvoiceIssuerName",
    "ListCost",
    "ListUnitPrice",
    "PricingCategory",
    "PricingCurrency",
    "PricingCurrencyContractedUnitPrice",
    "PricingCurrencyEffectiveCost",
    "PricingCurrencyListUnitPrice",
    "PricingQuantity",
    "PricingUnit",
    "ProviderName",
    "PublisherName",
    "RegionId",
    "RegionName",
    "ResourceId",
    "ResourceName",
    "ResourceType",
    "ServiceCategory",
    "ServiceName",
    "ServiceSubcategory",
    "SkuId",
    "SkuMeter",
    "SkuPriceDetails",
    "SkuPriceId",
    "SubAccountId",
    "SubAccountName",
    "SubAccountType",
    "Tags",
)
OWN_COLUMNS = ("x_Requests", "x_InputTokens", "x_CachedInputTokens", "x_OutputTokens", "x_EstimatedRequests")
#: Columns that must not be null for a charge of category "Usage" that corrects no other.
NEVER_NULL = (
    "BilledCost",
    "BillingAccountId",
    "BillingAccountType",
    "BillingCurrency",
    "BillingPeriodEnd",
    "BillingPeriodStart",
    "ChargeCategory",
    "ChargeFrequency",
    "ChargePeriodEnd",
    "ChargePeriodStart",
    "ConsumedQuantity",
    "ConsumedUnit",
    "ContractedCost",
    "ContractedUnitPrice",
    "EffectiveCost",
    "InvoiceIssuerName",
    "ListCost",
    "ListUnitPrice",
    "PricingCategory",
    "PricingCurrency",
    "PricingCurrencyContractedUnitPrice",
    "PricingCurrencyEffectiveCost",
    "PricingCurrencyListUnitPrice",
    "PricingQuantity",
    "PricingUnit",
    "ProviderName",
    "PublisherName",
    "ServiceCategory",
    "ServiceName",
    "ServiceSubcategory",
    "SkuId",
    "SkuPriceId",
)
#: What is one unit times its price.
UNIT_PRICES = (
    "ContractedUnitPrice",
    "ListUnitPrice",
    "PricingCurrencyContractedUnitPrice",
    "PricingCurrencyListUnitPrice",
)


def rows(line: Line, account: str) -> Iterator[dict[str, str]]:
    """A line as FOCUS rows (one); an absent column is null. ``account``: who bills, and is billed by the provider."""
    cost = usd(line.nano_usd)
    tokens = str(line.input_tokens + line.output_tokens)
    start, end = _month(line.day)
    yield {
        **dict.fromkeys(UNIT_PRICES, cost),
        "BilledCost": cost,
        "BillingAccountId": account,
        "BillingAccountName": account,
        "BillingAccountType": "Platform",
        "BillingCurrency": "USD",
        "BillingPeriodEnd": _moment(end),
        "BillingPeriodStart": _moment(start),
        "ChargeCategory": "Usage",
        "ChargeDescription": f"{line.requests} requests to {line.model or 'no model'} with key {line.key}",
        "ChargeFrequency": "Usage-Based",
        "ChargePeriodEnd": _moment(line.day + timedelta(days=1)),
        "ChargePeriodStart": _moment(line.day),
        "ConsumedQuantity": tokens,
        "ConsumedUnit": "Tokens",
        "ContractedCost": cost,
        "EffectiveCost": cost,
        "InvoiceIssuerName": account,
        "ListCost": cost,
        "PricingCategory": "Standard",
        "PricingCurrency": "USD",
        "PricingCurrencyEffectiveCost": cost,
        "PricingQuantity": "1",
        "PricingUnit": "Days",
        "ProviderName": account,
        "PublisherName": account,
        "ResourceId": f"{line.tenant}/{line.key}",
        "ResourceName": line.tenant,
        "ResourceType": "Endpoint",
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": "Tenantry",
        "ServiceSubcategory": "Generative AI",
        "SkuId": line.model or "none",
        "SkuMeter": "Tokens",
        "SkuPriceId": line.model or "none",
        "SubAccountId": line.tenant,
        "SubAccountName": line.tenant,
        "SubAccountType": "Tenant",
        "Tags": json.dumps({"key": line.key, "model": line.model, "tenant": line.tenant}),
        "x_Requests": str(line.requests),
        "x_InputTokens": str(line.input_tokens),
        "x_CachedInputTokens": str(line.cached_input_tokens),
        "x_OutputTokens": str(line.output_tokens),
        "x_EstimatedRequests": str(line.estimated),
    }


def _month(day: date) -> tuple[date, date]:
    start = day.replace(day=1)
    return start, (start + timedelta(days=32)).replace(day=1)


def _moment(day: date) -> str:
    return f"{day.isoformat()}T00:00:00Z"
