"""What a tenant's pod may do, how policy changes reach it, and what happens to streams when it leaves."""

import json
import subprocess
import threading
import time
from pathlib import Path

import openai
import pytest
from localcluster import release
from localcluster.steps import StepLog

from tests.e2e.world import (
    ANSWER,
    HELLO,
    MODEL,
    SIMULATOR_URL,
    Access,
    CommandError,
    World,
    namespace,
    simulated,
    tenant,
    until,
)

#: Seconds from the operator's write of a policy to the moment at which the running pod follows it.
RELOAD = 2.0


def test_a_pod_runs_restricted_and_without_a_token(world: World, acme: Access) -> None:
    (pod,) = world.pods("acme")
    (container,) = pod["spec"]["containers"]
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]
    labels = world.get("namespace", namespace("acme"))["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"

    def inside(*command: str) -> str:
        return world.kubectl("exec", "--namespace", namespace("acme"), pod["metadata"]["name"], "--", *command).strip()

    assert inside("id", "-u") == "65532"
    assert inside("sh", "-c", "touch /anywhere 2>/dev/null || echo read-only") == "read-only"
    assert inside("sh", "-c", "test -e /var/run/secrets/kubernetes.io || echo no token") == "no token"
    assert inside("sh", "-c", "command -v gcc cc pip || echo none") == "none"


def test_a_privileged_pod_is_refused_in_a_tenants_namespace(world: World, acme: Access) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "intruder", "namespace": namespace("acme")},
        "spec": {"containers": [{"name": "c", "image": "none", "securityContext": {"privileged": True}}]},
    }
    with pytest.raises(CommandError, match="PodSecurity"):
        world.apply(pod)


def test_no_key_is_in_any_log(world: World, acme: Access) -> None:
    with acme.sdk() as sdk:
        sdk.chat.completions.create(model=MODEL, messages=HELLO)
    logs = world.kubectl("logs", "--namespace", namespace("acme"), "--selector=app.kubernetes.io/name=tenantry-api")
    logs += world.kubectl("logs", "--namespace=tenantry-system", "deployment/tenantry-operator", "--tail=-1")
    logs += world.kubectl("logs", "--namespace=simulator", "deployment/simulator", "--tail=-1")
    assert acme.key not in logs
    assert acme.key.rpartition("_")[2] not in logs


def test_a_policy_change_reaches_the_running_pod_within_two_seconds(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    with world.tenant("shifting") as applied:
        world.wait_ready("shifting")
        access = world.access("shifting")
        until(lambda: asked(access, MODEL) == ANSWER, "the endpoint answers", pause=0.05)
        (before,) = world.pods("shifting")
        watching = PolicyWatch(world, "shifting", "gpt-4.1*")
        port = applied["spec"]["exposure"]["nodePort"]
        # When the last request was sent that the former policy answered: how late a client hears of it is its own.
        former = time.monotonic()
        world.apply(tenant("shifting", port, models={"allow": ["gpt-4.1*"]}))

        def follows() -> bool:
            nonlocal former
            sent = time.monotonic()
            heard = asked(access, MODEL)
            former = sent if heard == ANSWER else former
            return heard == "model_not_found"

        until(follows, "the pod follows the new policy", pause=0.02)
        followed = time.monotonic()
        written = watching.written()
        (after,) = world.pods("shifting")
    with capsys.disabled():
        print(f"\npolicy written -> followed by the pod {followed - written:.2f} s")
    assert former - written <= RELOAD
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert [status["restartCount"] for status in after["status"]["containerStatuses"]] == [0]


def test_a_stream_goes_on_when_its_pod_is_asked_to_leave(world: World, acme: Access) -> None:
    """SIGTERM drains: the pod leaves the Service at once and ends when its streams have."""
    (leaving,) = world.pods("acme")
    pieces: list[str] = []
    slow = simulated(output_tokens=40, gap_ms=150)
    with acme.sdk() as sdk:
        stream = sdk.chat.completions.create(
            model=MODEL, messages=HELLO, stream=True, max_tokens=40, extra_headers=slow
        )
        for chunk in stream:
            text = chunk.choices[0].delta.content if chunk.choices else None
            if text and not pieces:
                name = leaving["metadata"]["name"]
                world.kubectl("delete", "pod", name, "--namespace", namespace("acme"), "--wait=false")
            pieces += [text] if text else []
    assert len(pieces) == 40

    def replaced() -> bool:
        pods = world.pods("acme")
        return len(pods) == 1 and pods[0]["metadata"]["uid"] != leaving["metadata"]["uid"]

    until(replaced, "a new pod took over")
    until(lambda: asked(acme, MODEL) == ANSWER, "the new pod answers", pause=0.05)


def test_the_upstream_gets_its_own_key_and_never_the_tenants(world: World, tmp_path: Path) -> None:
    """A Tenant may come before its upstream's credentials: it says what it lacks, and goes on once they are there."""
    own = {"name": "own", "baseURL": SIMULATOR_URL, "credentialsSecret": "upstream-of-e2e"}
    with world.tenant("bearer", upstreams=[own]):
        lacking = "--for=jsonpath={.status.conditions[?(@.type=='Stalled')].reason}=CredentialsNotFound"
        world.kubectl("wait", lacking, "tenant/bearer", "--timeout=180s")
        log = StepLog(tmp_path / "log")
        release.store_credentials(world.target, "upstream-of-e2e", "sk-of-the-upstream", log)
        try:
            world.wait_ready("bearer")
            access = world.access("bearer")
            until(lambda: asked(access, MODEL) == ANSWER, "the endpoint answers", pause=0.05)
            script = (
                "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8080/simulator/stats').read().decode())"
            )
            seen = world.kubectl("exec", "--namespace=simulator", "deployment/simulator", "--", "python3", "-c", script)
        finally:
            world.kubectl("delete", "secret", "upstream-of-e2e", "--namespace=tenantry-system")
    assert json.loads(seen)["last_request"]["headers"]["authorization"] == "Bearer sk-of-the-upstream"
    assert access.key not in seen


def asked(access: Access, model: str) -> str | None:
    """Return the answer to a chat, or the error's code; `None` while nothing answers."""
    try:
        with access.sdk() as sdk:
            return sdk.chat.completions.create(model=model, messages=HELLO).choices[0].message.content
    except openai.APIConnectionError:
        return None
    except openai.APIStatusError as refused:
        return refused.code


class PolicyWatch:
    """Notes when the API server tells of a tenant's policy that holds something new."""

    def __init__(self, world: World, name: str, new: str) -> None:
        argv = [*world.target.kubectl, "get", "configmap", "tenantry-policy", "--namespace", namespace(name)]
        self._process = subprocess.Popen(
            [*argv, "--watch", "--output", "jsonpath={.data.policy\\.json}{'\\n'}"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self._new = new
        first = self._process.stdout.readline()
        assert new not in first
        self._told: list[float] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for policy in self._process.stdout:
            if self._new in policy:
                self._told.append(time.monotonic())

    def written(self) -> float:
        """Return the monotonic time at which it was told first, and stop watching."""
        until(lambda: bool(self._told), "the watch tells of the change")
        self._process.terminate()
        self._process.wait(60)
        self._thread.join(60)
        return self._told[0]
