"""The kind cluster's configuration: one for laptop, CI and tests. Pure: facts in, a document out.

kind reads YAML (kind.x-k8s.io/v1alpha4, kind.sigs.k8s.io/docs/user/configuration); JSON is YAML, and needs no library.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from localcluster.machine import Cgroups

REGION = "local-1"
ZONES = ("local-1a", "local-1b")

#: Workers of a cluster, unless more are asked for: a node can go, and there is another.
WORKERS = 2

#: Number of capability CAP_SYS_RESOURCE (capabilities(7)).
CAP_SYS_RESOURCE = 24


@dataclass(frozen=True)
class Spec:
    """What the configuration depends on."""

    name: str
    image: str
    node_ports: tuple[int, ...]
    own_image: bool
    cgroups: Cgroups
    missing_capabilities: frozenset[int]
    workers: int = WORKERS


def kind_config(spec: Spec) -> str:
    """Return kind's configuration document."""
    nodes: list[dict[str, object]] = [
        {
            "role": "control-plane",
            "image": spec.image,
            "labels": {"tenantry.dev/role": "system", **capacity_labels("on-demand", ZONES[0])},
            # Taints given here replace kubeadm's; none means that the platform may run on this node.
            "kubeadmConfigPatches": [_registration("InitConfiguration", spec.name, "control-plane", ZONES[0])],
            "extraPortMappings": [
                {"containerPort": port, "hostPort": port, "listenAddress": "127.0.0.1", "protocol": "TCP"}
                for port in spec.node_ports
            ],
        },
        *(_worker(spec, number) for number in range(spec.workers)),
    ]
    document = {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "name": spec.name,
        # Packet filters of one kind on every machine; nftables is not in every kernel's proxy yet.
        "networking": {"apiServerAddress": "127.0.0.1", "kubeProxyMode": "iptables"},
        "kubeadmConfigPatches": cluster_patches(spec),
        "nodes": nodes,
    }
    return json.dumps(document, indent=2)


def _worker(spec: Spec, number: int) -> dict[str, object]:
    zone = ZONES[number % len(ZONES)]
    node = f"worker-{zone}" if number < len(ZONES) else f"worker-{zone}-{number}"
    return {
        "role": "worker",
        "image": spec.image,
        "labels": capacity_labels("spot", zone),
        "kubeadmConfigPatches": [_registration("JoinConfiguration", spec.name, node, zone)],
    }


def capacity_labels(capacity: str, zone: str) -> dict[str, str]:
    """Return the labels by which Karpenter and EKS managed node groups tell Spot from on-demand, and the topology."""
    return {
        "karpenter.sh/capacity-type": capacity,
        "eks.amazonaws.com/capacityType": capacity.replace("-", "_").upper(),
        "topology.kubernetes.io/zone": zone,
        "topology.kubernetes.io/region": REGION,
    }


def provider_id(cluster: str, node: str, zone: str) -> str:
    """Return a provider id of the form that EC2 nodes have (aws:///<zone>/i-<17 hex digits>), fixed per node."""
    return f"aws:///{zone}/i-{hashlib.sha256(f'{cluster}/{node}'.encode()).hexdigest()[:17]}"


def cluster_patches(spec: Spec) -> list[str]:
    """Return the patches of kubeadm's documents that the machine or our own image needs; none on an ordinary laptop."""
    kubelet: dict[str, object] = {}
    patches = []
    if spec.own_image:
        # Debian's containerd and systemd in a container: the kubelet makes its cgroups itself.
        kubelet |= {"cgroupDriver": "cgroupfs", "cgroupRoot": "/kubelet", "resolvConf": "/kind/pods-resolv.conf"}
    if spec.cgroups is Cgroups.V1:
        kubelet["failCgroupV1"] = False  # Kubernetes 1.35 refuses v1 unless told (KEP-5573)
    if CAP_SYS_RESOURCE in spec.missing_capabilities:
        # The kubelet then goes on when it cannot set an OOM score or a kernel parameter (KEP-2033).
        kubelet["featureGates"] = {"KubeletInUserNamespace": True}
    if kubelet:
        patches.append(_document("kubelet.config.k8s.io/v1beta1", "KubeletConfiguration", kubelet))
    if spec.missing_capabilities:
        # kube-proxy leaves the kernel's connection tracking as it is.
        conntrack = {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"}
        patches.append(
            _document("kubeproxy.config.k8s.io/v1alpha1", "KubeProxyConfiguration", {"conntrack": conntrack})
        )
    return patches


def _registration(kind: str, cluster: str, node: str, zone: str) -> str:
    # kubeadm's v1beta3, in which extra arguments are a map, is what kind writes for Kubernetes before 1.36.
    registration: dict[str, object] = {"kubeletExtraArgs": {"provider-id": provider_id(cluster, node, zone)}}
    if kind == "InitConfiguration":
        registration["taints"] = []
    return _document("", kind, {"nodeRegistration": registration})


def _document(api_version: str, kind: str, content: dict[str, object]) -> str:
    head: dict[str, object] = {"apiVersion": api_version} if api_version else {}
    return json.dumps({**head, "kind": kind, **content})


def cluster_name(name: str, checkout_id: str) -> str:
    """Return kind's name for a checkout's cluster; node names (and so host names) begin with it."""
    return f"tenantry-{name}-{checkout_id[:6]}"


def worker_names(kind_name: str, workers: int = WORKERS) -> list[str]:
    """Return what kind calls the workers: containers and nodes alike."""
    return [f"{kind_name}-worker{number if number > 1 else ''}" for number in range(1, workers + 1)]
