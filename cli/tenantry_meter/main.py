"""``tenantry showback``: the process. Looks at the cluster every minute, answers from what it has seen."""

import argparse
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tenantry_cost import book
from tenantry_cost.book import PriceError
from tenantry_kubectl.api import Api
from tenantry_kubectl.cost import SECONDS, price, taken
from tenantry_kubectl.seen import Nodes
from tenantry_kubectl.session import Problem, Session
from tenantry_operator.api.units import parse_usd
from tenantry_operator.kube import config, errors

from tenantry_meter.hours import Sample, add, hour_of
from tenantry_meter.server import Desk, listen
from tenantry_meter.store import Store

USAGE_ERROR = 2

#: A gap of more samples than these is not filled: nobody knows what was there. The hours say how much was seen.
LONGEST_GAP = 3


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(
        prog="tenantry showback",
        description="Record what tenants cost, hour by hour, and serve it.",
        allow_abbrev=False,
    )
    add_option = options.add_argument
    add_option("--data", type=Path, required=True, metavar="FILE", help="SQLite file with the hours")
    add_option("--every", type=int, default=60, metavar="SECONDS", help="between two looks (%(default)s)")
    add_option("--keep-days", type=int, default=400, metavar="DAYS", help="how long hours are kept (%(default)s)")
    add_option("--region", default="us-east-1", help="of the price book (%(default)s)")
    add_option("--prices", type=Path, metavar="FILE", help="prices of your own, as `tenantry cost` takes them")
    add_option("--kubeconfig", type=Path, help="default: $KUBECONFIG, the pod's service account, ~/.kube/config")
    add_option("--host", default="0.0.0.0", help="address to answer on (%(default)s)")  # noqa: S104
    add_option("--port", type=int, default=8083, help="port of the same; 0 takes a free one (%(default)s)")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run until told to stop; returns 0, 1 when it cannot go on, 2 for wrong usage."""
    options = parser().parse_args(argv)
    try:
        prices = book.load(options.prices) if options.prices else book.shipped(options.region)
        access = config.load(options.kubeconfig)
        store = Store(options.data)
    except (PriceError, errors.KubeError, sqlite3.Error) as error:
        sys.stderr.write(f"tenantry showback: {error}\n")
        return USAGE_ERROR
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    meter = Meter(store, access, prices, options.every, timedelta(days=options.keep_days))
    server = listen(Desk(store, lambda: datetime.now(UTC), meter.problem), options.host, options.port)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"showback: answering on port {server.server_address[1]}", flush=True)
    try:
        while True:
            meter.look()
            if stop.wait(options.every):
                return 0
    finally:
        server.shutdown()
        server.server_close()
        store.close()


class Meter:
    """Looks at the cluster, and writes down what it sees."""

    def __init__(self, store: Store, access: config.Access, prices: book.Book, every: int, keep: timedelta) -> None:
        self._store, self._access, self._prices = store, access, prices
        self._every, self._keep = every, keep
        self._seen_at: float | None = None
        self._spent: dict[str, int] | None = None
        self._missed = 0

    def problem(self) -> str | None:
        """Why it should be started anew, or None: it has not seen the cluster for long."""
        return f"the cluster was not seen {self._missed} times in a row" if self._missed > 2 * LONGEST_GAP else None

    def look(self) -> None:
        """Take a sample and count it for the time since the one before. A failure is told, and counts as a gap."""
        try:
            with Api(self._access) as api:
                sample = sampled(Session(api, "", datetime.now(UTC)), self._prices)
        except (errors.KubeError, Problem) as error:
            self._missed += 1
            sys.stderr.write(f"tenantry showback: the cluster cannot be seen: {error}\n")
            return
        now = time.monotonic()
        since = self._every if self._seen_at is None else round(now - self._seen_at)
        start = hour_of(datetime.now(UTC))
        hour = self._store.hour(start)
        add(hour, sample, min(since, LONGEST_GAP * self._every), self._spent)
        try:
            self._store.write(hour, self._keep)
        except sqlite3.Error as error:
            self._missed += 1
            sys.stderr.write(f"tenantry showback: the hour cannot be written: {error}\n")
            return
        self._seen_at, self._spent, self._missed = now, dict(sample.spent), 0


def sampled(session: Session, prices: book.Book) -> Sample:
    """What holds now. Raises KubeError and Problem."""
    priced = price(session.api.get("/api/v1/nodes", Nodes).items, prices)
    uses = [
        use._replace(
            cpu_milli_seconds=use.cpu_milli_seconds // SECONDS, memory_byte_seconds=use.memory_byte_seconds // SECONDS
        )
        for use in taken(session)
    ]
    spent = {
        each.metadata.name: parse_usd(each.status.usage.spend)
        for each in session.tenants()
        if each.status is not None and each.status.usage is not None
    }
    return Sample(priced.nodes, priced.overhead, uses, spent)
