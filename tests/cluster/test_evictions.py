"""`kubectl drain` and all others who evict: the API server asks first, and pods are handed over before they go."""

import json
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from localcluster import tools

from tests.cluster.activating import own_address
from tests.cluster.cluster import Cluster, RefusedError, eventually
from tests.cluster.installation import Installation
from tests.cluster.kubectl import rendered
from tests.cluster.leaving import NODES, Watched, endpoints, has_moved, label, only_pod, pods, tenants, under_way
from tests.cluster.operator_process import Operator, Operators
from tests.cluster.pod_proxy import PodProxy
from tests.ports import free_port

WEBHOOK = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/tenantry-evictions"
LEADER = "/api/v1/namespaces/tenantry-system/services/tenantry-leader"
#: Seconds for which an eviction is put off at most, here.
LIMIT = 15


@pytest.fixture
def operators(cluster: Cluster, installation: Installation, streams: PodProxy, tmp_path: Path) -> Iterator[Operators]:
    """Operators that the API server reaches and asks. After the test it asks nobody, as before."""
    (webhook,) = rendered("tenantry", "evictions")
    address = own_address()
    port = free_port(address)
    webhook["webhooks"][0]["clientConfig"]["service"]["port"] = port  # type: ignore[index]
    # Not as short as in the chart: a machine that stands still must not look like an operator that does not answer.
    webhook["webhooks"][0]["timeoutSeconds"] = 30  # type: ignore[index]
    ports = [{"name": "https", "port": port, "targetPort": port, "protocol": "TCP"}]
    cluster.patch(LEADER, {"spec": {"ports": ports}})
    cluster.apply(WEBHOOK, webhook)
    flags = ("--advertise-address", address, "--listen", "0.0.0.0", "--secure-port", str(port))
    running = Operators(installation.operator, tmp_path, always=(*flags, "--pod-proxy", streams.url))
    yield running
    running.end()
    cluster.delete(WEBHOOK)


def started(operators: Operators, *more: str) -> Operator:
    """An operator that answers the API server."""
    return operators.start(*more).says("synced").says("serving metrics and wake-ups")


def evict(cluster: Cluster, pod: str, **options: object) -> str | None:
    """One attempt, without the retries of a client library; why it was put off, or None."""
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod.rpartition("/")[2]}, **options}
    try:
        cluster.call("POST", f"{pod}/eviction", body, patient=False)
    except RefusedError as refusal:
        if refusal.status != 429:
            raise
        return str(refusal)
    return None


def asks(cluster: Cluster, pod: str) -> str:
    """Wait until the API server asks our operator before it evicts; the answer.

    Only tried, so that the pod survives an API server that does not know yet whom to ask.
    """
    return eventually("the API server asks", lambda: evict(cluster, pod, deleteOptions={"dryRun": ["All"]}))


def test_kubectl_drain_waits_until_the_pod_has_been_replaced_and_has_ended_its_streams(
    cluster: Cluster, operators: Operators, streams: PodProxy
) -> None:
    operator = started(operators)
    with tenants(cluster, "drained"):
        old, node = only_pod(cluster, "drained")
        assert "serves until its replacement is ready" in asks(cluster, old)
        assert label(cluster, old, "pool") == "active", "a dry run changes nothing"
        with Watched(cluster, "drained") as watched:
            drain = subprocess.Popen(
                [tools.kubectl(), "--kubeconfig", cluster.kubeconfig, "drain", node, "--delete-emptydir-data"],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            try:
                eventually("its place is taken", lambda: label(cluster, old, "serve") == "no")
                later = 'tenantry_evictions_total{answer="later"}'
                asked = operator.metric(later)
                eventually("it is asked for again", lambda: operator.metric(later) > asked)
                assert drain.poll() is None
                assert label(cluster, old, "pool") == "draining", "its stream is still open"
                streams.says = under_way(0)
                said, _ = drain.communicate(timeout=180)
            finally:
                drain.kill()
            assert drain.returncode == 0, said
            assert has_moved(cluster, "drained", node)
        assert watched.fewest == 1
        assert operator.metric('tenantry_handovers_total{ended="finished",reason="Drain"}') == 1


def test_an_eviction_from_a_node_that_stays_is_a_hand_over_too(
    cluster: Cluster, operators: Operators, streams: PodProxy
) -> None:
    """The descheduler's, for example: nothing is known against the node."""
    streams.says = under_way(0)
    started(operators)
    with tenants(cluster, "moved-on"):
        old, node = only_pod(cluster, "moved-on")
        asks(cluster, old)
        with Watched(cluster, "moved-on") as watched:
            assert evict(cluster, old) is not None
            eventually("it is replaced and gone", lambda: label(cluster, old, "pool") is None)
        assert watched.fewest == 1
        assert not cluster.call("GET", f"{NODES}/{node}")["spec"].get("taints")
        assert len(pods(cluster, "moved-on")) == len(endpoints(cluster, "moved-on")) == 1


def test_no_eviction_is_put_off_for_longer_than_the_limit(cluster: Cluster, operators: Operators) -> None:
    started(operators, "--eviction-limit", str(LIMIT))
    with tenants(cluster, "stubborn"):
        old, _ = only_pod(cluster, "stubborn")
        asks(cluster, old)
        assert evict(cluster, old) is not None
        eventually("its place is taken", lambda: label(cluster, old, "serve") == "no")
        eventually("it may be evicted", lambda: evict(cluster, old) is None, patience=LIMIT + 90)


def test_an_operator_that_does_not_answer_keeps_nobody_from_evicting(cluster: Cluster, operators: Operators) -> None:
    operator = started(operators)
    with tenants(cluster, "orphaned"):
        old, _ = only_pod(cluster, "orphaned")
        asks(cluster, old)
        assert operator.stop() == 0
        assert evict(cluster, old) is None
        assert label(cluster, old, "pool") is None
        operators.start().says("synced")


def test_nobody_but_the_api_server_can_have_a_pod_handed_over(cluster: Cluster, operators: Operators) -> None:
    started(operators)
    with tenants(cluster, "safe"):
        old, _ = only_pod(cluster, "safe")
        asks(cluster, old)
        service = cluster.call("GET", WEBHOOK)["webhooks"][0]["clientConfig"]["service"]
        request = {"uid": "1", "namespace": "tenant-safe", "name": old.rpartition("/")[2]}
        careless = ssl.create_default_context()
        careless.check_hostname, careless.verify_mode = False, ssl.CERT_NONE

        def ask(path: str) -> int:
            url = f"https://{own_address()}:{service['port']}{path}"
            posted = urllib.request.Request(url, data=json.dumps({"request": request}).encode(), method="POST")
            try:
                with urllib.request.urlopen(posted, timeout=30, context=careless) as response:
                    return int(response.status)
            except urllib.error.HTTPError as error:
                return error.code

        assert ask("/evictions/" + "0" * 64) == 401
        assert label(cluster, old, "pool") == "active"
        assert ask(service["path"]) == 200
