"""`kubectl tenant` against a real API server and operator, as kubectl itself starts it."""

import hashlib
import json
import os
import re
import resource
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from localcluster import tools

from tests.cluster.cluster import TENANTS, Cluster, eventually
from tests.cluster.installation import SYSTEM, Installation
from tests.cluster.operator_process import Operator, Operators

#: The plugin with these arguments after `kubectl tenant`.
Plugin = Callable[..., subprocess.CompletedProcess[str]]

#: Tenants of the list that has to come quickly, and seconds of CPU for it: those of the clock are the machine's, too.
MANY, QUICK = 1000, 1.0
#: As often it is listed at most: what it takes is the least of them, when nothing else gets in its way.
LISTED = 12


@pytest.fixture(scope="module")
def operator(
    cluster: Cluster, installation: Installation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    """The operator at work, and two tiers."""
    cluster.tier(budget={"amount": "100"}, limits={"requestsPerMinute": 60})
    cluster.tier("trial")
    running = Operators(installation.operator, tmp_path_factory.mktemp("plugin"))
    try:
        yield running.start().says("synced")
        cluster.empty()
    finally:
        running.end()


@pytest.fixture(scope="module")
def plugin(cluster: Cluster, control_plane_kubeconfig: Path) -> Plugin:
    """`kubectl tenant …`, with kubectl finding the plugin on PATH."""
    kubectl = tools.kubectl()
    path = os.pathsep.join([str(Path(sys.executable).parent), str(kubectl.parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "KUBECONFIG": str(control_plane_kubeconfig)}

    def run(*arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        argv = [str(kubectl), "tenant", *arguments]
        return subprocess.run(
            argv, env=environment, input=stdin, capture_output=True, text=True, timeout=120, check=False
        )

    return run


@pytest.fixture
def name(request: pytest.FixtureRequest, cluster: Cluster, operator: Operator) -> Iterator[str]:
    """A Ready tenant of the test's own."""
    unique = f"p-{hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:8]}"
    cluster.tenant(unique)
    cluster.wait_for(unique, "Ready", "True")
    yield unique
    cluster.delete(f"{TENANTS}/{unique}")


def told(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1, done.stdout
    assert done.stderr.startswith("error: ")
    return done.stderr


def test_a_thousand_tenants_are_listed_within_a_second_and_on_the_page(
    plugin: Plugin, cluster: Cluster, installation: Installation, tmp_path: Path
) -> None:
    # First of all tests here: no other operator runs. Without their tier, Tenants get a status and nothing to delete.
    for at in range(MANY):
        cluster.tenant(f"many-{at}", tier="nowhere")
    took: list[tuple[float, float]] = []
    while len(took) < 3 or (min(took)[0] > QUICK and len(took) < LISTED):
        begun, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        shown = told(plugin("list"))
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        took.append((busy, time.monotonic() - begun))
        assert sum(line.startswith("many-") for line in shown.splitlines()) == MANY
    print(f"`kubectl tenant list` with {MANY} tenants: {min(took)[0]:.2f} s of CPU, {min(took)[1]:.2f} s in all")
    assert min(took)[0] <= QUICK
    operators = Operators(installation.operator, tmp_path)
    try:
        operator = operators.start().says("synced")
        (port,) = [line["page_port"] for line in operator.lines() if "page_port" in line]
        begun = time.monotonic()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=120) as answer:
            page = answer.read().decode()
        print(f"the status page with {MANY} tenants, from an operator at work: {time.monotonic() - begun:.2f} s")
        assert page.count('<th scope="row">many-') == MANY
    finally:
        operators.end()
    cluster.call("DELETE", TENANTS)
    eventually("all are gone", lambda: not cluster.call("GET", TENANTS)["items"])


def test_list_has_kubectls_columns_and_can_be_filtered_and_sorted(plugin: Plugin, name: str, cluster: Cluster) -> None:
    header, *rows = told(plugin("list")).splitlines()
    assert header.split() == ["NAME", "TIER", "READY", "REASON", "ENDPOINT", "SPEND", "AGE"]
    assert any(re.match(rf"{name} +standard +True +Ready +http://api\.", row) for row in rows)
    assert "NAMESPACE" in told(plugin("list", "-o", "wide"))
    assert told(plugin("list", "--tier", "trial")) == "No Tenant is like that.\n"
    assert f"tenant.tenantry.dev/{name}\n" in told(plugin("list", "-o", "name", "--sort-by", "spend"))
    listed = json.loads(told(plugin("list", "-o", "json")))
    assert (listed["kind"], listed["apiVersion"]) == ("TenantList", "tenantry.dev/v1alpha1")
    assert "no column 'price'; there are: name, tier" in refused(plugin("list", "--sort-by", "price"))
    cluster.tenant(f"{name}-x", tier="nowhere")
    cluster.wait_for(f"{name}-x", "Ready", "False")
    unready = told(plugin("list", "--unready"))
    assert f"{name}-x" in unready
    assert f"{name} " not in unready
    cluster.delete(f"{TENANTS}/{name}-x")


def test_describe_says_all_that_is_known(plugin: Plugin, name: str) -> None:
    shown = told(plugin("describe", name))
    assert re.search(rf"^Namespace: +tenant-{name}$", shown, re.MULTILINE)
    for expected in (
        r"Ready +True +Ready",
        r"Requests per minute: +60",
        r"Tokens per minute: +unlimited",
        r"Budget: +\$100.00 a month, then refuse",
        r"pods +1 +\d+",
        r"api-\S+ +True +Running",
        r"Events:\n",
    ):
        assert re.search(expected, shown), f"{expected}\n{shown}"
    assert yaml.safe_load(told(plugin("describe", name, "-o", "yaml")))["spec"] == {"tier": "standard"}


def test_a_tenant_that_does_not_exist_is_answered_with_what_to_do(plugin: Plugin, name: str) -> None:
    assert f"there is no Tenant '{name}z'; did you mean '{name}'?" in refused(plugin("describe", f"{name}z"))
    assert "`kubectl tenant list` shows which there are" in refused(plugin("usage", "qqqqqqqq"))
    assert "there is no context 'elsewhere'" in refused(plugin("list", "--context", "elsewhere"))


def test_a_key_is_shown_rotated_and_revoked(plugin: Plugin, name: str, cluster: Cluster) -> None:
    first = told(plugin("key", "show", name)).strip()
    assert first.startswith("tn_")
    said = told(plugin("key", "rotate", name, "--grace-period", "1h"))
    second = told(plugin("key", "show", name)).strip()
    assert second != first
    assert f"is now tn_{second.split('_')[1]}; tn_{first.split('_')[1]} stays good until" in said
    rows = told(plugin("key", "list", name))
    assert re.search(rf"default +tn_{second.split('_')[1]} +1 +never +tn_{first.split('_')[1]} until", rows)
    assert second.split("_", 2)[2] not in rows
    assert "the former is refused" in told(plugin("key", "revoke", name))
    third = told(plugin("key", "show", name)).strip()
    good = {third.split("_")[1]}
    eventually("only the new one is good", lambda: {key["id"] for key in cluster.policy(name)["keys"]} == good)
    kept = cluster.call("GET", f"{TENANTS}/{name}")["spec"]["keys"]
    assert kept == [{"name": "default", "rotation": 2, "gracePeriod": "1h"}], "the next rotation has its grace again"
    assert "is the only key" in refused(plugin("key", "revoke", name, "--remove"))
    assert "has no key 'ci'; there are: default" in refused(plugin("key", "rotate", name, "--key", "ci"))
    cluster.tenant(name, keys=[{"name": "default", "rotation": 2}, {"name": "ci"}])
    cluster.wait_for(name, "Ready", "True")
    said = told(plugin("key", "revoke", name, "--key", "ci", "--remove"))
    assert "revoked and removed" in said
    assert "spec.keys is applied by 'tests'; change it there too" in said
    assert cluster.key(name, "ci") is None


def test_suspended_and_resumed(plugin: Plugin, name: str, cluster: Cluster) -> None:
    assert "say what to suspend: --traffic" in refused(plugin("suspend", name))
    assert told(plugin("suspend", name, "--traffic")) == f"tenant/{name} suspended (traffic)\n"
    cluster.wait_for(name, "Suspended", "True", "TrafficSuspended")
    assert "Suspended:" in told(plugin("describe", name))
    told(plugin("resume", name))
    cluster.wait_for(name, "Ready", "True")
    assert "suspend" not in cluster.call("GET", f"{TENANTS}/{name}")["spec"]


def test_history_and_rollback(plugin: Plugin, cluster: Cluster, operator: Operator) -> None:
    cluster.tier("rolled", limits={"requestsPerMinute": 1})
    cluster.tenant("rolled", tier="rolled")
    cluster.wait_for("rolled", "Ready", "True")

    def revision() -> str:
        return str(cluster.call("GET", f"{TENANTS}/rolled")["status"]["applied"]["tierRevision"])

    assert "remembers no other revision" in refused(plugin("rollback", "rolled"))
    before = revision()
    cluster.tier("rolled", limits={"requestsPerMinute": 2})
    eventually("the new revision is in force", lambda: revision() != before)
    cluster.wait_for("rolled", "Ready", "True")
    after = revision()
    shown = told(plugin("history", "rolled"))
    assert shown.index(after) < shown.index(before)
    assert re.search(rf"2 \* +{after} +Ready", shown)
    assert f"goes to {before}" in told(plugin("rollback", "rolled"))
    eventually("the former revision is in force", lambda: revision() == before)
    there = refused(plugin("rollback", "rolled", "--to", "rolled-0000000000"))
    assert before in there
    assert after in there
    told(plugin("rollback", "rolled", "--follow"))
    eventually("the tier's newest is in force again", lambda: revision() == after)
    cluster.delete(f"{TENANTS}/rolled")


def test_diff_of_a_file_shows_the_change_with_its_tiers_defaults_and_changes_nothing(
    plugin: Plugin, name: str, cluster: Cluster, operator: Operator
) -> None:
    operator.settles()
    document = {
        "apiVersion": "tenantry.dev/v1alpha1",
        "kind": "Tenant",
        "metadata": {"name": name},
        "spec": {"tier": "standard", "limits": {"tokensPerMinute": 5}},
    }
    before = cluster.call("GET", f"{TENANTS}/{name}")["metadata"]["resourceVersion"]
    changed = plugin("diff", "-f", "-", stdin=yaml.safe_dump(document))
    assert changed.returncode == 1
    assert "+    tokensPerMinute: 5" in changed.stdout
    assert "-  tokens_per_minute: null" in changed.stdout
    document["spec"] = {"tier": "standard"}
    assert plugin("diff", "-f", "-", stdin=yaml.safe_dump(document)).returncode == 0
    document["spec"] = {"tier": "standard", "limits": {"tokensPerMinute": -5}}
    wrong = plugin("diff", "-f", "-", stdin=yaml.safe_dump(document))
    assert wrong.returncode == 2
    assert "spec.limits.tokensPerMinute" in wrong.stderr
    assert cluster.call("GET", f"{TENANTS}/{name}")["metadata"]["resourceVersion"] == before


def test_diff_of_a_tenant_shows_what_is_held_back_and_what_others_have_set(
    plugin: Plugin, name: str, cluster: Cluster
) -> None:
    assert plugin("diff", name).stdout == ""
    cluster.tenant(name, suspend={"reconcile": True})
    cluster.wait_for(name, "Suspended", "True")
    cluster.tenant(name, suspend={"reconcile": True}, limits={"requestsPerMinute": 7})
    quota = f"/api/v1/namespaces/tenant-{name}/resourcequotas/tenant"
    cluster.apply(quota, {"apiVersion": "v1", "kind": "ResourceQuota", "spec": {"hard": {"pods": "77"}}})
    shown = plugin("diff", name)
    assert shown.returncode == 1
    assert re.search(r"^-    requestsPerMinute: 60\n\+    requestsPerMinute: 7$", shown.stdout, re.MULTILINE)
    assert "! ResourceQuota tenant: tests has set .spec.hard.pods" in shown.stdout


def test_usage_cost_and_top(plugin: Plugin, name: str, cluster: Cluster) -> None:
    usage = {"windowStart": "2026-11-01T00:00:00Z", "requests": 12, "tokens": 3400, "spend": "25.50"}
    cluster.tenant(name, suspend={"reconcile": True})  # or the operator would write what it knows
    cluster.wait_for(name, "Suspended", "True")
    cluster.patch(f"{TENANTS}/{name}/status", {"status": {"usage": usage}})
    assert re.search(rf"{name} +12 +3,400 +25.50 +100.00/month +25% +2026-11-01", told(plugin("usage")))
    assert json.loads(told(plugin("usage", name, "-o", "json")))[0]["usage"]["spend"] == "25.50"
    bill = json.loads(told(plugin("cost", "-o", "json")))
    cents = [round(100 * float(bill[key])) for key in ("idleUsd", "overheadUsd", "billUsd")]
    tenants = {each["name"]: round(100 * float(each["totalUsd"])) for each in bill["tenants"]}
    assert sum(tenants.values()) + cents[0] + cents[1] == cents[2]
    assert tenants[name] > 2550, "its tokens, and its share of a node"
    assert "no price is known for" in told(plugin("cost", "--share-idle", "proportional"))
    shown = json.loads(told(plugin("cost", "--format", "opencost")))
    assert {name, "__idle__"} <= set(shown["data"][0])
    assert told(plugin("cost", "--format", "focus")).startswith("AvailabilityZone,BilledCost,BillingAccountId,")
    assert "install metrics-server" in refused(plugin("top"))


def test_kubectl_completes_commands_and_tenants(plugin: Plugin, name: str, control_plane_kubeconfig: Path) -> None:
    kubectl = tools.kubectl()
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "KUBECONFIG": str(control_plane_kubeconfig)}

    def offered(*typed: str) -> list[str]:
        argv = [str(kubectl), "__complete", "tenant", *typed]
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout.splitlines()

    assert "rollback" in offered("roll")
    assert name in offered("describe", name[:4])


def test_what_the_plugin_reads_is_in_the_platforms_namespace_by_default(plugin: Plugin) -> None:
    assert SYSTEM in told(plugin("history", "--help"))
