"""From EventBridge to a hand-over: the rules and the queue of infra/eks/cluster.yaml, made by a stand-in for AWS, the
operator as a process that reads the queue with signed requests, and a real API server."""

import re
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tenantry_operator.interruption.signals import SPOT_NOTICE, Kind, Mark, Source

from tests.cluster.cluster import Cluster, eventually
from tests.cluster.installation import Installation
from tests.cluster.kubectl import ROOT
from tests.cluster.leaving import NODES, has_moved, only_pod, tenants
from tests.cluster.operator_process import Operators
from tests.component.infra.sqs import ACCESS, left, put_events, stand_in

#: Seconds that are left of a notice when it arrives: long enough for a busy machine.
REST = 40


@pytest.fixture
def operators(installation: Installation, tmp_path: Path) -> Iterator[Operators]:
    """Operators of a test."""
    running = Operators(installation.operator, tmp_path)
    yield running
    running.end()


def event(kind: str, detail: dict[str, str], time: datetime) -> dict[str, object]:
    """An event of EC2, in the shape that its user guide shows: the ARN has a zone in it, and no account.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html
    """
    return {
        "version": "0",
        "detail-type": kind,
        "source": "aws.ec2",
        "account": "123456789012",
        "time": f"{time:%Y-%m-%dT%H:%M:%SZ}",
        "region": "us-east-1",
        "resources": [f"arn:aws:ec2:us-east-1b:instance/{detail['instance-id']}"],
        "detail": detail,
    }


def test_an_event_on_the_bus_becomes_a_hand_over(cluster: Cluster, operators: Operators) -> None:
    with stand_in(ROOT / "infra/eks/cluster.yaml") as url:
        operator = operators.start("--interruption-queue-url", url, environment=ACCESS).says("synced")
        with tenants(cluster, "noticed"):
            _, node = only_pod(cluster, "noticed")
            instance = cluster.call("GET", f"{NODES}/{node}")["spec"]["providerID"].rpartition("/")[2]
            noticed = datetime.now(UTC).replace(microsecond=0) - SPOT_NOTICE + timedelta(seconds=REST)
            gone = {"instance-id": instance, "instance-action": "terminate"}
            strange = {"instance-id": "i-0b662ef9931388ba0", "state": "shutting-down"}
            put_events(
                url,
                [
                    event("EC2 Spot Instance Interruption Warning", gone, noticed),
                    event("EC2 Instance State-change Notification", strange, noticed),
                    event("EC2 Instance State-change Notification", {**strange, "state": "running"}, noticed),
                ],
            )

            def noted() -> Mark | None:
                notes = cluster.call("GET", f"{NODES}/{node}")["metadata"]["annotations"]
                return Mark.decode(notes.get("tenantry.dev/interruption", ""))

            mark = eventually("it is noted on the node", noted)
            assert (mark.kind, mark.source) == (Kind.SPOT, Source.QUEUE)
            assert (mark.since, mark.deadline) == (noticed, noticed + SPOT_NOTICE)
            eventually("the messages are deleted once they are noted", lambda: left(url) == 0)
            taints = cluster.call("GET", f"{NODES}/{node}")["spec"]["taints"]
            assert {"key": "tenantry.dev/leaving", "value": "Spot", "effect": "NoSchedule"} in taints
            page = eventually(
                "the status page shows it", lambda: found if node in (found := page_of(operators)) else None
            )
            assert re.search(rf"{node}</th><td>Spot interruption[^<]*</td><td>{mark.deadline:%H:%M:%S} UTC", page)
            eventually("its pod has moved", lambda: has_moved(cluster, "noticed", node), patience=REST + 90)
        signals = "tenantry_interruption_signals_total"
        assert operator.metric(f'{signals}{{kind="Spot",known="yes",source="queue"}}') == 1
        assert operator.metric(f'{signals}{{kind="Stopping",known="no",source="queue"}}') == 1
        assert operator.metric("tenantry_interruption_messages_set_aside_total") == 0
        assert operator.metric("tenantry_handovers_total") == 1


def page_of(operators: Operators) -> str:
    """The status page of the operator that was started."""
    (operator,) = operators.started
    (port,) = [line["page_port"] for line in operator.lines() if "page_port" in line]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
        return str(answer.read().decode())
