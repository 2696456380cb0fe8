"""Keys that are replaced, end and are refused, as the API server's objects show it."""

import base64
import hashlib
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.cluster.cluster import TENANTS, Cluster, eventually
from tests.cluster.installation import Installation
from tests.cluster.operator_process import Operators


@pytest.fixture(scope="module")
def pair(cluster: Cluster, installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operators]:
    """Two operators that both work: each has a Lease of its own, so that nothing keeps one from writing."""
    cluster.tier()
    operators = Operators(installation.operator, tmp_path_factory.mktemp("pair"))
    running = [operators.start(lease=f"racer-{number}") for number in range(2)]
    try:
        for operator in running:
            operator.says("synced")
        yield operators
        cluster.empty()
    finally:
        operators.end()


@pytest.fixture
def name(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[str]:
    """A tenant's name of the test's own."""
    unique = f"t-{hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:8]}"
    yield unique
    cluster.delete(f"{TENANTS}/{unique}")


def held(cluster: Cluster, name: str) -> tuple[str, dict[str, Any]]:
    """The key that the Secret shows, and the note beside it."""
    secret = cluster.key(name)
    assert secret is not None
    note = json.loads(secret["metadata"]["annotations"]["tenantry.dev/key"])
    return base64.b64decode(secret["data"]["api-key"]).decode(), note


def key_id(key: str) -> str:
    return key.split("_")[1]


def rotated_to(cluster: Cluster, name: str, rotation: int) -> None:
    """Wait until the Secret shows the key of this rotation."""
    eventually("the key is replaced", lambda: held(cluster, name)[1].get("rotation", 0) == rotation)


def in_force(cluster: Cluster, name: str, ids: set[str]) -> None:
    """Wait until the policy knows exactly these keys."""
    eventually("the policy follows", lambda: {key["id"] for key in cluster.policy(name)["keys"]} == ids)


def told(cluster: Cluster, name: str, reason: str) -> list[str]:
    """The notes of all Events with this reason about the Tenant."""
    listed = cluster.call("GET", "/apis/events.k8s.io/v1/namespaces/default/events")["items"]
    return [each["note"] for each in listed if each["regarding"]["name"] == name and each["reason"] == reason]


def test_two_operators_at_once_issue_one_key_for_each_rotation(cluster: Cluster, pair: Operators, name: str) -> None:
    cluster.tenant(name)
    cluster.wait_for(name, "Ready", "True")
    shown = [held(cluster, name)[0]]
    for rotation in range(1, 6):
        cluster.tenant(name, keys=[{"name": "default", "rotation": rotation}])
        rotated_to(cluster, name, rotation)
        shown.append(held(cluster, name)[0])
        in_force(cluster, name, {key_id(key) for key in shown})
    for operator in pair.started:
        operator.settles()  # the slower of the two has had its say
    key, note = held(cluster, name)
    assert key == shown[-1]
    assert sorted(each["id"] for each in note["former"]) == sorted(key_id(each) for each in shown[:-1])
    assert len(told(cluster, name, "KeyRotated")) == 5
    late = pair.start(lease="racer-late").says("synced")
    time.sleep(2)
    assert late.written() == {}, "one that is started anew finds all keys as they should be"
    assert late.stop() == 0
    for operator in pair.started:
        log = operator.log.read_text()
        assert not [each for each in shown if each.split("_", 2)[2] in log]


def test_a_former_key_is_forgotten_when_its_grace_ends(cluster: Cluster, pair: Operators, name: str) -> None:
    spec = {"name": "default", "gracePeriod": "40s"}  # both are looked at before it ends, also on a slow machine
    cluster.tenant(name, keys=[spec])
    cluster.wait_for(name, "Ready", "True")
    former, _ = held(cluster, name)
    cluster.tenant(name, keys=[spec | {"rotation": 1}])
    eventually("the policy holds both", lambda: len(cluster.policy(name)["keys"]) == 2)
    current, _ = held(cluster, name)
    first, second = cluster.policy(name)["keys"]
    assert (first["id"], second["id"]) == (key_id(current), key_id(former))
    assert first.get("expiresAt") is None
    until = datetime.fromisoformat(second["expiresAt"])
    (note,) = eventually("an Event tells", lambda: told(cluster, name, "KeyRotated") or None)
    assert f"tn_{key_id(former)}, which is good until" in note
    eventually("the policy forgets the former", lambda: len(cluster.policy(name)["keys"]) == 1, patience=150)
    assert datetime.now(UTC) >= until
    assert cluster.policy(name)["keys"][0]["id"] == key_id(current)
    eventually("the Secret forgets it, too", lambda: "former" not in held(cluster, name)[1])


def test_without_grace_a_rotation_revokes_at_once_and_a_shorter_grace_ends_what_there_is(
    cluster: Cluster, pair: Operators, name: str
) -> None:
    cluster.tenant(name)
    cluster.wait_for(name, "Ready", "True")
    cluster.tenant(name, keys=[{"name": "default", "rotation": 1}])
    eventually("the policy holds both", lambda: len(cluster.policy(name)["keys"]) == 2)
    cluster.tenant(name, keys=[{"name": "default", "rotation": 1, "gracePeriod": "0s"}])
    eventually("the former is refused", lambda: len(cluster.policy(name)["keys"]) == 1)
    before = held(cluster, name)[0]
    cluster.tenant(name, keys=[{"name": "default", "rotation": 2, "gracePeriod": "0s"}])
    eventually("there is a new one", lambda: held(cluster, name)[0] != before)
    current = key_id(held(cluster, name)[0])
    eventually("it alone is good", lambda: [key["id"] for key in cluster.policy(name)["keys"]] == [current])


def test_a_key_that_ends_soon_is_reported_and_so_is_its_end(cluster: Cluster, pair: Operators, name: str) -> None:
    # So late that it is reported before, also on a slow machine.
    end = (datetime.now(UTC) + timedelta(seconds=40)).isoformat(timespec="seconds")
    cluster.tenant(name, keys=[{"name": "default", "expiresAt": end}])
    cluster.wait_for(name, "Ready", "True")
    assert "key default (20" in cluster.wait_for(name, "Degraded", "True", "KeyExpiring")["message"]
    assert cluster.policy(name)["keys"][0]["expiresAt"].startswith(end[:19])
    cluster.wait_for(name, "Degraded", "True", "KeyExpired")
    assert datetime.now(UTC) >= datetime.fromisoformat(end)
    cluster.tenant(name)
    cluster.wait_for(name, "Degraded", "False")
    assert cluster.policy(name)["keys"][0].get("expiresAt") is None
