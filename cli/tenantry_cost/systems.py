"""The five systems as functions from a workload to a bill. Pure: what they cost is what the templates in infra/ make.

Each is sized for its busiest hour; scaling in during quiet hours makes it cheaper, which is not promised here.
"""

from fractions import Fraction
from math import ceil

from tenantry_cost.bill import Bill, Item, Kind, System, item
from tenantry_cost.book import HOURS, Book, Instance
from tenantry_cost.workload import Isolation, Workload

#: Memory that a tenant's process asks for, in MiB: the default of a Tenant's `resources.requests.memory`.
PROCESS_MEMORY = 96
#: CPU that it asks for, in thousandths of one: the default of `resources.requests.cpu`. Of small nodes this is what
#: runs out first; tiers that ask for less pack denser.
PROCESS_CPU = 100
#: What DaemonSets (or the host) take of each node, in MiB, and in pods.
NODE_MEMORY = 250
NODE_PODS = 5
#: The same of CPU: kube-proxy 100, aws-node 75; and what EKS keeps for the kubelet (60 of the first, 10 of the second).
NODE_CPU = 175
KUBELET_CPU = 70
#: `max-pods` with prefix delegation, as infra/eks sets it.
MAX_PODS = 110
#: Target groups of one Application Load Balancer; not adjustable
#: (https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-limits.html).
TARGET_GROUPS = 100
NODE_DISK_GB = 20
DATABASE_GB = 20
#: `redis.volume.size` of charts/tenantry/values-eks.yaml.
REDIS_GB = 8
SYSTEM_NODE = "t4g.medium"
#: What stands for the Spot group's several types: one that is seldom interrupted.
SPOT_NODE = "m7g.large"
#: AWS gives these for free every month: data to the internet, and Lambda's two units.
FREE_TRANSFER_GB = 100
FREE_LAMBDA_GB_SECONDS = 400_000
FREE_LAMBDA_REQUESTS = 1_000_000
LAMBDA_MEMORY_GB = Fraction(1, 2)
LAMBDA_MAX_SECONDS = 900
#: One long poll of 20 s after the other.
QUEUE_POLLS = HOURS * 3600 // 20
ALARMS = 3


def bills(workload: Workload, book: Book) -> list[Bill]:
    """A bill of each system, in the order of `System`."""
    return [_OF[system](workload, book) for system in System]


def ecs_fargate(workload: Workload, book: Book) -> Bill:
    """Fargate tasks on arm64 behind a load balancer; a target group for each tenant with tasks of its own."""
    own = workload.isolation is Isolation.OWN
    tasks = workload.processes
    # 0.25 vCPU and 0.5 GB is the smallest task that there is.
    vcpu, memory = (Fraction(1, 4), Fraction(1, 2)) if own else (Fraction(1, 2), Fraction(1))
    balancers = _balancers(workload, own=own)
    return Bill(
        System.ECS_FARGATE,
        (
            item(Kind.COMPUTE, f"{tasks} tasks arm64, vCPU", tasks * vcpu * HOURS, book.prices["fargate.arm.vcpu"]),
            item(
                Kind.COMPUTE, f"{tasks} tasks arm64, memory", tasks * memory * HOURS, book.prices["fargate.arm.memory"]
            ),
            *_load_balancer(workload, book, balancers),
            *_way_out(workload, book, tasks),
            *_transfer(workload, book),
            *_datastores(workload, book),
        ),
        remarks=(f"{balancers} load balancers: each has at most {TARGET_GROUPS} target groups",)
        if balancers > 1
        else (),
    )


def ec2_asg(workload: Workload, book: Book) -> Bill:
    """Graviton instances, On-Demand, in an Auto Scaling group; processes packed by CPU and memory, two at least,
    of the cheapest type unless one is named."""
    own = workload.isolation is Isolation.OWN
    usable = [each for each in book.instances.values() if workload.node in (None, each.name)]
    instances = min(
        (
            _instances(Kind.COMPUTE, book, each, max(2, _nodes(workload.processes, each, None)), spot=False)
            for each in usable
        ),
        key=_sum,
    )
    balancers = _balancers(workload, own=own)
    remarks = []
    if own:
        remarks.append("starting, moving and watching a process for each tenant is left to you")
    if balancers > 1:
        remarks.append(f"{balancers} load balancers: each has at most {TARGET_GROUPS} target groups")
    return Bill(
        System.EC2_ASG,
        (
            *instances,
            *_load_balancer(workload, book, balancers),
            *_transfer(workload, book),
            *_datastores(workload, book),
        ),
        remarks=tuple(remarks),
    )


def lambda_(workload: Workload, book: Book) -> Bill:
    """A function of 512 MB with a streaming Function URL. It is billed for every second that it waits for a model."""
    if workload.stream_seconds > LAMBDA_MAX_SECONDS:
        return Bill(System.LAMBDA, (), impossible=f"a function ends after {LAMBDA_MAX_SECONDS} s")
    gb_seconds = workload.all_requests * workload.stream_seconds * LAMBDA_MEMORY_GB
    charged = max(Fraction(0), gb_seconds - FREE_LAMBDA_GB_SECONDS)
    requests = max(0, workload.all_requests - FREE_LAMBDA_REQUESTS)
    return Bill(
        System.LAMBDA,
        (
            item(Kind.COMPUTE, "GB-seconds above the free 400,000", charged, book.prices["lambda.arm.memory"]),
            item(Kind.COMPUTE, "requests above the free million", requests, book.prices["lambda.request"]),
            # In the VPC of its datastores a function has no way to the internet but a NAT gateway.
            *(_nat(workload, book, 1) if workload.datastores else ()),
            *_transfer(workload, book),
            *_datastores(workload, book),
        ),
        remarks=("one request at a time for each instance; limits in memory are then no limits: datastores are needed",)
        if not workload.datastores
        else (),
    )


def eks(workload: Workload, book: Book) -> Bill:
    """This platform: one small On-Demand node for the system, Spot nodes for tenants, one load balancer for all."""
    node = book.instances[workload.node or SPOT_NODE]
    nodes = _nodes(workload.processes, node, MAX_PODS)
    return Bill(
        System.EKS,
        (
            item(Kind.CONTROL_PLANE, "cluster, standard support", HOURS, book.prices["eks.cluster"]),
            *_instances(Kind.SYSTEM_NODES, book, book.instances[SYSTEM_NODE], 1, spot=False),
            *_instances(Kind.COMPUTE, book, node, nodes, spot=True),
            *_load_balancer(workload, book, 1),
            *_transfer(workload, book),
            *_database(workload, book),
            *_redis_in_the_cluster(workload, book),
            item(Kind.OPERATION, "interruption queue, long polls", QUEUE_POLLS, book.prices["sqs.request"]),
            item(Kind.OPERATION, "alarms", ALARMS, book.prices["cloudwatch.alarm"]),
        ),
    )


def app_runner(workload: Workload, book: Book) -> Bill:
    """A service for each tenant (0.25 vCPU, 0.5 GB) or one for all (1 vCPU, 2 GB): memory always, vCPU while requests
    are under way."""
    own = workload.isolation is Isolation.OWN
    vcpu, memory = (Fraction(1, 4), Fraction(1, 2)) if own else (Fraction(1), Fraction(2))
    instances = workload.processes if own else max(1, workload.processes - 1)
    load = workload.mean_in_flight if own else workload.tenants * workload.mean_in_flight
    per_service = instances // workload.tenants if own else instances
    # At most as long as there are requests; a process is not more active than always.
    busy = min(Fraction(per_service), load) * (workload.tenants if own else 1)
    return Bill(
        System.APP_RUNNER,
        (
            item(Kind.COMPUTE, "active vCPU", busy * vcpu * HOURS, book.prices["apprunner.vcpu"]),
            item(
                Kind.COMPUTE,
                f"{instances} instances, memory",
                instances * memory * HOURS,
                book.prices["apprunner.memory"],
            ),
            *(_nat(workload, book, 1) if workload.datastores else ()),
            *_transfer(workload, book),
            *_datastores(workload, book),
        ),
        remarks=("closed to new customers since spring 2026; AWS names ECS Express Mode in its place",),
    )


_OF = {
    System.ECS_FARGATE: ecs_fargate,
    System.EC2_ASG: ec2_asg,
    System.LAMBDA: lambda_,
    System.EKS: eks,
    System.APP_RUNNER: app_runner,
}


def _nodes(processes: int, node: Instance, pods: int | None) -> int:
    cpu = 1000 * node.vcpu - KUBELET_CPU - NODE_CPU
    room = min((node.memory - NODE_MEMORY) // PROCESS_MEMORY, cpu // PROCESS_CPU)
    return ceil(processes / (room if pods is None else min(room, pods - NODE_PODS)))


def _balancers(workload: Workload, *, own: bool) -> int:
    return ceil(workload.tenants / TARGET_GROUPS) if own else 1


def _instances(kind: Kind, book: Book, node: Instance, count: int, *, spot: bool) -> tuple[Item, ...]:
    bought, price = ("Spot", node.spot) if spot else ("On-Demand", node.on_demand)
    return (
        item(kind, f"{count} {node.name} {bought}", count * HOURS, price),
        item(kind, f"disks, {NODE_DISK_GB} GB each", count * NODE_DISK_GB, book.prices["ebs.gp3"]),
        item(kind, "public IPv4 of the nodes", count * HOURS, book.prices["ipv4"]),
    )


def _load_balancer(workload: Workload, book: Book, count: int) -> tuple[Item, ...]:
    return (
        item(Kind.LOAD_BALANCER, f"{count} load balancer{'s' * (count > 1)}", count * HOURS, book.prices["alb.hour"]),
        item(Kind.LOAD_BALANCER, "capacity units", workload.lcu * HOURS, book.prices["alb.lcu"]),
        item(Kind.LOAD_BALANCER, "public IPv4 in two zones", count * 2 * HOURS, book.prices["ipv4"]),
    )


def _nat(workload: Workload, book: Book, count: int) -> tuple[Item, ...]:
    return (
        item(Kind.EGRESS, f"{count} NAT gateway{'s' * (count > 1)}", count * HOURS, book.prices["nat.hour"]),
        item(Kind.EGRESS, "NAT, data to and from the models", workload.gb_upstream, book.prices["nat.data"]),
        item(Kind.EGRESS, "public IPv4 of NAT", count * HOURS, book.prices["ipv4"]),
    )


def _way_out(workload: Workload, book: Book, addresses: int) -> tuple[Item, ...]:
    """Public addresses for few tasks, a NAT gateway in each of two zones for many: whichever is cheaper."""
    public = (item(Kind.EGRESS, f"public IPv4 of {addresses} tasks", addresses * HOURS, book.prices["ipv4"]),)
    return min(public, _nat(workload, book, 2), key=_sum)


def _sum(items: tuple[Item, ...]) -> int:
    return sum(each.cents for each in items)


def _transfer(workload: Workload, book: Book) -> tuple[Item, ...]:
    charged = max(Fraction(0), workload.gb_out - FREE_TRANSFER_GB)
    return (item(Kind.TRANSFER, "answers to clients above the free 100 GB", charged, book.prices["transfer.out"]),)


def _datastores(workload: Workload, book: Book) -> tuple[Item, ...]:
    if not workload.datastores:
        return ()
    cache = item(Kind.CACHE, "Valkey cache.t4g.micro", HOURS, book.prices["cache.valkey.t4g.micro"])
    return (*_database(workload, book), cache)


def _database(workload: Workload, book: Book) -> tuple[Item, ...]:
    if not workload.datastores:
        return ()
    return (
        item(Kind.DATABASE, "PostgreSQL db.t4g.micro", HOURS, book.prices["rds.t4g.micro"]),
        item(Kind.DATABASE, f"its disk, {DATABASE_GB} GB", DATABASE_GB, book.prices["rds.storage"]),
    )


def _redis_in_the_cluster(workload: Workload, book: Book) -> tuple[Item, ...]:
    """A pod on the system's node, and a volume."""
    if not workload.datastores:
        return ()
    return (item(Kind.CACHE, f"Redis in the cluster, volume of {REDIS_GB} GB", REDIS_GB, book.prices["ebs.gp3"]),)
