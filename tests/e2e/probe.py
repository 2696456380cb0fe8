"""A pod on every node that answers over HTTP, and questions whether it can be reached every way that matters."""

import json
import subprocess
import urllib.error
import urllib.request

from localcluster import tools
from localcluster.cluster import Cluster

#: A pod per node that answers "OK" over HTTP, from an image that every node image brings.
PROBE = {
    "apiVersion": "apps/v1",
    "kind": "DaemonSet",
    "metadata": {"name": "probe"},
    "spec": {
        "selector": {"matchLabels": {"app": "probe"}},
        "template": {
            "metadata": {"labels": {"app": "probe"}},
            "spec": {
                "terminationGracePeriodSeconds": 1,
                "containers": [
                    {
                        "name": "probe",
                        "image": "registry.k8s.io/coredns/coredns:v1.13.1",
                        "imagePullPolicy": "Never",
                        "args": ["-conf", "/etc/coredns/Corefile"],
                        "readinessProbe": {"httpGet": {"path": "/health", "port": 8080}, "periodSeconds": 1},
                        "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns"}],
                    }
                ],
                "volumes": [{"name": "config", "configMap": {"name": "probe"}}],
            },
        },
    },
}
CONFIG = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "probe"},
    "data": {"Corefile": ".:5353 {\n  health :8080\n}\n"},
}


def kubectl(cluster: Cluster, *argv: str, manifest: object = None) -> str:
    """Run kubectl and return what it printed."""
    done = subprocess.run(
        [tools.kubectl(), "--kubeconfig", cluster.kubeconfig, *argv],
        input=None if manifest is None else json.dumps(manifest),
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def answers(cluster: Cluster) -> bool:
    """Whether twelve requests in a row to the probe's host port are answered, so each of the pods behind it."""
    url = f"http://127.0.0.1:{cluster.node_ports[0]}/health"
    try:
        for _ in range(12):
            with urllib.request.urlopen(url, timeout=2) as response:
                assert response.read() == b"OK"
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return False
    return True


def pods_reach_each_other(cluster: Cluster) -> bool:
    """Whether every node reaches every probe pod by the pod's own address."""
    addresses = kubectl(cluster, "get", "pods", "-l", "app=probe", "-o", "jsonpath={.items[*].status.podIP}").split()
    asked = [
        [*cluster.engine.docker, "exec", node, "timeout", "2", "bash", "-c", f"exec 3<>/dev/tcp/{address}/8080"]
        for node in (cluster.control_plane, *cluster.workers)
        for address in addresses
    ]
    return len(addresses) == 3 and all(subprocess.run(argv, capture_output=True).returncode == 0 for argv in asked)


def install(cluster: Cluster) -> None:
    """Run the probe on every node, behind the first host port, and wait for it."""
    port = {"port": 80, "targetPort": 8080, "nodePort": cluster.node_ports[0]}
    service = {"type": "NodePort", "selector": {"app": "probe"}, "ports": [port]}
    manifest = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "probe"}, "spec": service}
    for part in (CONFIG, PROBE, manifest):
        kubectl(cluster, "apply", "-f", "-", manifest=part)
    kubectl(cluster, "rollout", "status", "daemonset/probe", "--timeout=120s")
