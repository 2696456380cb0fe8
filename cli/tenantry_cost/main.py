"""``tenantry cost``: what running so many tenants costs on each of five AWS services."""

import argparse
import sys
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

from tenantry_service import pricing

from tenantry_cost import book, plot, starting, text
from tenantry_cost.book import Book, PriceError
from tenantry_cost.systems import bills
from tenantry_cost.workload import Isolation, Workload

USAGE_ERROR = 2
DEFAULT = Workload()


def add_workload(parse: argparse.ArgumentParser) -> None:
    """The options that describe a workload and choose the prices; `tenantry advise` has them too."""
    asked = parse.add_argument_group("what is to run, per month")
    asked.add_argument("--tenants", type=_whole(1, 100_000), default=DEFAULT.tenants, metavar="N", help="(default: 10)")
    asked.add_argument(
        "--requests",
        type=_whole(0, 10**10),
        default=DEFAULT.requests,
        metavar="N",
        help="requests of each tenant (default: 30000)",
    )
    asked.add_argument(
        "--stream-seconds",
        type=_amount(86_400),
        default=DEFAULT.stream_seconds,
        metavar="S",
        help="how long one request takes, from its first byte to its last (default: 20)",
    )
    asked.add_argument(
        "--input-tokens", type=_whole(0, 10**7), default=DEFAULT.input_tokens, metavar="N", help="(default: 800)"
    )
    asked.add_argument(
        "--output-tokens", type=_whole(0, 10**7), default=DEFAULT.output_tokens, metavar="N", help="(default: 400)"
    )
    asked.add_argument(
        "--model",
        choices=sorted(pricing.PRICED_MODELS),
        metavar="MODEL",
        help="also price its tokens, e.g. gpt-4o-mini",
    )
    asked.add_argument(
        "--peak", type=_amount(1000), default=DEFAULT.peak, metavar="X", help="busiest hour over the mean (default: 3)"
    )
    asked.add_argument(
        "--isolation",
        type=Isolation,
        choices=list(Isolation),
        default=DEFAULT.isolation,
        help="own: processes of each tenant's own; shared: one pool for all (default: own)",
    )
    asked.add_argument("--no-datastores", dest="datastores", action="store_false", help="without PostgreSQL and Valkey")
    prices = parse.add_argument_group("prices")
    prices.add_argument(
        "--region", default="us-east-1", help=f"one of: {', '.join(book.regions())} (default: us-east-1)"
    )
    prices.add_argument("--prices", type=Path, metavar="FILE", help="prices of your own region or contract (TOML)")
    prices.add_argument("--node", metavar="TYPE", help="instance type (default: m7g.large on EKS, the cheapest on EC2)")


def workload_of(options: argparse.Namespace) -> tuple[Workload, Book]:
    """What the options ask for.

    Raises:
        PriceError: no such region, file or instance type.
    """
    prices = book.shipped(options.region) if options.prices is None else book.load(options.prices)
    workload = Workload(**{field: getattr(options, field) for field in Workload._fields if hasattr(options, field)})
    if workload.node is not None and workload.node not in prices.instances:
        raise PriceError(f"--node: no price for {workload.node!r}; there are: {', '.join(prices.instances)}")
    return workload, prices


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parse = argparse.ArgumentParser(
        prog="tenantry cost",
        description="What so many tenants cost a month on ECS Fargate, EC2, Lambda, EKS and App Runner, line by line.",
        allow_abbrev=False,
    )
    add_workload(parse)
    parse.add_argument(
        "--format", choices=("text", "json", "svg"), default="text", help="svg plots cost against tenants"
    )
    parse.add_argument(
        "--plot-tenants",
        type=_whole(2, 100_000),
        metavar="N",
        help="right end of the plot (default: ten times --tenants)",
    )
    parse.add_argument(
        "--starting-comparison",
        action="store_true",
        help="instead: the comparison that the platform started from, and where it was wrong",
    )
    return parse


def main(argv: Sequence[str] | None = None) -> int:
    """Print what was asked for. Returns 0, or 2 when it cannot be priced."""
    parse = parser()
    options = parse.parse_args(argv)
    try:
        workload, prices = workload_of(options)
    except PriceError as error:
        sys.stderr.write(f"tenantry cost: {error}\n")
        return USAGE_ERROR
    if options.starting_comparison:
        if options.format == "svg":
            parse.error("--starting-comparison has no plot; use --format text or json")
        compared = starting.comparison(prices)
        print(text.comparison_json(compared) if options.format == "json" else text.comparison(compared))
    elif options.format == "svg":
        print(plot.svg(workload, prices, options.plot_tenants or 10 * workload.tenants))
    else:
        show = text.as_json if options.format == "json" else text.as_text
        print(show(workload, prices, bills(workload, prices)))
    return 0


def _whole(least: int, most: int) -> Callable[[str], int]:
    """Reads a whole number in a range."""

    def read(given: str) -> int:
        try:
            number = int(given)
        except ValueError:
            number = least - 1
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"{given!r} is not a whole number from {least} to {most}")
        return number

    return read


def _amount(most: int) -> Callable[[str], Fraction]:
    """Reads an exact number above zero, decimals allowed."""

    def read(given: str) -> Fraction:
        try:
            number = Fraction(given)
        except (ValueError, ZeroDivisionError):
            number = Fraction(0)
        if not 0 < number <= most:
            raise argparse.ArgumentTypeError(f"{given!r} is not a number above 0, up to {most}")
        return number

    return read
