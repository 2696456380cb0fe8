"""``cost``: what each Tenant costs, at the layout of this moment, in a form that adds up to the bill.

Nodes and pods are read from the API server, prices from the price book that `tenantry cost` has. A month is what the
present layout would cost if it stayed for 730 hours; tokens are what was spent in the budget's window so far.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import timedelta
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from tenantry_cost import book
from tenantry_cost.book import HOURS, Book, PriceError
from tenantry_operator.api.units import format_usd, parse_quantity, parse_usd
from tenantry_operator.kube import errors
from tenantry_showback.formats import Window, allocations, focus
from tenantry_showback.statement import (
    CORE_HOUR,
    GIB,
    GIB_HOUR,
    Cents,
    NodeCost,
    Sharing,
    Statement,
    Use,
    in_cents,
    state,
)

from tenantry_kubectl.output import Form, emit
from tenantry_kubectl.seen import Node, Nodes, PodMetricsList, Pods
from tenantry_kubectl.session import Problem, Session
from tenantry_kubectl.tables import table
from tenantry_kubectl.usage import OF_TENANTS, POD_METRICS, measured

SECONDS = HOURS * 3600
TYPE = "node.kubernetes.io/instance-type"
#: Who says that a node is Spot, and how: Karpenter, EKS managed node groups.
SPOT = {"karpenter.sh/capacity-type": "spot", "eks.amazonaws.com/capacityType": "SPOT"}
#: GiB of disk that each node of infra/eks has.
DISK = 20


class Priced(NamedTuple):
    """Nodes with their price for a month, what else is paid, and types that no price is known for."""

    nodes: list[NodeCost]
    overhead: int
    unknown: set[str]


def cost(session: Session, options: argparse.Namespace) -> int:
    """Print what each Tenant costs a month, what is idle, and what serves all."""
    try:
        prices = book.load(options.prices) if options.prices else book.shipped(options.region)
    except PriceError as error:
        raise Problem(str(error)) from error
    priced = price(session.api.get("/api/v1/nodes", Nodes).items, prices)
    uses = taken(session)
    tokens = {
        each.metadata.name: parse_usd(each.status.usage.spend) if each.status and each.status.usage else 0
        for each in session.tenants()
    }
    found = state(
        priced.nodes,
        uses,
        seconds=SECONDS,
        overhead=priced.overhead,
        tokens=tokens,
        share_idle=options.share_idle,
        share_overhead=options.share_overhead,
    )
    if options.name:
        session.tenant(options.name)
    window = Window(session.now, session.now + timedelta(seconds=SECONDS))
    if options.format == "focus":
        print(focus(found, window, account="cluster", region=prices.region), end="")
    elif options.format == "opencost":
        emit({"code": 200, "data": allocations(found, uses, window)}, Form.JSON)
    elif options.output in (Form.JSON, Form.YAML):
        emit(_plain(found, in_cents(found), options.name), options.output)
    else:
        print(_text(found, in_cents(found), options.name))
        if priced.unknown:
            unknown = ", ".join(sorted(priced.unknown))
            print(f"\nno price is known for {unknown}: priced at OpenCost's defaults per core and GiB")
    return 0


def price(nodes: Iterable[Node], prices: Book) -> Priced:
    """What each node costs a month by the price book, with its disk and address; and what the cluster itself costs.

    A type that the book does not know (a laptop's) is priced per core and GiB, as OpenCost does, and nothing is added.
    """
    priced, unknown, known = [], set(), False
    for node in nodes:
        milli = parse_quantity(node.status.capacity.get("cpu", "0"))
        memory = parse_quantity(node.status.capacity.get("memory", "0")) // 1000
        kind = node.metadata.labels.get(TYPE, "")
        instance = prices.instances.get(kind)
        if instance is None:
            unknown.add(kind or "nodes without a type")
            micro_hour = Fraction(milli, 1000) * CORE_HOUR + Fraction(memory, GIB) * GIB_HOUR
            nano = int(micro_hour * 1000 * HOURS)
        else:
            known = True
            spot = any(node.metadata.labels.get(label) == value for label, value in SPOT.items())
            hour = instance.spot if spot else instance.on_demand
            disk, address = prices.prices["ebs.gp3"], prices.prices["ipv4"]
            pico = (hour.pico_usd + address.pico_usd) * HOURS + disk.pico_usd * DISK
            nano = pico // 1000
        priced.append(NodeCost(node.metadata.name, nano, milli, memory))
    return Priced(priced, prices.prices["eks.cluster"].pico_usd * HOURS // 1000 if known else 0, unknown)


def taken(session: Session) -> list[Use]:
    """What each Tenant's pods, and all others, take of each node: max(request, use) for a month."""
    used: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    try:
        for each in session.api.get(POD_METRICS, PodMetricsList).items:
            line = used[each.metadata.namespace, each.metadata.name]
            for container in each.containers:
                line[0] += measured(container.usage.get("cpu", "0"), 1000)
                line[1] += measured(container.usage.get("memory", "0"), 1)
    except (errors.NotFound, errors.ServerError):
        used.clear()  # no metrics API: by requests alone, as OpenCost without metrics
    totals: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    pods = session.api.get("/api/v1/pods", Pods, fieldSelector="status.phase=Running").items
    for pod in pods:
        if not pod.spec.node_name:
            continue
        asked = [each.resources.requests for each in pod.spec.containers]
        now = used.get((pod.metadata.namespace, pod.metadata.name), [0, 0])
        line = totals[pod.metadata.labels.get(OF_TENANTS, ""), pod.spec.node_name]
        line[0] += max(sum(parse_quantity(each.get("cpu", 0)) for each in asked), now[0])
        line[1] += max(sum(parse_quantity(each.get("memory", 0)) for each in asked) // 1000, now[1])
    return [
        Use(tenant, node, milli * SECONDS, memory * SECONDS)
        for (tenant, node), (milli, memory) in sorted(totals.items())
    ]


def _text(found: Statement, cents: Cents, name: str | None) -> str:
    rows = [
        (
            line.tenant,
            *map(_usd, (line.cpu, line.memory, line.idle, line.overhead, line.tokens)),
            _cents(cents.tenants[line.tenant]),
        )
        for line in sorted(found.lines, key=lambda line: (-line.total, line.tenant))
        if name in (None, line.tenant)
    ]
    header = ("NAME", "CPU", "MEMORY", "IDLE", "OVERHEAD", "TOKENS", "TOTAL")
    if name:
        return table(header, rows)
    none = ("", "", "", "", "")
    rows += [
        ("<idle>", *none, _cents(cents.idle)),
        ("<overhead>", *none, _cents(cents.overhead)),
        ("<all>", *none, _cents(cents.bill)),
    ]
    return table(header, rows)


def _plain(found: Statement, cents: Cents, name: str | None) -> Mapping[str, object]:
    tenants = [
        {
            "name": line.tenant,
            **{part: format_usd(getattr(line, part)) for part in ("cpu", "memory", "idle", "overhead", "tokens")},
            "totalUsd": _cents(cents.tenants[line.tenant]),
        }
        for line in found.lines
        if name in (None, line.tenant)
    ]
    return {
        "hours": HOURS,
        "tenants": tenants,
        "idleUsd": _cents(cents.idle),
        "overheadUsd": _cents(cents.overhead),
        "billUsd": _cents(cents.bill),
    }


def _usd(nano: int) -> str:
    return _cents(round(Fraction(nano, 10_000_000)))


def _cents(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02}"


def add(parse: argparse.ArgumentParser) -> None:
    """The options of `cost`."""
    parse.add_argument("name", nargs="?", metavar="TENANT")
    parse.add_argument("--format", choices=("table", "opencost", "focus"), default="table", help="public formats")
    parse.add_argument("--region", default="us-east-1", help="of the price book (%(default)s)")
    parse.add_argument("--prices", type=Path, metavar="FILE", help="prices of your own, as `tenantry cost` takes them")
    for what in ("idle", "overhead"):
        parse.add_argument(
            f"--share-{what}",
            type=Sharing,
            choices=list(Sharing),
            default=Sharing.KEEP,
            help=f"what becomes of {what} cost (keep: a line of its own)",
        )
