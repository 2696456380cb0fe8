"""Changes of a tier, of the image and of the chart go through twenty tenants in three waves, against a real API server.

KWOK plays the nodes.
"""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.cluster import TENANTS, TIERS, Cluster, RefusedError, eventually
from tests.cluster.installation import Installation
from tests.cluster.kubectl import ROOT
from tests.cluster.operator_process import Operators

TIER = "waved"
NUMBER = 20
NAMES = [f"wave-{number:02}" for number in range(NUMBER)]
REVISIONS = f"/apis/apps/v1/namespaces/tenantry-system/controllerrevisions?labelSelector=tenantry.dev/tier={TIER}"
#: A wave is stood still after until a test goes on: what is seen then does not depend on how fast anybody looks.
ROLLOUT: dict[str, object] = {"waves": [10, 50, 100], "pause": "1h", "progressDeadline": "2m"}
#: For what is broken on purpose, nothing has to be waited for but that all of the wave is moved.
SOON_OVERDUE = "20s"
#: No node is so large: pods of this revision stay pending.
TOO_LARGE = {"requests": {"cpu": "900"}}


class Fleet:
    """The tenants of one tier, and the operators that look after them."""

    def __init__(self, cluster: Cluster, operators: Operators) -> None:
        self.cluster, self.operators = cluster, operators
        self.operator = operators.start().says("synced")

    def upgrade(self, *flags: str) -> None:
        """Another version of the platform: the operator ends and comes back with these flags."""
        self.operator.stop()
        self.operator = self.operators.start(*flags).says("synced")

    def deployments(self) -> dict[str, dict[str, Any]]:
        """The spec of each tenant's Deployment."""
        listed = self.cluster.call("GET", "/apis/apps/v1/deployments?labelSelector=tenantry.dev/tenant")["items"]
        by_space = {each["metadata"]["namespace"]: dict(each["spec"]) for each in listed}
        return {name: by_space[f"tenant-{name}"] for name in NAMES}

    def with_image(self, tag: str) -> list[str]:
        """Tenants whose pods are to run this image."""
        found = self.deployments().items()
        return [name for name, spec in found if spec["template"]["spec"]["containers"][0]["image"] == f"tenantry:{tag}"]

    def with_chart(self, history_limit: int) -> list[str]:
        """Tenants whose Deployment is from the version of the chart with this mark."""
        return [name for name, spec in self.deployments().items() if spec["revisionHistoryLimit"] == history_limit]

    def histories(self) -> dict[str, list[dict[str, Any]]]:
        """``status.history`` of each tenant."""
        listed = {each["metadata"]["name"]: each for each in self.cluster.call("GET", TENANTS)["items"]}
        return {name: listed[name]["status"]["history"] for name in NAMES}

    def all_ready(self) -> None:
        """Wait until all are."""
        for name in NAMES:
            self.cluster.wait_for(name, "Ready", "True")

    def tier(self, rollout: dict[str, object] = ROLLOUT, **spec: object) -> None:
        """Change the tier."""
        self.cluster.tier(TIER, rollout=rollout, **spec)

    def rollout(self, **said: object) -> None:
        """Change how the tier is rolled out, and nothing else."""
        whole = {**ROLLOUT, "paused": None, "rollbackTo": None, **said}
        self.cluster.patch(f"{TIERS}/{TIER}", {"spec": {"rollout": whole}})

    def waves(self) -> list[int]:
        """The waves that this operator has told of, in their order."""
        told = [line["wave"] for line in self.operator.lines(ever=True) if line["message"] == "roll-out"]
        return [wave for before, wave in zip([None, *told], told, strict=False) if wave != before]

    def status(self) -> dict[str, Any]:
        """The tier's status."""
        return dict(self.cluster.call("GET", f"{TIERS}/{TIER}").get("status", {}))

    def judged(self) -> str:
        """The reason of the tier's Ready condition, if it is about its present generation."""
        found = self.cluster.call("GET", f"{TIERS}/{TIER}")
        for each in found.get("status", {}).get("conditions", []):
            if each["type"] == "Ready" and each["observedGeneration"] == found["metadata"]["generation"]:
                return str(each["reason"])
        return ""

    def stalled(self) -> dict[str, Any]:
        """The tier's Stalled condition."""
        return next(dict(each) for each in self.status()["conditions"] if each["type"] == "Stalled")

    def wait(self, reason: str) -> dict[str, Any]:
        """Wait until the roll-out stands so."""
        eventually(f"{TIER} is {reason}", lambda: self.judged() == reason, patience=150)
        return self.status()

    def limits(self) -> dict[str, int | None]:
        """Requests per minute by tenant, as their policies in force have it."""
        return {name: self.cluster.policy(name)["limits"].get("requestsPerMinute") for name in NAMES}

    def with_limit(self, limit: int) -> int:
        """Tenants that have it."""
        return sum(found == limit for found in self.limits().values())


@pytest.fixture(scope="module")
def fleet(cluster: Cluster, installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Twenty Ready tenants of one tier. Each test leaves them all on one revision."""
    operators = Operators(installation.operator, tmp_path_factory.mktemp("operator"))
    cluster.tier(TIER, rollout=ROLLOUT)
    for name in NAMES:
        cluster.tenant(name, tier=TIER)
    try:
        made = Fleet(cluster, operators)
        for name in NAMES:
            cluster.wait_for(name, "Ready", "True")
        made.wait("UpToDate")
        yield made
        cluster.empty()
        cluster.delete(f"{TIERS}/{TIER}")
    finally:
        operators.end()


def test_new_tenants_begin_on_the_only_revision_there_is_and_nothing_more_is_written(fleet: Fleet) -> None:
    eventually("everybody is counted", lambda: fleet.status().get("ready") == NUMBER)
    status = fleet.status()
    assert (status["tenants"], status["updated"]) == (NUMBER, NUMBER)
    assert status["currentRevision"] == status["updateRevision"]
    (revision,) = fleet.cluster.call("GET", REVISIONS)["items"]
    assert revision["metadata"]["name"] == status["updateRevision"]
    applied = fleet.cluster.call("GET", f"{TENANTS}/{NAMES[0]}")["status"]["applied"]
    assert applied["tierRevision"] == status["updateRevision"]
    written = fleet.operator.settles().written()
    time.sleep(3)
    assert fleet.operator.written() == written


def test_a_change_comes_in_waves_and_everybody_has_it_in_the_end(fleet: Fleet) -> None:
    fleet.tier(limits={"requestsPerMinute": 100})
    status = fleet.wait("BetweenWaves")
    assert (status["updated"], status["wave"], fleet.with_limit(100)) == (2, 1, 2)
    fleet.rollout(waves=[50, 100])
    eventually("half of them", lambda: fleet.status().get("updated") == 10)
    assert fleet.wait("BetweenWaves")["updated"] == fleet.with_limit(100) == 10
    fleet.rollout(pause="1s")
    status = fleet.wait("UpToDate")
    assert fleet.with_limit(100) == NUMBER
    assert status["wave"] == 3
    assert status["currentRevision"] == status["updateRevision"]


def test_a_broken_change_halts_after_the_first_wave_and_one_patch_takes_it_back(fleet: Fleet) -> None:
    good = fleet.status()["currentRevision"]
    overdue = {**ROLLOUT, "progressDeadline": SOON_OVERDUE}
    fleet.tier(overdue, limits={"requestsPerMinute": 200}, resources=TOO_LARGE)
    fleet.wait("RolloutHalted")
    eventually("the wave is moved", lambda: fleet.with_limit(200) == 2)
    victims = [name for name, limit in fleet.limits().items() if limit == 200]
    assert len(victims) == 2
    eventually("both are named", lambda: all(name in fleet.stalled()["message"] for name in victims))
    assert fleet.stalled()["status"] == "True"
    assert good in fleet.stalled()["message"]
    halted = f'tenantry_rollout_halted{{tier="{TIER}"}}'
    eventually("it is counted", lambda: fleet.operator.metric(halted) == 1)

    # Who was not moved has its own changes carried out, on the revision that it is on; and so begins who is new.
    held = next(name for name in NAMES if name not in victims)
    fleet.cluster.tenant(held, tier=TIER, limits={"tokensPerMinute": 77})
    fleet.cluster.tenant("wave-new", tier=TIER)
    fleet.cluster.wait_for("wave-new", "Ready", "True")
    eventually("its own change", lambda: fleet.cluster.policy(held)["limits"].get("tokensPerMinute") == 77)
    assert fleet.cluster.policy(held)["limits"]["requestsPerMinute"] == 100
    assert fleet.cluster.policy("wave-new")["limits"]["requestsPerMinute"] == 100
    assert fleet.judged() == "RolloutHalted"

    fleet.cluster.patch(f"{TIERS}/{TIER}", {"spec": {"rollout": {"rollbackTo": good}}})
    fleet.wait("UpToDate")
    assert fleet.with_limit(100) == NUMBER
    for name in victims:
        fleet.cluster.wait_for(name, "Ready", "True")
        assert fleet.cluster.call("GET", f"{TENANTS}/{name}")["status"]["history"][0]["tierRevision"] == good
    eventually("it is not counted any more", lambda: fleet.operator.metric(halted) == 0)
    fleet.cluster.delete(f"{TENANTS}/wave-new")
    fleet.cluster.tenant(held, tier=TIER)
    fleet.tier(limits={"requestsPerMinute": 100})
    fleet.cluster.patch(f"{TIERS}/{TIER}", {"spec": {"rollout": {"rollbackTo": None}}})
    assert fleet.wait("UpToDate")["updateRevision"] == good


def test_an_operator_killed_in_mid_roll_out_is_gone_on_from(fleet: Fleet) -> None:
    fleet.tier(limits={"requestsPerMinute": 300})
    fleet.wait("BetweenWaves")
    fleet.operator.kill()
    first = {name for name, limit in fleet.limits().items() if limit == 300}
    assert len(first) == 2
    fleet.operator = fleet.operators.start().says("synced")
    fleet.rollout(waves=[50, 100])
    eventually("half of them", lambda: fleet.status().get("updated") == 10)
    assert first <= {name for name, limit in fleet.limits().items() if limit == 300}
    assert fleet.with_limit(300) == 10
    fleet.rollout(pause="1s")
    fleet.wait("UpToDate")
    assert fleet.with_limit(300) == NUMBER


def test_a_tenant_may_stay_on_a_revision_of_its_choice(fleet: Fleet) -> None:
    name, before = NAMES[0], fleet.status()["currentRevision"]
    fleet.cluster.tenant(name, tier=TIER, tierRevision=before)
    fleet.tier(rollout={"waves": [100]}, limits={"requestsPerMinute": 400})
    eventually("all others", lambda: fleet.with_limit(400) == NUMBER - 1)
    assert fleet.cluster.policy(name)["limits"]["requestsPerMinute"] == 300
    fleet.cluster.tenant(name, tier=TIER, tierRevision=f"{TIER}-unknown")
    fleet.cluster.wait_for(name, "Stalled", "True", "RevisionNotFound")
    fleet.cluster.tenant(name, tier=TIER)
    eventually("it follows", lambda: fleet.with_limit(400) == NUMBER)
    fleet.cluster.wait_for(name, "Ready", "True")


def test_a_paused_roll_out_waits_until_it_is_let_go(fleet: Fleet) -> None:
    fleet.tier(rollout={"paused": True, "waves": [100]}, limits={"requestsPerMinute": 500})
    fleet.wait("RolloutPaused")
    assert fleet.with_limit(500) == 0
    fleet.tier(rollout={"waves": [100]}, limits={"requestsPerMinute": 500})
    fleet.wait("UpToDate")
    assert fleet.with_limit(500) == NUMBER


def test_the_revisions_of_a_tier_without_tenants_go_with_it(fleet: Fleet) -> None:
    def revisions() -> int:
        selected = REVISIONS.replace(TIER, "brief")
        return len(fleet.cluster.call("GET", selected)["items"])

    fleet.cluster.tier("brief")
    eventually("its revision is stored", lambda: revisions() == 1)
    fleet.cluster.delete(f"{TIERS}/brief")
    eventually("it is gone", lambda: revisions() == 0)


POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
BINDINGS = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings"


@pytest.fixture
def image_policy(cluster: Cluster) -> Iterator[None]:
    """A cluster that refuses pods of one image, as registries and image policies do."""
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    spec = {
        "matchConstraints": {"resourceRules": [rule]},
        "validations": [{"expression": "!object.spec.containers.exists(c, c.image == 'tenantry:broken')"}],
    }
    api = {"apiVersion": "admissionregistration.k8s.io/v1"}
    policy = {**api, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": "images"}, "spec": spec}
    bound = {"policyName": "images", "validationActions": ["Deny"]}
    binding = {**api, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": "images"}, "spec": bound}
    cluster.apply(f"{POLICIES}/images", policy)
    cluster.apply(f"{BINDINGS}/images", binding)
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "broken-"}}
    pod["spec"] = {"containers": [{"name": "api", "image": "tenantry:broken"}]}

    def refuses() -> bool:
        try:
            cluster.call("POST", "/api/v1/namespaces/default/pods?dryRun=All", pod)
        except RefusedError as refused:
            return refused.status == 422
        return False

    try:
        eventually("the image is refused", refuses)
        yield
    finally:
        cluster.delete(f"{BINDINGS}/images")
        cluster.delete(f"{POLICIES}/images")


@pytest.mark.timeout(600)
def test_a_new_image_comes_in_waves_and_can_be_paused(fleet: Fleet) -> None:
    before = fleet.status()["currentRevision"]
    fleet.rollout(paused=True)
    fleet.upgrade("--tenant-image", "tenantry:second")
    fleet.wait("RolloutPaused")
    assert fleet.with_image("second") == []
    fleet.rollout()
    status = fleet.wait("BetweenWaves")
    assert (status["updated"], status["wave"], status["currentRevision"]) == (2, 1, before)
    assert len(fleet.with_image("second")) == 2
    fleet.rollout(pause="1s")
    after = fleet.wait("UpToDate")["updateRevision"]
    assert after != before
    assert fleet.waves()[-3:] == [1, 2, 3]
    assert fleet.with_image("second") == NAMES
    fleet.all_ready()
    for name, (latest, former, *_) in fleet.histories().items():
        assert (latest["tierRevision"], former["tierRevision"]) == (after, before), name
        assert latest["outcome"] == "Ready"


@pytest.mark.timeout(600)
def test_an_image_that_does_not_come_up_halts_and_the_former_revision_is_gone_back_to(
    fleet: Fleet, image_policy: None
) -> None:
    good = fleet.status()["currentRevision"]
    fleet.rollout(progressDeadline=SOON_OVERDUE)
    fleet.upgrade("--tenant-image", "tenantry:broken")
    fleet.wait("RolloutHalted")
    eventually("the wave is moved", lambda: len(fleet.with_image("broken")) == 2)
    victims = fleet.with_image("broken")
    assert len(victims) == 2
    eventually("both are counted", lambda: fleet.status()["updated"] == 2)
    eventually("both are named", lambda: all(name in fleet.stalled()["message"] for name in victims))
    assert set(fleet.with_image("second")) == set(NAMES) - set(victims)
    for name in victims:
        fleet.cluster.wait_for(name, "Ready", "False")

    fleet.rollout(rollbackTo=good)
    fleet.wait("UpToDate")
    eventually("everybody has the former image", lambda: fleet.with_image("second") == NAMES)
    fleet.all_ready()
    for name in victims:
        back, broken, *_ = fleet.histories()[name]
        assert (back["tierRevision"], back["outcome"]) == (good, "Ready")
        assert broken["outcome"] == "Failed"
    fleet.upgrade("--tenant-image", "tenantry:second")
    fleet.rollout()
    assert fleet.wait("UpToDate")["updateRevision"] == good


def chart(directory: Path, version: str, *, history_limit: int, scheduler: str = "") -> str:
    """Another version of the tenant chart, told by a mark in its Deployment; with pods that nobody schedules."""
    made = shutil.copytree(ROOT / "charts" / "tenant", directory / version)
    about, deployment = made / "Chart.yaml", made / "templates" / "deployment.yaml"
    about.write_text(about.read_text().replace("version: 0.1.0", f"version: {version}"))
    text = deployment.read_text().replace("revisionHistoryLimit: 2", f"revisionHistoryLimit: {history_limit}")
    if scheduler:
        account = "      serviceAccountName: api\n"
        text = text.replace(account, f"{account}      schedulerName: {scheduler}\n")
    deployment.write_text(text)
    return str(made)


@pytest.mark.timeout(600)
def test_a_new_chart_comes_in_waves_a_broken_one_halts_and_the_former_version_is_gone_back_to(
    fleet: Fleet, tmp_path: Path
) -> None:
    image = ("--tenant-image", "tenantry:second")
    good = chart(tmp_path, "0.2.0", history_limit=3)
    fleet.upgrade(*image, "--chart", good)
    assert fleet.wait("BetweenWaves")["updated"] == len(fleet.with_chart(3)) == 2
    fleet.rollout(pause="1s")
    revision = fleet.wait("UpToDate")["updateRevision"]
    assert fleet.with_chart(3) == NAMES
    fleet.all_ready()
    assert {history[0]["chart"] for history in fleet.histories().values()} == {"tenant-0.2.0"}

    broken = chart(tmp_path, "0.3.0", history_limit=4, scheduler="nobody")
    fleet.rollout(progressDeadline=SOON_OVERDUE)
    fleet.upgrade(*image, "--chart", broken)
    fleet.wait("RolloutHalted")
    eventually("the wave is moved", lambda: len(fleet.with_chart(4)) == 2)
    victims = fleet.with_chart(4)
    assert len(victims) == 2
    assert set(fleet.with_chart(3)) == set(NAMES) - set(victims)
    eventually(
        "both say what they are made from",
        lambda: {fleet.histories()[name][0]["chart"] for name in victims} == {"tenant-0.3.0"},
    )

    # A chart comes with its operator: the way back is the former version, and nobody waits for a wave.
    fleet.upgrade(*image, "--chart", good)
    assert fleet.wait("UpToDate")["updateRevision"] == revision
    eventually("everybody has the former chart", lambda: fleet.with_chart(3) == NAMES)
    fleet.all_ready()
