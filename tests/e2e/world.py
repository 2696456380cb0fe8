"""The platform as its users see it: kubectl, Helm, the OpenAI SDK. Used by all tests of this directory."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import openai
from localcluster import release
from localcluster.kindcluster import Cluster
from localcluster.release import Target
from openai.types.chat import ChatCompletionMessageParam

MODEL = "gpt-4o-mini"
HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hello there"}]

#: What the simulator says to everything.
ANSWER = "This is the simulator speaking; it says what it is"

SIMULATOR_URL = "http://simulator.simulator.svc.cluster.local/v1"

#: Seconds for anything that the platform does by itself on a machine that is busy with tests.
PATIENCE = 180.0

#: Limits under which nobody is refused because a busy machine keeps Redis from answering in time; where the answers are
#: what is tested, and not who counts them.
COUNTS_ALONE = {"whenUnavailable": "LocalShare"}

Object = dict[str, Any]


class CommandError(Exception):
    """kubectl or Helm ended with an error; the text is what it said."""


@dataclass(frozen=True)
class Access:
    """What a tenant's developer gets."""

    endpoint: str
    key: str

    def sdk(self, **options: Any) -> openai.OpenAI:
        """The SDK as a developer sets it up, but without retries, which would hide a gap."""
        return openai.OpenAI(
            **{"base_url": self.endpoint, "api_key": self.key, "max_retries": 0, "timeout": 60, **options}
        )


@dataclass
class World:
    """A cluster with the platform and the upstream simulator on it."""

    target: Target
    free_ports: list[int] = field(default_factory=list)
    #: The cluster's nodes, where they are containers of ours.
    kind: Cluster | None = None

    def kubectl(self, *arguments: str, given: str | None = None, timeout: float = 240) -> str:
        """Run kubectl and return what it printed. Raises `CommandError` with what it said."""
        return _run([*self.target.kubectl, *arguments], given, timeout)

    def helm(self, *arguments: str, given: str | None = None, timeout: float = 420) -> str:
        """Run Helm on the platform's release. Raises `CommandError` with what it said."""
        return _run([*self.target.helm, "--namespace", release.NAMESPACE, *arguments], given, timeout)

    @property
    def chart(self) -> str:
        return str(self.target.checkout.root / "charts" / "tenantry")

    def get(self, *arguments: str) -> Object:
        """Return an object, or a list of them, as `kubectl get` gives it."""
        found: Object = json.loads(self.kubectl("get", *arguments, "--output", "json"))
        return found

    def items(self, *arguments: str) -> list[Object]:
        """Return the objects of a list; none when there is no such namespace."""
        found: list[Object] = self.get(*arguments)["items"]
        return found

    def apply(self, document: Mapping[str, object]) -> None:
        """Apply an object server-side, as a platform engineer does."""
        self.kubectl("apply", "--server-side", "--force-conflicts", "--filename", "-", given=json.dumps(document))

    def wait_ready(self, tenant: str, seconds: float = PATIENCE) -> None:
        """`kubectl wait` for a Tenant."""
        self.kubectl("wait", "--for=condition=Ready", f"tenant/{tenant}", f"--timeout={seconds:.0f}s")

    def access(self, tenant: str, key: str = "default") -> Access:
        """Return endpoint and key of a ready Tenant."""
        endpoint = self.kubectl("get", f"tenant/{tenant}", "--output", "jsonpath={.status.endpoint}")
        secret = self.get("secret", f"key-{key}", "--namespace", namespace(tenant))
        return Access(endpoint, base64.b64decode(secret["data"]["api-key"]).decode())

    def pods(self, tenant: str) -> list[Object]:
        """Return the tenant's API pods that are not on their way out."""
        selector = "--selector=app.kubernetes.io/name=tenantry-api"
        found = self.items("pods", "--namespace", namespace(tenant), selector)
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def delete(self, tenant: str) -> None:
        """Delete a Tenant and wait until nothing is left of it."""
        self.kubectl("delete", "tenant", tenant, "--ignore-not-found", "--wait", f"--timeout={PATIENCE:.0f}s")
        until(lambda: not self.exists("namespace", namespace(tenant)), f"namespace of {tenant} is gone")

    def exists(self, *arguments: str) -> bool:
        """Tell whether an object exists."""
        return bool(self.kubectl("get", *arguments, "--ignore-not-found", "--output", "name").strip())

    @contextmanager
    def tenant(self, name: str, *, exposed: bool = True, **spec: object) -> Iterator[Object]:
        """Apply a Tenant of tier standard on the simulator, with `spec` over it; delete it in the end."""
        port = self.free_ports.pop() if exposed else None
        try:
            document = tenant(name, port, **spec)
            self.apply(document)
            yield document
        finally:
            self.delete(name)
            if port is not None:
                self.free_ports.append(port)


def tenant(name: str, port: int | None, **spec: object) -> Object:
    """Return a Tenant's manifest."""
    whole: Object = {
        "tier": "standard",
        "models": {"allow": ["gpt-*"]},
        "upstreams": [{"name": "simulator", "baseURL": SIMULATOR_URL}],
        **({"exposure": {"nodePort": port}} if port else {}),
        **spec,
    }
    return {"apiVersion": "tenantry.dev/v1alpha1", "kind": "Tenant", "metadata": {"name": name}, "spec": whole}


def namespace(tenant: str) -> str:
    return f"tenant-{tenant}"


def simulated(**behaviour: int) -> dict[str, str]:
    """Return the headers that tell the simulator how to behave for one request."""
    return {f"x-simulator-{name.replace('_', '-')}": str(value) for name, value in behaviour.items()}


def until(done: Callable[[], bool], what: str, seconds: float = PATIENCE, pause: float = 0.2) -> float:
    """Wait until something is so and return the seconds that it took; fails the test after `seconds`."""
    began = time.monotonic()
    while not done():
        assert time.monotonic() - began < seconds, f"not within {seconds:.0f} s: {what}"
        time.sleep(pause)
    return time.monotonic() - began


def answers(access: Access) -> bool:
    """Tell whether the endpoint answers a chat; no listener yet counts as no, and so does nobody who counts (503).

    And a route that the operator has been told of, but the gateway's proxy does not have yet: its own 404 has no code.
    """
    try:
        with access.sdk() as sdk:
            return sdk.chat.completions.create(model=MODEL, messages=HELLO).choices[0].message.content == ANSWER
    except (openai.APIConnectionError, openai.InternalServerError):
        return False
    except openai.NotFoundError as error:
        if error.code is not None:
            raise
        return False


def _run(argv: list[str], given: str | None, timeout: float) -> str:
    done = subprocess.run(argv, input=given, capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode != 0:
        raise CommandError(f"{' '.join(argv[3:8])} ...: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
