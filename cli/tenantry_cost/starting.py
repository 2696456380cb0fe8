"""The comparison that this platform started from, line by line beside what the price book says of the same set-ups.

What it claimed, in USD a month: ECS Fargate 150-200, EC2 Auto Scaling 60-100, Lambda 50-100, EKS on Spot 80-120,
App Runner 100-150: one small application on two containers or nodes, 30,000 requests of 30 s, PostgreSQL, a cache.
"""

from enum import StrEnum
from fractions import Fraction
from typing import NamedTuple

from tenantry_cost.bill import Item, Kind, System, item
from tenantry_cost.book import HOURS, Book
from tenantry_cost.systems import FREE_LAMBDA_GB_SECONDS, LAMBDA_MEMORY_GB

REQUESTS = 30_000
SECONDS = 30
#: What passes a NAT gateway, in GB a month, and what the balancer is charged for: half a capacity unit.
NAT_GB = 50
LCU = Fraction(1, 2)


class Verdict(StrEnum):
    """A claim against what the price book says."""

    RIGHT = "right"
    TOO_LOW = "too low"
    TOO_HIGH = "too high"
    MISSING = "was missing"
    UNSTATED = "no figure of its own"


class Line(NamedTuple):
    """One claim in whole USD (None: the comparison had no figure for it), and what it comes to: least and most, in
    cents."""

    what: str
    claimed: tuple[int, int] | None
    low: int
    high: int
    remark: str = ""

    @property
    def verdict(self) -> Verdict:
        """Right when the computed range and the claimed one meet."""
        if self.claimed is None:
            return Verdict.UNSTATED
        least, most = (100 * usd for usd in self.claimed)
        if most == 0:
            return Verdict.MISSING if self.high else Verdict.RIGHT
        if self.low > most:
            return Verdict.TOO_LOW
        return Verdict.TOO_HIGH if self.high < least else Verdict.RIGHT


class Compared(NamedTuple):
    """One system: what the comparison's headline said, what its own table added up to, and the lines."""

    system: System
    total: Line
    table: tuple[int, int]
    lines: tuple[Line, ...]


def comparison(book: Book) -> list[Compared]:
    """The five systems, as they were meant then."""
    return [_ecs(book), _ec2(book), _lambda(book), _eks(book), _app_runner(book)]


def _compared(system: System, claimed: tuple[int, int], table: tuple[int, int], remark: str, *lines: Line) -> Compared:
    low, high = sum(line.low for line in lines), sum(line.high for line in lines)
    return Compared(system, Line("total", claimed, low, high, remark), table, lines)


def _ecs(book: Book) -> Compared:
    arm = _fargate(book, "arm")
    return _compared(
        System.ECS_FARGATE,
        (150, 200),
        (200, 255),
        "though the lines of its own table begin where its headline ends; their most is 245, not 255",
        Line(
            "2 tasks, 0.5 vCPU, 1 GB",
            (60, 80),
            arm,
            _fargate(book, "x86"),
            "least on arm64, most on x86: half of what was claimed",
        ),
        Line("2 NAT gateways", (90, 90), *_both(_nat(book, 2)), "90 only from some 380 GB a month"),
        _balancer(book),
        Line("database", (15, 25), *_both(_database(book, "rds.t3.micro"))),
        Line("cache, 2 nodes", (15, 25), *_both(_cents(_cache(book, "cache.redis.t3.micro", 2)))),
    )


def _ec2(book: Book) -> Compared:
    one = _node(book, spot=False)
    return _compared(
        System.EC2_ASG,
        (60, 100),
        (80, 125),
        "with one instance; two cost more",
        Line("1-2 t4g.medium On-Demand, with disk and IPv4", None, one, 2 * one, "public IPv4 was not counted"),
        _balancer(book),
        *_small_datastores(book),
    )


def _lambda(book: Book) -> Compared:
    charged = REQUESTS * SECONDS * LAMBDA_MEMORY_GB - FREE_LAMBDA_GB_SECONDS
    compute = _cents(item(Kind.COMPUTE, "", charged, book.prices["lambda.arm.memory"]))
    return _compared(
        System.LAMBDA,
        (50, 100),
        (45, 90),
        "at 30,000 requests a month; waiting is billed too, so a hundred times as many cost hundreds",
        Line("function, 512 MB", None, *_both(compute), "almost all of it is in the free 400,000 GB-seconds"),
        Line(
            "NAT gateway", (0, 0), *_both(_nat(book, 1)), "in the VPC of its datastores it cannot reach a model without"
        ),
        *_small_datastores(book),
    )


def _eks(book: Book) -> Compared:
    cluster = _cents(item(Kind.CONTROL_PLANE, "", HOURS, book.prices["eks.cluster"]))
    spot = 2 * _node(book, spot=True)
    return _compared(
        System.EKS,
        (80, 120),
        (90, 135),
        "the control plane was left out; most is with one On-Demand node for the system",
        Line("control plane", (0, 0), *_both(cluster)),
        Line(
            "2 t4g.medium Spot, with disk and IPv4",
            (40, 60),
            spot,
            spot + _node(book, spot=False),
            "two Spot nodes alone cost less; with one On-Demand node beside them it is right",
        ),
        _balancer(book),
        *_small_datastores(book),
    )


def _app_runner(book: Book) -> Compared:
    memory = _cents(item(Kind.COMPUTE, "", 2 * HOURS, book.prices["apprunner.memory"]))
    active = _cents(item(Kind.COMPUTE, "", HOURS, book.prices["apprunner.vcpu"]))
    return _compared(
        System.APP_RUNNER,
        (100, 150),
        (80, 120),
        "when it is always active; the service takes no new customers since spring 2026",
        Line("1 vCPU, 2 GB", None, memory, memory + active, "least when idle, most when always active"),
        Line("NAT gateway", (0, 0), *_both(_nat(book, 1)), "a VPC connector sends all outgoing traffic into the VPC"),
        *_small_datastores(book),
    )


def _small_datastores(book: Book) -> tuple[Line, Line]:
    return (
        Line("database", (15, 25), _database(book, "rds.t4g.micro"), _database(book, "rds.t3.micro")),
        Line(
            "cache",
            (15, 25),
            _cents(_cache(book, "cache.valkey.t4g.micro", 1)),
            _cents(_cache(book, "cache.redis.t3.micro", 1)),
        ),
    )


def _balancer(book: Book) -> Line:
    cents = _cents(
        item(Kind.LOAD_BALANCER, "", HOURS, book.prices["alb.hour"]),
        item(Kind.LOAD_BALANCER, "", LCU * HOURS, book.prices["alb.lcu"]),
        item(Kind.LOAD_BALANCER, "", 2 * HOURS, book.prices["ipv4"]),
    )
    return Line("load balancer, 2 IPv4, half a capacity unit", None, cents, cents)


def _fargate(book: Book, architecture: str) -> int:
    vcpu, memory = (book.prices[f"fargate.{architecture}.{part}"] for part in ("vcpu", "memory"))
    return _cents(item(Kind.COMPUTE, "", HOURS, vcpu), item(Kind.COMPUTE, "", 2 * HOURS, memory))


def _nat(book: Book, count: int) -> int:
    return _cents(
        item(Kind.EGRESS, "", count * HOURS, book.prices["nat.hour"]),
        item(Kind.EGRESS, "", NAT_GB, book.prices["nat.data"]),
        item(Kind.EGRESS, "", count * HOURS, book.prices["ipv4"]),
    )


def _node(book: Book, *, spot: bool) -> int:
    node = book.instances["t4g.medium"]
    return _cents(
        item(Kind.COMPUTE, "", HOURS, node.spot if spot else node.on_demand),
        item(Kind.COMPUTE, "", 20, book.prices["ebs.gp3"]),
        item(Kind.COMPUTE, "", HOURS, book.prices["ipv4"]),
    )


def _database(book: Book, instance: str) -> int:
    return _cents(
        item(Kind.DATABASE, "", HOURS, book.prices[instance]),
        item(Kind.DATABASE, "", 20, book.prices["rds.storage"]),
    )


def _cache(book: Book, node: str, count: int) -> Item:
    return item(Kind.CACHE, "", count * HOURS, book.prices[node])


def _cents(*items: Item) -> int:
    return sum(each.cents for each in items)


def _both(cents: int) -> tuple[int, int]:
    return cents, cents
