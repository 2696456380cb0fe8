"""Many tenants that sleep: a bare control plane, the operator as a process, pods that KWOK plays."""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from localcluster.controlplane import ControlPlane

from tests.cluster.activating import Activator, Pods, start
from tests.cluster.cluster import TENANTS, Cluster
from tests.cluster.installation import install
from tests.cluster.operator_process import Operator, Operators
from tests.cluster.pod_proxy import PodProxy

#: KWOK gives a node 110 pods.
PODS_A_NODE = 100
#: Seconds until all must sleep.
PATIENCE = 900.0
TICKS = os.sysconf("SC_CLK_TCK")


def measured(directory: Path, tenants: int, seconds: float, say: Callable[[str], None]) -> dict[str, float]:
    """All of them may sleep, so all do; then what the operator takes for ``seconds``."""
    began = time.monotonic()

    pods = Pods(idle=600.0)
    nodes = max(5, tenants // PODS_A_NODE + 2)
    with ControlPlane(directory / "control-plane", nodes=nodes) as running, PodProxy(pods) as proxy:
        cluster = Cluster(running.kubeconfig)
        operators = Operators(install(cluster, directory).operator, directory)
        operator, port = start(operators, proxy)
        operator.let_be()  # what is measured is one process
        activator = Activator(cluster, port, at_once=False)
        try:
            cluster.tier("sleeping", autoscaling={"minReplicas": 0, "maxReplicas": 1, "idleAfter": "10s"})
            with ThreadPoolExecutor(8) as users:
                list(users.map(lambda number: cluster.tenant(f"t{number:04}", tier="sleeping"), range(tenants)))
            say(f"{tenants} Tenants are created")

            def asleep() -> int:
                return int(operator.metric("tenantry_tenants_asleep "))

            while asleep() < tenants:
                if time.monotonic() - began > PATIENCE:
                    raise SystemExit(f"only {asleep()} of {tenants} sleep")
                time.sleep(2)
                say(f"{asleep()} sleep")
            after = time.monotonic() - began
            while settling(operator):
                pass
            say("nothing is written any more")
            cpu, writes = cpu_seconds(operator.process.pid), operator.writes()
            time.sleep(seconds)
            cpu, writes = cpu_seconds(operator.process.pid) - cpu, operator.writes() - writes
            left = cluster.call("GET", "/api/v1/pods?labelSelector=tenantry.dev/tenant")["items"]
            statuses = [each["status"]["conditions"][0] for each in cluster.call("GET", TENANTS)["items"]]
            assert all(each["reason"] == "Asleep" and each["status"] == "True" for each in statuses)
            return {
                "tenants": float(tenants),
                "asleep_after_s": after,
                "pods": float(len(left)),
                "cpu": cpu / seconds,
                "writes": writes,
                "rss_mb": operator.metric("process_resident_memory_bytes") / 2**20,
            }
        finally:
            activator.stop()
            operators.end()


def settling(operator: Operator) -> bool:
    """Whether something was written within five seconds."""
    before = operator.writes()
    time.sleep(5)
    return bool(operator.writes() != before)


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far, without its children's."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS
