"""A statement of cost: nodes by the OpenCost rule, shared parts by a declared policy, tokens as they were priced.

The rule (https://github.com/opencost/opencost/blob/develop/spec/opencost-specv01.md): a workload costs
max(request, use) of each resource for as long as it runs; what nobody asked for is idle; what serves everybody is
overhead. A node's price is split into CPU and memory in the ratio of OpenCost's default prices, scaled so that the
parts are the price.

Money is integer nano-USD throughout. Each division is by largest remainder, so for every input
tenants + idle + overhead = bill, to the last nano-dollar; :func:`in_cents` keeps that to the cent.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from tenantry_showback.apportion import apportion

#: OpenCost's default prices, in micro-USD per core-hour and GiB-hour (configs/aws.json); only their ratio counts here.
CORE_HOUR, GIB_HOUR = 31_611, 4_237

GIB = 2**30
NANO_PER_CENT = 10_000_000


class Sharing(StrEnum):
    """What happens to cost that is no tenant's own."""

    KEEP = "keep"  # a line of its own
    EVEN = "even"  # the same for every tenant
    PROPORTIONAL = "proportional"  # by what each tenant's pods cost
    TOKENS = "tokens"  # by what each tenant's tokens cost


class NodeCost(NamedTuple):
    """A node over the window: its price for all of it, and what it has to give."""

    name: str
    nano_usd: int
    cpu_milli: int
    memory_bytes: int


class Use(NamedTuple):
    """What one owner's pods took of one node: max(request, use) times the seconds. ``tenant`` "" is the platform."""

    tenant: str
    node: str
    cpu_milli_seconds: int
    memory_byte_seconds: int


class Line(NamedTuple):
    """One tenant's cost, in nano-USD."""

    tenant: str
    cpu: int
    memory: int
    idle: int
    overhead: int
    tokens: int

    @property
    def compute(self) -> int:
        """What its own pods cost."""
        return self.cpu + self.memory

    @property
    def total(self) -> int:
        """All of it."""
        return self.cpu + self.memory + self.idle + self.overhead + self.tokens


class Statement(NamedTuple):
    """Everything that a window cost, and who for."""

    lines: tuple[Line, ...]
    #: What no tenant was given: paid for and not asked for, and what serves all.
    idle: int
    overhead: int

    @property
    def bill(self) -> int:
        """The sum of all of it."""
        return sum(line.total for line in self.lines) + self.idle + self.overhead


class Cents(NamedTuple):
    """A statement in whole cents: the bill is rounded once, and the parts add up to it."""

    tenants: Mapping[str, int]
    idle: int
    overhead: int
    bill: int


def state(
    nodes: Iterable[NodeCost],
    uses: Iterable[Use],
    *,
    seconds: int,
    overhead: int = 0,
    tokens: Mapping[str, int] | None = None,
    share_idle: Sharing = Sharing.KEEP,
    share_overhead: Sharing = Sharing.KEEP,
) -> Statement:
    """The statement of a window of ``seconds``.

    ``overhead``: what is paid for no node (control plane, load balancer, addresses); pods of the platform are added to
    it. ``tokens``: what each tenant's tokens cost. A tenant is who is in ``uses`` or ``tokens``. Cost that is to be
    shared, with nobody to share it by that policy, is kept. Uses on nodes that are not given cost nothing.
    """
    tokens = tokens or {}
    taken: dict[str, list[Use]] = defaultdict(list)
    names: set[str] = set(tokens)
    for use in uses:
        taken[use.node].append(use)
        names.add(use.tenant)
    names.discard("")
    cpu: dict[str, int] = defaultdict(int)
    memory: dict[str, int] = defaultdict(int)
    idle = 0
    for node in nodes:
        cpu_price, memory_price = _split(node)
        there = taken[node.name]
        cpu_parts = _among(cpu_price, [use.cpu_milli_seconds for use in there], node.cpu_milli * seconds)
        memory_parts = _among(memory_price, [use.memory_byte_seconds for use in there], node.memory_bytes * seconds)
        for use, cpu_part, memory_part in zip(there, cpu_parts, memory_parts, strict=False):
            cpu[use.tenant] += cpu_part
            memory[use.tenant] += memory_part
        idle += cpu_parts[-1] + memory_parts[-1]
    overhead += cpu.pop("", 0) + memory.pop("", 0)
    tenants = sorted(names)
    compute = [cpu[name] + memory[name] for name in tenants]
    paid = [tokens.get(name, 0) for name in tenants]
    idle_shares, idle = _shared(idle, share_idle, compute, paid)
    overhead_shares, overhead = _shared(overhead, share_overhead, compute, paid)
    lines = tuple(
        Line(name, cpu[name], memory[name], idle_shares[at], overhead_shares[at], paid[at])
        for at, name in enumerate(tenants)
    )
    return Statement(lines, idle, overhead)


def in_cents(statement: Statement) -> Cents:
    """The bill rounded half up to the cent, and its parts such that they add up to that."""
    cents = (2 * statement.bill + NANO_PER_CENT) // (2 * NANO_PER_CENT)
    parts = [*(line.total for line in statement.lines), statement.idle, statement.overhead]
    *tenants, idle, overhead = apportion(cents, parts) if statement.bill else [0] * len(parts)
    return Cents(
        {line.tenant: amount for line, amount in zip(statement.lines, tenants, strict=True)}, idle, overhead, cents
    )


def _split(node: NodeCost) -> list[int]:
    """A node's price as price of its CPU and price of its memory."""
    cpu, memory = node.cpu_milli * CORE_HOUR * GIB, node.memory_bytes * GIB_HOUR * 1000
    return apportion(node.nano_usd, [cpu, memory] if cpu + memory else [1, 1])


def _among(price: int, demands: Sequence[int], capacity: int) -> list[int]:
    """Each demand's part of a price, and at the end the idle part. Demands beyond the capacity share all of it."""
    idle = max(0, capacity - sum(demands))
    return apportion(price, [*demands, idle if idle or any(demands) else 1])


def _shared(amount: int, sharing: Sharing, compute: Sequence[int], tokens: Sequence[int]) -> tuple[list[int], int]:
    """What each tenant gets of an amount, and what is kept."""
    weights = {
        Sharing.KEEP: [0] * len(compute),
        Sharing.EVEN: [1] * len(compute),
        Sharing.PROPORTIONAL: compute,
        Sharing.TOKENS: tokens,
    }[sharing]
    if not any(weights):
        return [0] * len(compute), amount
    return apportion(amount, weights), 0
