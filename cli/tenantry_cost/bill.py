"""Line items and bills: exact fractions until an item is rounded to its cent, then only whole cents.

AWS rounds each line of an invoice to the cent and adds up the lines; so does this, and a bill's total is always the sum
of what is shown.
"""

from datetime import date
from enum import StrEnum
from fractions import Fraction
from typing import NamedTuple

from tenantry_cost.book import Price

_PICO_PER_CENT = 10**10


class System(StrEnum):
    """The five places where the same image can run."""

    ECS_FARGATE = "ecs-fargate"
    EC2_ASG = "ec2-asg"
    LAMBDA = "lambda"
    EKS = "eks"
    APP_RUNNER = "app-runner"


class Kind(StrEnum):
    """What a line is for."""

    CONTROL_PLANE = "control plane"
    COMPUTE = "compute"
    SYSTEM_NODES = "system nodes"
    LOAD_BALANCER = "load balancer"
    EGRESS = "way out"
    TRANSFER = "data transfer"
    DATABASE = "database"
    CACHE = "cache"
    OPERATION = "operation"


class Item(NamedTuple):
    """A line of a bill: ``quantity`` units at a price, in whole cents."""

    kind: Kind
    what: str
    quantity: Fraction
    unit: str
    cents: int
    pico_usd: int
    seen: date
    source: str


class Bill(NamedTuple):
    """What one system costs in a month; ``impossible`` says why the workload cannot run there at all."""

    system: System
    items: tuple[Item, ...]
    impossible: str = ""
    remarks: tuple[str, ...] = ()

    @property
    def cents(self) -> int:
        """The sum of the items."""
        return sum(item.cents for item in self.items)

    def of(self, *kinds: Kind) -> int:
        """The sum of some kinds of items, in cents."""
        return sum(item.cents for item in self.items if item.kind in kinds)


def item(kind: Kind, what: str, quantity: Fraction | int, price: Price) -> Item:
    """A line, rounded half up to the cent."""
    exact = Fraction(quantity) * price.pico_usd
    cents = (2 * exact.numerator + exact.denominator * _PICO_PER_CENT) // (2 * exact.denominator * _PICO_PER_CENT)
    return Item(kind, what, Fraction(quantity), price.unit, cents, price.pico_usd, price.seen, price.source)


def usd(cents: int) -> str:
    """Cents as dollars: ``1,234.50``."""
    sign = "-" if cents < 0 else ""
    return f"{sign}{abs(cents) // 100:,}.{abs(cents) % 100:02}"
