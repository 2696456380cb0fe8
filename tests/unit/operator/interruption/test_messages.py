"""Every shape of message that EventBridge and Auto Scaling put into the queue."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from tenantry_operator.interruption.messages import PoisonError, signals
from tenantry_operator.interruption.signals import Kind, Source

NOW = datetime(2026, 3, 1, 12, 0, 7, tzinfo=UTC)
SENT = "2026-03-01T12:00:00Z"
AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
INSTANCE = "i-0b662ef9931388ba0"


def event(kind: str, source: str, resources: list[str], **detail: object) -> str:
    """An event in EventBridge's envelope."""
    envelope = {"version": "0", "id": "1e5527d7-bb36-4607-3370-4164db56a40e", "account": "123456789012"}
    head = {"detail-type": kind, "source": source, "time": SENT, "region": "us-east-1", "resources": resources}
    return json.dumps({**envelope, **head, "detail": detail})


def health(category: str = "scheduledChange", **detail: object) -> str:
    """An event of AWS Health."""
    code = "AWS_EC2_PERSISTENT_INSTANCE_RETIREMENT_SCHEDULED"
    whole = {"service": "EC2", "eventTypeCode": code, "eventTypeCategory": category, **detail}
    return event("AWS Health Event", "aws.health", ["i-1111", "i-2222"], **whole)


Expected = list[tuple[Kind, str, datetime | None]]

#: What becomes of an instance in each of its states.
STATES: dict[str, Expected] = {
    "pending": [],
    "running": [],
    "stopping": [(Kind.STOPPING, INSTANCE, AT + timedelta(seconds=20))],
    "shutting-down": [(Kind.STOPPING, INSTANCE, AT + timedelta(seconds=20))],
    "stopped": [(Kind.GONE, INSTANCE, AT)],
    "terminated": [(Kind.GONE, INSTANCE, AT)],
}

#: Message -> kind, instances and deadline of the signals that it is.
SHAPES: dict[str, tuple[str, Expected]] = {
    # The ARN has a zone where a region should be, and no account: only the detail counts.
    "spot interruption": (
        event(
            "EC2 Spot Instance Interruption Warning",
            "aws.ec2",
            [f"arn:aws:ec2:us-east-1b:instance/{INSTANCE}"],
            **{"instance-id": INSTANCE, "instance-action": "terminate"},
        ),
        [(Kind.SPOT, INSTANCE, AT + timedelta(seconds=120))],
    ),
    "capacity reservation interruption": (
        event(
            "EC2 Capacity Reservation Instance Interruption Warning",
            "aws.ec2",
            [],
            **{"instance-id": INSTANCE, "instance-action": "terminate"},
        ),
        [(Kind.SPOT, INSTANCE, AT + timedelta(seconds=120))],
    ),
    "rebalance": (
        event("EC2 Instance Rebalance Recommendation", "aws.ec2", [], **{"instance-id": INSTANCE}),
        [(Kind.REBALANCE, INSTANCE, None)],
    ),
    **{
        f"state {state}": (
            event("EC2 Instance State-change Notification", "aws.ec2", [], **{"instance-id": INSTANCE, "state": state}),
            expected,
        )
        for state, expected in STATES.items()
    },
    "health of two instances": (
        health(
            startTime="Sat, 07 Mar 2026 15:10:09 GMT",
            affectedEntities=[{"entityValue": "i-1111"}, {"entityValue": "i-2222"}],
        ),
        [(Kind.MAINTENANCE, each, datetime(2026, 3, 7, 15, 10, 9, tzinfo=UTC)) for each in ("i-1111", "i-2222")],
    ),
    "health that names its instances as resources only": (
        health(startTime="Sat, 07 Mar 2026 15:10:09 GMT"),
        [(Kind.MAINTENANCE, each, datetime(2026, 3, 7, 15, 10, 9, tzinfo=UTC)) for each in ("i-1111", "i-2222")],
    ),
    "health that is only news": (health("accountNotification"), []),
    "health of another service": (health(service="RDS"), []),
    "group termination": (
        event(
            "EC2 Instance-terminate Lifecycle Action",
            "aws.autoscaling",
            [],
            LifecycleActionToken="87654321",
            AutoScalingGroupName="spot",
            LifecycleHookName="drain",
            EC2InstanceId=INSTANCE,
            LifecycleTransition="autoscaling:EC2_INSTANCE_TERMINATING",
        ),
        [(Kind.GROUP, INSTANCE, None)],
    ),
    "group launch": (
        event(
            "EC2 Instance-terminate Lifecycle Action",
            "aws.autoscaling",
            [],
            EC2InstanceId=INSTANCE,
            LifecycleTransition="autoscaling:EC2_INSTANCE_LAUNCHING",
        ),
        [],
    ),
    "group termination, straight from the group": (
        json.dumps(
            {
                "LifecycleHookName": "drain",
                "AccountId": "123456789012",
                "RequestId": "7b7",
                "LifecycleTransition": "autoscaling:EC2_INSTANCE_TERMINATING",
                "AutoScalingGroupName": "spot",
                "Service": "AWS Auto Scaling",
                "Time": SENT,
                "EC2InstanceId": INSTANCE,
                "LifecycleActionToken": "8",
            }
        ),
        [(Kind.GROUP, INSTANCE, None)],
    ),
    "the group's first words": (
        json.dumps({"AccountId": "1", "Event": "autoscaling:TEST_NOTIFICATION", "AutoScalingGroupName": "spot"}),
        [],
    ),
    "an event that we do not know": (event("EC2 Fleet Instance Change", "aws.ec2", [], **{"sub-type": "x"}), []),
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_message_is_understood(name: str) -> None:
    body, expected = SHAPES[name]
    found = signals(body, NOW)
    assert [(each.kind, each.instance, each.deadline) for each in found] == expected
    assert all(each.source is Source.QUEUE and each.since <= NOW for each in found)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "no JSON",
        "[]",
        "{}",
        '{"detail": []}',
        '{"detail-type": "EC2 Spot Instance Interruption Warning", "detail": {}}',
        '{"detail-type": "EC2 Instance Rebalance Recommendation", "detail": {"instance-id": "vol-1"}}',
        health(startTime="soon"),
    ],
)
def test_what_nobody_can_make_sense_of_is_poison(body: str) -> None:
    with pytest.raises(PoisonError):
        signals(body, NOW)


@pytest.mark.parametrize("said", ['"1970-01-01T00:00:00Z"', '"2099-01-01T00:00:00Z"', "null"])
def test_a_time_that_cannot_be_true_is_replaced_by_that_of_the_reading(said: str) -> None:
    (notice,) = signals(SHAPES["spot interruption"][0].replace(f'"{SENT}"', said), NOW)
    assert notice.deadline == NOW + timedelta(seconds=120)
