"""What each answer says about each system: a table. Where a limit is AWS's own, its page stands beside it."""

from enum import IntEnum
from typing import NamedTuple

from tenantry_cost.bill import System

from tenantry_advise.questions import Answer, Operator, Runtime, Traffic, Unit


class Weight(IntEnum):
    """How much a reason counts; RULED_OUT ends it."""

    RULED_OUT = -100
    STRONGLY_AGAINST = -2
    AGAINST = -1
    NEITHER = 0
    FOR = 1
    STRONGLY_FOR = 2


class Rule(NamedTuple):
    """A reason for or against a system that follows from an answer (None: whatever is answered)."""

    answer: Answer | None
    system: System
    weight: Weight
    reason: str


_ECS, _EC2, _LAMBDA, _EKS, _APP_RUNNER = System

RULES = (
    # https://docs.aws.amazon.com/apprunner/latest/dg/apprunner-availability-change.html
    Rule(
        None,
        _APP_RUNNER,
        Weight.RULED_OUT,
        "takes no new customers since spring 2026; ECS Express Mode is in its place",
    ),
    # https://docs.aws.amazon.com/apprunner/latest/dg/develop.html: a request may take 120 s
    Rule(Unit.MINUTES, _APP_RUNNER, Weight.RULED_OUT, "ends a request after 120 seconds"),
    Rule(Unit.LONGER, _APP_RUNNER, Weight.RULED_OUT, "ends a request after 120 seconds"),
    # https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
    Rule(Unit.LONGER, _LAMBDA, Weight.RULED_OUT, "ends a function after 15 minutes"),
    Rule(Unit.MINUTES, _LAMBDA, Weight.STRONGLY_AGAINST, "bills every second that it waits for a model"),
    Rule(Unit.SECONDS, _LAMBDA, Weight.FOR, "a short unit of work is what a function is made for"),
    Rule(Unit.LONGER, _EC2, Weight.FOR, "nothing ends a long request but you"),
    Rule(Unit.LONGER, _EKS, Weight.AGAINST, "a Spot notice is two minutes: long streams want On-Demand nodes"),
    # https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task_definition_parameters.html: stopTimeout
    Rule(Unit.LONGER, _ECS, Weight.AGAINST, "a task that is replaced has 120 seconds to end its streams"),
    Rule(Unit.SECONDS, _ECS, Weight.FOR, "requests end within a task's two minutes of notice"),
    Rule(Unit.SECONDS, _EKS, Weight.FOR, "requests end within a Spot node's two minutes of notice"),
    Rule(Unit.MINUTES, _EKS, Weight.FOR, "a replacement takes over before a pod has to go, streams go on meanwhile"),
    Rule(Traffic.STEADY, _LAMBDA, Weight.STRONGLY_AGAINST, "a function that always waits is the dearest way to wait"),
    Rule(Traffic.STEADY, _EC2, Weight.FOR, "steady load fills instances that are paid for anyway"),
    Rule(Traffic.STEADY, _EKS, Weight.FOR, "steady load packs well on few nodes"),
    Rule(Traffic.BURSTS, _LAMBDA, Weight.FOR, "grows with each request"),
    Rule(Traffic.BURSTS, _ECS, Weight.FOR, "a new task serves within a minute, without room kept free"),
    Rule(Traffic.BURSTS, _EKS, Weight.FOR, "a new pod serves within seconds where there is room"),
    Rule(Traffic.BURSTS, _EC2, Weight.AGAINST, "a new instance serves after minutes"),
    Rule(Traffic.RARE, _LAMBDA, Weight.STRONGLY_FOR, "costs nothing while nobody asks"),
    Rule(Traffic.RARE, _ECS, Weight.AGAINST, "tasks and load balancer cost the same while nobody asks"),
    Rule(Traffic.RARE, _EC2, Weight.AGAINST, "instances and load balancer cost the same while nobody asks"),
    Rule(Traffic.RARE, _EKS, Weight.STRONGLY_AGAINST, "has the highest floor, and it is paid while nobody asks"),
    Rule(Runtime.SMALL, _LAMBDA, Weight.FOR, "starts fast when it is small"),
    Rule(Runtime.IMAGE, _LAMBDA, Weight.AGAINST, "a big image starts slowly, and 10 GB is the most"),
    # https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs-gpu.html
    Rule(Runtime.ACCELERATED, _ECS, Weight.RULED_OUT, "Fargate has no GPUs"),
    Rule(Runtime.ACCELERATED, _LAMBDA, Weight.RULED_OUT, "has no GPUs"),
    Rule(Runtime.ACCELERATED, _APP_RUNNER, Weight.RULED_OUT, "has no GPUs"),
    Rule(Runtime.ACCELERATED, _EKS, Weight.FOR, "schedules GPUs among workloads"),
    Rule(Runtime.ACCELERATED, _EC2, Weight.FOR, "has every kind of GPU"),
    Rule(Operator.NOBODY, _EKS, Weight.RULED_OUT, "a cluster wants an upgrade every year, and somebody who dares"),
    Rule(Operator.NOBODY, _EC2, Weight.STRONGLY_AGAINST, "instances want patches, and somebody who makes them"),
    Rule(Operator.NOBODY, _ECS, Weight.STRONGLY_FOR, "AWS runs and patches the machines"),
    Rule(Operator.NOBODY, _LAMBDA, Weight.STRONGLY_FOR, "there is nothing to run or patch"),
    Rule(Operator.DEVELOPERS, _ECS, Weight.STRONGLY_FOR, "little to learn: a task definition and a service"),
    Rule(Operator.DEVELOPERS, _LAMBDA, Weight.FOR, "little to learn: a function and its URL"),
    Rule(Operator.DEVELOPERS, _EKS, Weight.AGAINST, "Kubernetes is a second job"),
    Rule(Operator.DEVELOPERS, _EC2, Weight.AGAINST, "images, patches and processes are theirs to look after"),
    Rule(
        Operator.PLATFORM_TEAM, _EKS, Weight.STRONGLY_FOR, "the team has it already, and each customer is one resource"
    ),
)
