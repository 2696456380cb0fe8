"""The operator killed without notice while it provisions: it goes on, makes nothing twice and issues one key."""

import base64
import time

import pytest

from tests.e2e.world import COUNTS_ALONE, World, answers, namespace, until

OPERATOR = ("--namespace=tenantry-system", "--selector=app.kubernetes.io/component=operator")


@pytest.mark.parametrize("delay", [0.0, 0.3, 0.8], ids=lambda delay: f"after {delay} s")
def test_an_operator_killed_while_provisioning_converges_with_one_key(world: World, delay: float) -> None:
    name = f"killed-{round(delay * 10)}"
    with world.tenant(name):
        time.sleep(delay)
        world.kubectl("delete", "pods", *OPERATOR, "--grace-period=0", "--force", "--wait=false")
        key = first_key(world, name)
        world.wait_ready(name)
        access = world.access(name)
        assert access.key == key
        until(lambda: answers(access), "the endpoint answers", pause=0.05)
        secrets = [item["metadata"]["name"] for item in world.items("secrets", "--namespace", namespace(name))]
        assert [each for each in secrets if each.startswith("key-")] == ["key-default"]
        assert len(world.pods(name)) == 1
        sets = world.items("replicasets", "--namespace", namespace(name))
        assert len(sets) == 1, "the Deployment was rolled over although nothing had changed"


def test_a_tenants_endpoint_does_not_need_the_operator(world: World) -> None:
    with world.tenant("alone", limits=COUNTS_ALONE):
        world.wait_ready("alone")
        access = world.access("alone")
        until(lambda: answers(access), "the endpoint answers", pause=0.05)
        world.kubectl("scale", "deployment/tenantry-operator", "--namespace=tenantry-system", "--replicas=0")
        try:
            until(lambda: not world.items("pods", *OPERATOR), "the operator is gone")
            until(lambda: answers(access), "the endpoint answers without it", pause=0.5)
        finally:
            world.kubectl("scale", "deployment/tenantry-operator", "--namespace=tenantry-system", "--replicas=1")
            world.kubectl("rollout", "status", "deployment/tenantry-operator", "--namespace=tenantry-system")


def first_key(world: World, name: str) -> str:
    """Return the first key that is issued: no later one may take its place."""
    place = ("secret", "key-default", "--namespace", namespace(name))
    until(lambda: world.exists(*place), "the key is issued", pause=0.1)
    return base64.b64decode(world.get(*place)["data"]["api-key"]).decode()
