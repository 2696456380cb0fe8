"""The platform on a cluster: the chart installed with Helm, and the upstream simulator beside it."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from localcluster import images, tools
from localcluster.paths import Checkout
from localcluster.steps import ProgramFailed, StepLog

RELEASE = "tenantry"
NAMESPACE = "tenantry-system"
OPERATOR = "tenantry-operator"
SIMULATOR_NAMESPACE = "simulator"

#: The Secret of the key that a Tenant gets when it asks for none by name.
DEFAULT_KEY_SECRET = "key-default"  # noqa: S105 - a name

#: Seconds that Helm and kubectl wait for pods to be ready; a pod takes two, a busy machine ten times that.
READY_TIMEOUT = 180

CREDENTIALS_LABEL = "tenantry.dev/upstream-credentials"


@dataclass(frozen=True)
class Target:
    """The cluster that is worked on: any that a kubeconfig reaches."""

    checkout: Checkout
    kubeconfig: Path

    @property
    def helm(self) -> list[str]:
        return [str(tools.helm(self.checkout)), "--kubeconfig", str(self.kubeconfig)]

    @property
    def kubectl(self) -> list[str]:
        return [str(kubectl_program(self.checkout)), "--kubeconfig", str(self.kubeconfig)]


def kubectl_program(checkout: Checkout) -> Path:
    """Return our kubectl where our own node image has brought it, else the user's, else one built for this."""
    installed = shutil.which("kubectl")
    if installed is None or tools.place(checkout, "kube").exists():
        return tools.kubectl(checkout)
    return Path(installed)


def install(
    target: Target, references: Mapping[str, str], log: StepLog, settings: Mapping[str, str] | None = None
) -> None:
    """Install or upgrade the platform's chart and wait until the operator is ready.

    `settings` are further `--set` pairs. The chart's own hook applies the definitions of a newer chart.
    """
    chart = target.checkout.root / "charts" / "tenantry"
    argv = [*target.helm, "upgrade", "--install", RELEASE, str(chart), "--namespace", NAMESPACE, "--create-namespace"]
    argv += ["--values", str(target.checkout.root / "kind" / "demo" / "values.yaml")]
    for name, value in {**image_settings(references), **(settings or {})}.items():
        argv += ["--set", f"{name}={value}"]
    argv += ["--wait", "--timeout", f"{READY_TIMEOUT}s"]
    if log.run(argv, check=False) != 0:
        show = [*target.kubectl, "--namespace", NAMESPACE]
        log.run([*show, "get", "pods"], check=False)
        log.run([*show, "logs", f"deployment/{OPERATOR}", "--tail=10"], check=False)
        raise ProgramFailed(argv, "did not see the platform ready")


def image_settings(references: Mapping[str, str]) -> dict[str, str]:
    """Return the chart's values that name our images; the datastores only when they have been built."""
    repository, _, tag = references[images.TENANTRY.name].partition(":")
    found = {"image.repository": repository, "image.tag": tag}
    for value, image in (
        ("dev.datastores.redis.image", images.REDIS),
        ("dev.datastores.postgres.image", images.POSTGRES),
    ):
        if image.name in references:
            found[value] = references[image.name]
    return found


def uninstall(target: Target, log: StepLog) -> None:
    """Remove the platform's release; nothing to do when there is none."""
    argv = [*target.helm, "uninstall", RELEASE, "--namespace", NAMESPACE, "--ignore-not-found"]
    log.run([*argv, "--wait", "--timeout", f"{READY_TIMEOUT}s"])


def deploy_simulator(target: Target, references: Mapping[str, str], log: StepLog) -> None:
    """Run the upstream simulator in its namespace and wait until it answers."""
    text = (target.checkout.root / "kind" / "demo" / "simulator.yaml").read_text()
    manifest = text.replace(f"image: {images.SIMULATOR.name}", f"image: {references[images.SIMULATOR.name]}")
    apply(target, manifest, log)
    argv = [*target.kubectl, "--namespace", SIMULATOR_NAMESPACE, "rollout", "status", "deployment/simulator"]
    log.run([*argv, f"--timeout={READY_TIMEOUT}s"])


def store_credentials(target: Target, name: str, key: str, log: StepLog) -> None:
    """Put an upstream's key into a Secret that Tenants may refer to.

    It travels over standard input, and server-side apply keeps no copy of it in an annotation.
    """
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {CREDENTIALS_LABEL: "true"}},
        "stringData": {"api-key": key},
    }
    apply(target, json.dumps(secret), log)


def apply(target: Target, manifest: str, log: StepLog) -> None:
    """Apply a manifest server-side, as kubectl's own field manager."""
    log.run([*target.kubectl, "apply", "--server-side", "--filename", "-"], input=manifest)


def apply_tenant(target: Target, tenant: str, manifest: str, seconds: int, log: StepLog) -> None:
    """Apply a Tenant and wait until the operator says that it is ready as it is now.

    `kubectl wait --for=condition=Ready` alone would be content with what was said before a change.
    Raises `ProgramFailed`, with the Tenant's conditions and pods in the log, when that takes longer than `seconds`.
    """
    argv = [*target.kubectl, "apply", "--server-side", "--filename", "-", "--output", "jsonpath={.metadata.generation}"]
    generation = log.output(argv, input=manifest)
    wait = [*target.kubectl, "wait", f"tenant/{tenant}", f"--timeout={seconds}s"]
    for state in (f"jsonpath={{.status.observedGeneration}}={generation}", "condition=Ready"):
        if log.run([*wait, f"--for={state}"], check=False) != 0:
            log.run([*target.kubectl, "describe", f"tenant/{tenant}"], check=False)
            log.run([*target.kubectl, "--namespace", f"tenant-{tenant}", "get", "pods,events"], check=False)
            raise ProgramFailed(wait, f"did not see Tenant {tenant} ready within {seconds} s")


def access(target: Target, tenant: str, log: StepLog) -> tuple[str, str]:
    """Return the endpoint of a ready Tenant and its default key. The key is in no log and on no command line."""
    argv = [*target.kubectl, "get", f"tenant/{tenant}", "--output", "jsonpath={.status.endpoint}"]
    endpoint = log.output(argv)
    argv = [*target.kubectl, "--namespace", f"tenant-{tenant}", "get", "secret", DEFAULT_KEY_SECRET]
    encoded = log.output([*argv, "--output", "jsonpath={.data.api-key}"])
    return endpoint, base64.b64decode(encoded).decode()
