"""What is remembered of tenants' pods."""

import msgspec
from tenantry_operator.pods import LivePod, Pod, Pods, pod


def live(name: str = "api-1", version: int = 5, tenant: str = "acme", **changes: object) -> Pod:
    labels = {"tenantry.dev/tenant": tenant, "tenantry.dev/serve": "yes", "tenantry.dev/pool": "active"}
    metadata = {"name": name, "uid": f"uid-{name}", "namespace": "tenant-acme", "resourceVersion": str(version)}
    status = {"phase": "Running", "podIP": "10.0.0.7", "conditions": [{"type": "Ready", "status": "True"}]}
    raw = {
        "metadata": {**metadata, "labels": labels, **changes},
        "spec": {"nodeName": "node-1"},
        "status": status,
    }
    return pod(msgspec.convert(raw, LivePod))


def test_a_ready_pod_of_the_service_serves() -> None:
    seen = live()
    assert (seen.tenant, seen.ip, seen.node, seen.ready, seen.cost) == ("acme", "10.0.0.7", "node-1", True, 0)
    assert seen.serving
    assert not live(deletionTimestamp="2026-01-01T00:00:00Z").serving


def test_its_deletion_cost_is_read_and_nonsense_is_none() -> None:
    assert live(annotations={"controller.kubernetes.io/pod-deletion-cost": "-7"}).cost == -7
    assert live(annotations={"controller.kubernetes.io/pod-deletion-cost": "much"}).cost == 0


def test_a_pod_with_our_label_in_somebody_elses_namespace_is_nobodys() -> None:
    pods = Pods()
    pods.changed(live(tenant="bert"), gone=False)
    assert not list(pods)


def test_old_news_is_no_news() -> None:
    pods, told = Pods(), []
    pods.listeners.append(lambda item, gone: told.append((item.version, gone)))
    pods.changed(live(version=5), gone=False)
    pods.changed(live(version=4), gone=False)
    pods.changed(live(version=5), gone=False)
    assert told == [(5, False)]
    pods.changed(live(version=9), gone=True)
    assert told[1:] == [(9, True)]
    assert pods.of("acme") == []


def test_a_new_list_finds_what_went_unseen_and_keeps_what_is_newer() -> None:
    pods, told = Pods(), []
    for name, version in (("gone", 3), ("stays", 4), ("newer", 12)):
        pods.changed(live(name, version), gone=False)
    pods.listeners.append(lambda item, gone: told.append((item.name, gone)))
    pods.listed([live("stays", 4)], "10")
    assert told == [("gone", True)]
    assert {each.name for each in pods.of("acme")} == {"stays", "newer"}
    assert [each.name for each in pods.on_node("node-1")] == ["stays", "newer"]
