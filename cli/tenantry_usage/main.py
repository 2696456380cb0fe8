"""``tenantry usage show|export``."""

import argparse
import csv
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TextIO

from tenantry_usage import focus, sources
from tenantry_usage.lines import Line, table, usd
from tenantry_usage.sources import SourceError

USAGE_ERROR = 2
CSV_COLUMNS = (*Line._fields[:8], "usd", "estimated")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parse = argparse.ArgumentParser(prog="tenantry usage", description=__doc__, allow_abbrev=False)
    what = parse.add_subparsers(dest="what", required=True)
    show = what.add_parser("show", help="a table of what was used", allow_abbrev=False)
    export = what.add_parser("export", help="the same as CSV, or as a FOCUS 1.2 dataset", allow_abbrev=False)
    export.add_argument("--format", choices=("csv", "focus"), default="csv", help="default: csv")
    export.add_argument("--account", default="Tenantry", help="who bills (FOCUS: BillingAccount, Provider)")
    for command in (show, export):
        source = command.add_mutually_exclusive_group(required=True)
        source.add_argument("--database-file", type=Path, metavar="PATH", help="file with the PostgreSQL URL")
        source.add_argument("--state-dir", type=Path, metavar="DIR", help="of a `tenantry serve` with a SQLite ledger")
        command.add_argument("--tenant", default="", help="only this one (default: all)")
        command.add_argument(
            "--from", dest="first", type=_day, metavar="YYYY-MM-DD", help="first day, UTC (default: the month's first)"
        )
        command.add_argument(
            "--to", dest="end", type=_day, metavar="YYYY-MM-DD", help="the day after the last (default: tomorrow)"
        )
    return parse


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a day such as 2026-11-01") from error


def main(argv: Sequence[str] | None = None) -> int:
    """Print; returns 2 if the ledger cannot be read as asked."""
    options = parser().parse_args(argv)
    today = datetime.now(UTC).date()
    first, end = options.first or today.replace(day=1), options.end or today + timedelta(days=1)
    try:
        if first >= end:
            raise SourceError(f"--to: {end} is not after --from, {first}")
        if options.database_file is not None:
            lines = sources.postgres(options.database_file, first, end, options.tenant)
        else:
            lines = sources.sqlite(options.state_dir, first, end, options.tenant)
    except SourceError as error:
        sys.stderr.write(f"tenantry usage: {error}\n")
        return USAGE_ERROR
    if options.what == "show":
        sys.stdout.write(table(lines))
    elif options.format == "focus":
        write_focus(lines, options.account, sys.stdout)
    else:
        write_csv(lines, sys.stdout)
    return 0


def write_csv(lines: Sequence[Line], out: TextIO) -> None:
    """One row per day, tenant, key and model."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for line in lines:
        writer.writerow((*line[:8], usd(line.nano_usd), line.estimated))


def write_focus(lines: Sequence[Line], account: str, out: TextIO) -> None:
    """Every column of FOCUS 1.2."""
    writer = csv.DictWriter(out, (*focus.COLUMNS, *focus.OWN_COLUMNS), restval="", lineterminator="\n")
    writer.writeheader()
    for line in lines:
        writer.writerows(focus.rows(line, account))
