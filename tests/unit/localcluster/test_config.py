"""The cluster's configuration: Spot workers of two zones, an on-demand system node, patches only where needed."""

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from localcluster.config import (
    CAP_SYS_RESOURCE,
    Spec,
    cluster_name,
    cluster_patches,
    kind_config,
    provider_id,
    worker_names,
)
from localcluster.machine import Cgroups

LAPTOP = Spec("tenantry-demo-abc123", "kindest/node:v1.35.4", (30080, 30081), False, Cgroups.V2, frozenset())


def nodes(spec: Spec) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(kind_config(spec))["nodes"]
    return found


def test_two_workers_are_spot_nodes_of_two_zones() -> None:
    workers = [node["labels"] for node in nodes(LAPTOP) if node["role"] == "worker"]
    assert len(workers) == 2
    assert all(isinstance(labels, dict) for labels in workers)
    assert [labels["karpenter.sh/capacity-type"] for labels in workers] == ["spot", "spot"]
    assert [labels["eks.amazonaws.com/capacityType"] for labels in workers] == ["SPOT", "SPOT"]
    assert len({labels["topology.kubernetes.io/zone"] for labels in workers}) == 2
    assert len({labels["topology.kubernetes.io/region"] for labels in workers}) == 1


def test_the_control_plane_is_the_on_demand_system_node_and_takes_pods() -> None:
    node = nodes(LAPTOP)[0]
    assert node["role"] == "control-plane"
    assert node["labels"]["eks.amazonaws.com/capacityType"] == "ON_DEMAND"
    assert node["labels"]["tenantry.dev/role"] == "system"
    [patch] = node["kubeadmConfigPatches"]
    assert json.loads(patch)["nodeRegistration"]["taints"] == []


def test_every_node_has_a_provider_id_of_its_own_in_ec2_form() -> None:
    patches = [json.loads(node["kubeadmConfigPatches"][0])["nodeRegistration"] for node in nodes(LAPTOP)]
    ids = [patch["kubeletExtraArgs"]["provider-id"] for patch in patches]
    assert len(set(ids)) == 3
    assert all(re.fullmatch(r"aws:///[a-z0-9-]+/i-[0-9a-f]{17}", found) for found in ids)
    assert provider_id("c", "n", "z") == provider_id("c", "n", "z")


def test_more_workers_are_more_spot_nodes_of_the_same_zones_with_names_and_ids_of_their_own() -> None:
    more = nodes(replace(LAPTOP, workers=5))
    assert [node["labels"]["karpenter.sh/capacity-type"] for node in more[1:]] == ["spot"] * 5
    ids = {node["kubeadmConfigPatches"][0] for node in more}
    assert len(ids) == 6
    assert [node["kubeadmConfigPatches"] for node in more[:3]] == [
        node["kubeadmConfigPatches"] for node in nodes(LAPTOP)
    ]
    assert worker_names("c", 3) == ["c-worker", "c-worker2", "c-worker3"]


def test_host_port_and_node_port_are_the_same_number_on_loopback() -> None:
    mappings = nodes(LAPTOP)[0]["extraPortMappings"]
    assert [(m["hostPort"], m["containerPort"]) for m in mappings] == [(30080, 30080), (30081, 30081)]
    assert {m["listenAddress"] for m in mappings} == {"127.0.0.1"}


def test_an_ordinary_laptop_needs_no_patch() -> None:
    assert cluster_patches(LAPTOP) == []


@pytest.mark.parametrize(
    ("spec", "kubelet"),
    [
        (replace(LAPTOP, cgroups=Cgroups.V1), {"failCgroupV1": False}),
        (
            replace(LAPTOP, missing_capabilities=frozenset({CAP_SYS_RESOURCE})),
            {"featureGates": {"KubeletInUserNamespace": True}},
        ),
        (
            replace(LAPTOP, own_image=True),
            {"cgroupDriver": "cgroupfs", "cgroupRoot": "/kubelet", "resolvConf": "/kind/pods-resolv.conf"},
        ),
    ],
)
def test_the_kubelet_is_patched_for_what_the_machine_or_image_lacks(spec: Spec, kubelet: dict[str, object]) -> None:
    patch = json.loads(cluster_patches(spec)[0])
    assert patch.pop("kind") == "KubeletConfiguration"
    assert patch.pop("apiVersion") == "kubelet.config.k8s.io/v1beta1"
    assert patch == kubelet


def test_two_checkouts_have_different_cluster_names_that_are_valid_host_names() -> None:
    names = {cluster_name("test", "aaaaaaaa"), cluster_name("test", "bbbbbbbb"), cluster_name("demo", "aaaaaaaa")}
    assert len(names) == 3
    assert all(re.fullmatch(r"[a-z0-9-]{1,40}", name) for name in names)
