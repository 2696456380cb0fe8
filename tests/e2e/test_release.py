"""The platform's Helm release: upgraded, refused when wrong, uninstalled and installed again, with Tenants on it."""

import pytest

from tests.e2e.world import CommandError, World, answers, until

SYSTEM = "--namespace=tenantry-system"


def test_a_wrong_value_is_refused_with_its_name(world: World) -> None:
    with pytest.raises(CommandError, match="replicas"):
        world.helm("upgrade", "tenantry", world.chart, "--reuse-values", "--set", "operator.replicas=many")


def test_an_upgrade_with_a_changed_value_leaves_tenants_alone(world: World) -> None:
    with world.tenant("steady"):
        world.wait_ready("steady")
        access = world.access("steady")
        until(lambda: answers(access), "the endpoint answers", pause=0.05)
        (before,) = world.pods("steady")
        settings = ("--reuse-values", "--wait", "--timeout=360s", "--set")
        world.helm("upgrade", "tenantry", world.chart, *settings, "operator.logLevel=debug")
        try:
            operator = world.get("deployment", "tenantry-operator", SYSTEM)["spec"]["template"]["spec"]["containers"][0]
            assert "debug" in str(operator)
            world.wait_ready("steady")
            assert answers(access)
            (after,) = world.pods("steady")
            assert after["metadata"]["uid"] == before["metadata"]["uid"]
            assert world.access("steady").key == access.key
        finally:
            world.helm("upgrade", "tenantry", world.chart, *settings, "operator.logLevel=info")


def test_an_uninstall_leaves_nothing_that_blocks_and_a_reinstall_takes_tenants_up_again(world: World) -> None:
    values = world.helm("get", "values", "tenantry", "--output", "yaml")
    # The development Redis goes with the release, so the one that is to go on says that it may count by itself.
    alone = {"whenUnavailable": "LocalShare"}
    with world.tenant("kept", limits=alone), world.tenant("left", exposed=False):
        world.wait_ready("kept")
        world.wait_ready("left")
        access = world.access("kept")
        until(lambda: answers(access), "the endpoint answers", pause=0.05)
        try:
            world.helm("uninstall", "tenantry", "--wait", "--timeout=360s")
            assert answers(access), "a tenant that is in use keeps its endpoint"
            world.kubectl("delete", "tenant", "left", "--wait", "--timeout=180s")
            until(
                lambda: not world.exists("namespace", "tenant-left"), "nothing blocks the namespace of a deleted Tenant"
            )
        finally:
            argv = ("--install", "tenantry", world.chart, "--values", "-", "--wait", "--timeout=360s")
            world.helm("upgrade", *argv, given=values)
        world.wait_ready("kept")
        assert answers(access)
        assert world.access("kept").key == access.key
        with world.tenant("fresh", exposed=False):
            world.wait_ready("fresh")
