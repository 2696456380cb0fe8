"""`tenantry showback` as the account that the chart gives it: it sees nodes, pods and spend, and nothing else."""

import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.cluster import TENANTS, Cluster, RefusedError, eventually
from tests.cluster.installation import SYSTEM, Installation, kubeconfig_for
from tests.cluster.judges import built, opencost
from tests.cluster.kubectl import ROOT, kubectl_for, rendered
from tests.cluster.operator_process import Operators

#: What is left of an hour at least when a test that counts by the hour begins.
REST_OF_HOUR = timedelta(minutes=2)
#: Of what the chart makes for it.
NEEDED = {"ServiceAccount", "ClusterRole", "ClusterRoleBinding"}


@pytest.fixture(scope="module")
def account(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kubeconfig of the chart's ServiceAccount."""
    made = rendered("tenantry", "showback", values={"showback": {"enabled": True}})
    items = [each for each in made if each["kind"] in NEEDED]
    assert {each["kind"] for each in items} == NEEDED
    listed = {"apiVersion": "v1", "kind": "List", "items": items}
    done = kubectl_for(cluster.kubeconfig)("apply", "--server-side", "--filename", "-", manifest=listed)
    assert done.returncode == 0, done.stderr
    return kubeconfig_for(cluster, "tenantry-showback", tmp_path_factory.mktemp("showback"))


@pytest.fixture(scope="module")
def acme(cluster: Cluster, installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A tenant with a pod, and what it has spent."""
    cluster.tier()
    operators = Operators(installation.operator, tmp_path_factory.mktemp("operator"))
    try:
        operators.start().says("synced")
        cluster.tenant("priced")
        cluster.wait_for("priced", "Ready", "True")
        cluster.tenant("priced", suspend={"reconcile": True})  # or the operator would write what it knows
        cluster.wait_for("priced", "Suspended", "True")
        yield "priced"
        cluster.empty()
    finally:
        operators.end()


@pytest.fixture
def one_hour() -> None:
    """All of the test is in one hour: in the last minutes of one the next is waited for."""
    built("opencost")  # no test's time goes into that
    now = datetime.now(UTC)
    rest = timedelta(hours=1) - timedelta(minutes=now.minute, seconds=now.second)
    if rest < REST_OF_HOUR:
        time.sleep(rest.total_seconds())


def spend(cluster: Cluster, name: str, amount: str) -> None:
    """Say that so much was spent in this window."""
    cluster.patch(f"{TENANTS}/{name}/status", {"status": {"usage": {"spend": amount}}})


@contextmanager
def showback(account: Path, hours: Path) -> Iterator[str]:
    """The process, looking every second; where it answers. Stopped by SIGTERM, after which it ends well."""
    argv = [sys.executable, "-m", "tenantry", "showback", "--data", str(hours), "--every", "1", "--port", "0"]
    argv += ["--host", "127.0.0.1", "--kubeconfig", str(account)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"port (\d+)", process.stdout.readline())
            assert found
            yield f"http://127.0.0.1:{found[1]}"
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=30) == 0
        finally:
            process.kill()


def day(base: str, more: str = "") -> dict[str, Any]:
    """The allocations of the last day."""
    with urllib.request.urlopen(f"{base}/allocation/compute?window=24h&aggregate=tenant{more}", timeout=30) as answer:
        (found,) = json.load(answer)["data"]
    return dict(found)


def test_hours_are_recorded_and_divided_and_outlive_the_process(
    cluster: Cluster, account: Path, acme: str, tmp_path: Path
) -> None:
    spend(cluster, acme, "1.00")
    hours = tmp_path / "hours.db"
    with showback(account, hours) as base:
        seen = eventually("the tenant is seen", lambda: day(base).get(acme))
        assert seen["cpuCores"] == pytest.approx(0.1)
        assert seen["ramBytes"] == pytest.approx(96 * 2**20)
        assert seen["cpuCost"] > 0
        assert seen["externalCost"] == 0, "what was spent before anybody looked is not of this hour"
        spend(cluster, acme, "3.50")
        eventually("its tokens are counted", lambda: day(base)[acme]["externalCost"] == pytest.approx(2.5))
        shares = day(base, "&shareIdle=proportional")
        assert "__idle__" not in shares
        bill, again = (sum(row["totalCost"] for row in found.values()) for found in (day(base), day(base)))
        assert again >= bill > 0
        minutes = day(base)[acme]["minutes"]
    with showback(account, hours) as base:
        eventually("it goes on where it was", lambda: day(base)[acme]["minutes"] > minutes)
        assert day(base)[acme]["externalCost"] == pytest.approx(2.5)


def test_the_guides_questions_are_answered(cluster: Cluster, account: Path, acme: str, tmp_path: Path) -> None:
    asked = re.findall(r"^curl 'http://localhost:9003(/[^']+)'$", (ROOT / "docs/console.md").read_text(), re.MULTILINE)
    assert len(asked) == 2
    with showback(account, tmp_path / "hours.db") as base:
        eventually("the tenant is seen", lambda: day(base).get(acme))
        for target in asked:
            with urllib.request.urlopen(f"{base}{target}", timeout=30) as answer:
                assert answer.status == 200


def test_opencosts_own_types_read_it_and_come_to_the_same_sums(
    cluster: Cluster, account: Path, acme: str, one_hour: None, tmp_path: Path
) -> None:
    spend(cluster, acme, "1.00")
    with showback(account, tmp_path / "hours.db") as base:
        eventually("the tenant is seen", lambda: day(base).get(acme))
        spend(cluster, acme, "8.25")
        eventually("its tokens are counted", lambda: day(base)[acme]["externalCost"] == pytest.approx(7.25))
        now = datetime.now(UTC)
        window = f"{now - timedelta(hours=3):%Y-%m-%dT%H:00:00Z},{now:%Y-%m-%dT%H:%M:%SZ}"
        url = f"{base}/allocation/compute?window={window}&step=1h&aggregate=namespace&shareOverhead=even"
        read = opencost(url)
    assert read["sets"] >= 1
    assert {f"tenant-{acme}", "__idle__"} <= {row["name"] for row in read["rows"]}
    for row in read["rows"]:
        assert row["totalCost"] == pytest.approx(row["saidTotalCost"], abs=1e-9), row["name"]
        assert row["minutes"] == pytest.approx(row["saidMinutes"], abs=1e-6), row["name"]
    assert read["total"] == pytest.approx(sum(row["saidTotalCost"] for row in read["rows"]), abs=1e-9)
    (ours,) = [row for row in read["rows"] if row["namespace"] == f"tenant-{acme}"]
    assert ours["externalCost"] == pytest.approx(7.25)
    assert ours["cpuCores"] == pytest.approx(0.1), "hours over the time between start and end"
    assert ours["ramBytes"] == pytest.approx(96 * 2**20)


def test_its_account_may_list_what_it_needs_and_no_more(account: Path) -> None:
    seen = Cluster(account)
    for path in ("/api/v1/nodes", "/api/v1/pods", TENANTS):
        assert seen.call("GET", path)["items"] is not None
    for path in (
        f"/api/v1/namespaces/{SYSTEM}/secrets",
        "/api/v1/configmaps",
        "/apis/tenantry.dev/v1alpha1/tenanttiers",
    ):
        with pytest.raises(RefusedError) as refused:
            seen.call("GET", path)
        assert refused.value.status == 403
