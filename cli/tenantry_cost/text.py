"""Bills as text for a terminal, and as JSON."""

import json
from collections.abc import Sequence
from fractions import Fraction

from tenantry_cost.bill import Bill, Item, usd
from tenantry_cost.book import Book
from tenantry_cost.starting import Compared, Line
from tenantry_cost.workload import Workload

_PICO = 10**12


def as_text(workload: Workload, book: Book, bills: Sequence[Bill]) -> str:
    """The line items of each system, then one line for each, the cheapest first."""
    lines = [_asked(workload, book), ""]
    for bill in bills:
        lines += [*_bill(bill), ""]
    lines.append("USD a month" + (", without tokens" if workload.model else ""))
    for bill in ranked(bills):
        share = usd(_per_tenant(bill, workload))
        lines.append(f"  {bill.system:<12} {usd(bill.cents):>12}  {share:>10} for each tenant")
    lines += [f"  {bill.system:<12} {'-':>12}  cannot: {bill.impossible}" for bill in bills if bill.impossible]
    if workload.model:
        lines.append(f"  {workload.model} tokens, the same everywhere: {usd(workload.token_cents)}")
    days = [item.seen for bill in bills for item in bill.items]
    lines += [
        "",
        f"List prices of {book.region}, seen {min(days)} to {max(days)}; `--format json` gives each one's source.",
    ]
    return "\n".join(lines)


def as_json(workload: Workload, book: Book, bills: Sequence[Bill]) -> str:
    """Everything, with each price's source and day. Amounts are strings: exact decimals."""
    return json.dumps(
        {
            "region": book.region,
            "workload": {
                "tenants": workload.tenants,
                "requestsPerTenant": workload.requests,
                "streamSeconds": _decimal(workload.stream_seconds),
                "inputTokens": workload.input_tokens,
                "outputTokens": workload.output_tokens,
                "peak": _decimal(workload.peak),
                "isolation": workload.isolation,
                "datastores": workload.datastores,
                "node": workload.node,
                "model": workload.model,
            },
            "tokensUsd": _plain(workload.token_cents),
            "systems": [
                {
                    "system": bill.system,
                    "possible": not bill.impossible,
                    "impossible": bill.impossible or None,
                    "totalUsd": _plain(bill.cents),
                    "items": [_item(item) for item in bill.items],
                    "remarks": list(bill.remarks),
                }
                for bill in bills
            ],
        },
        indent=2,
    )


def comparison(compared: Sequence[Compared]) -> str:
    """The starting comparison, line by line."""
    lines = ["The comparison that this platform started from, in USD a month (claimed, computed, verdict)"]
    for each in compared:
        least, most = each.table
        lines += ["", f"{each.system}: its own table added up to {least}-{most}"]
        for line in (*each.lines, each.total):
            claimed = "-" if line.claimed is None else "-".join(str(usd) for usd in dict.fromkeys(line.claimed))
            remark = f"; {line.remark}" if line.remark else ""
            lines.append(f"  {line.what:<46} {claimed:>8} {_range(line):>16}  {line.verdict}{remark}")
    return "\n".join(lines)


def comparison_json(compared: Sequence[Compared]) -> str:
    """The starting comparison for programs."""

    def line(each: Line) -> dict[str, object]:
        return {
            "what": each.what,
            "claimedUsd": each.claimed,
            "computedUsd": [_plain(each.low), _plain(each.high)],
            "verdict": each.verdict,
            "remark": each.remark,
        }

    return json.dumps(
        [
            {
                "system": each.system,
                "tableUsd": each.table,
                "total": line(each.total),
                "lines": [line(one) for one in each.lines],
            }
            for each in compared
        ],
        indent=2,
    )


def ranked(bills: Sequence[Bill]) -> list[Bill]:
    """Those that are possible, the cheapest first."""
    return sorted((bill for bill in bills if not bill.impossible), key=lambda bill: bill.cents)


def _asked(workload: Workload, book: Book) -> str:
    return (
        f"{workload.tenants:,} tenants, each {workload.requests:,} requests a month "
        f"of {_decimal(workload.stream_seconds)} s, {workload.input_tokens:,} tokens in and "
        f"{workload.output_tokens:,} out; {workload.isolation} processes; {book.region}"
    )


def _bill(bill: Bill) -> list[str]:
    if bill.impossible:
        return [f"{bill.system}: cannot: {bill.impossible}"]
    lines = [f"{bill.system}"]
    lines += [f"  {item.kind:<14} {item.what:<40} {_quantity(item):>30} {usd(item.cents):>12}" for item in bill.items]
    lines.append(f"  {'total':<14} {'':<40} {'':>30} {usd(bill.cents):>12}")
    return lines + [f"  note: {remark}" for remark in bill.remarks]


def _quantity(item: Item) -> str:
    return f"{float(item.quantity):,.10g} {item.unit}s".replace("GBs", "GB")


def _item(item: Item) -> dict[str, object]:
    return {
        "kind": item.kind,
        "what": item.what,
        "quantity": _decimal(item.quantity),
        "unit": item.unit,
        "unitPriceUsd": _decimal(Fraction(item.pico_usd, _PICO)),
        "usd": _plain(item.cents),
        "seen": item.seen.isoformat(),
        "source": item.source,
    }


def _range(line: Line) -> str:
    return usd(line.low) if line.low == line.high else f"{usd(line.low)}-{usd(line.high)}"


def _per_tenant(bill: Bill, workload: Workload) -> int:
    return (2 * bill.cents + workload.tenants) // (2 * workload.tenants)


def _decimal(amount: Fraction) -> str:
    text = f"{amount.numerator * 10**12 // amount.denominator:013}"
    return f"{text[:-12]}.{text[-12:]}".rstrip("0").rstrip(".")


def _plain(cents: int) -> str:
    return usd(cents).replace(",", "")
