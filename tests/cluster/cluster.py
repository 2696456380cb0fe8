"""The API server as the platform engineer sees it: paths in, JSON out; and what the tests know of our objects."""

import asyncio
import contextlib
import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from tenantry_operator.kube import config

T = TypeVar("T")

TENANTS = "/apis/tenantry.dev/v1alpha1/tenants"
TIERS = "/apis/tenantry.dev/v1alpha1/tenanttiers"
UPSTREAM = {"name": "sim", "baseURL": "http://simulator.tenantry-system.svc:8080/v1"}
#: Long enough for a machine that is busy, three times slower than usual, and stands still for some seconds; nothing
#: waits this long when it works.
PATIENCE = 90.0

#: What a tenant consists of, as collections of its namespace.
COLLECTIONS = (
    "api/v1/configmaps",
    "api/v1/secrets",
    "api/v1/services",
    "api/v1/serviceaccounts",
    "api/v1/resourcequotas",
    "api/v1/limitranges",
    "apis/networking.k8s.io/v1/networkpolicies",
    "apis/rbac.authorization.k8s.io/v1/roles",
    "apis/rbac.authorization.k8s.io/v1/rolebindings",
    "apis/apps/v1/deployments",
    "apis/autoscaling/v2/horizontalpodautoscalers",
    "apis/policy/v1/poddisruptionbudgets",
)


def eventually(what: str, probe: Callable[[], T | None], *, patience: float = PATIENCE, every: float = 0.05) -> T:
    """The first answer of ``probe`` that is neither None nor False. ``patience`` and ``every`` are seconds."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        found = probe()
        if found is not None and found is not False:
            return found
        time.sleep(every)
    raise AssertionError(f"not within {patience:.0f} s: {what}")


class RefusedError(Exception):
    """The API server's refusal."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Cluster:
    """The API server as the platform engineer sees it: paths in, JSON out."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        access = config.from_kubeconfig(kubeconfig)
        tls, token = access.tls(), asyncio.run(access.tokens.token())
        self._server, self._tls = access.server, tls if isinstance(tls, ssl.SSLContext) else None
        self._headers = {"Accept": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}

    def call(
        self, method: str, path: str, body: object = None, content: str = "application/json", *, patient: bool = True
    ) -> dict[str, Any]:
        """One request; raises RefusedError.

        A new CRD's storage is not ready at once: that 429 is waited out, unless told otherwise. What the store behind
        it did not do in time is asked for again, if it may be asked for twice.
        """
        data = None if body is None else json.dumps(body).encode()
        headers = {**self._headers, "Content-Type": content}
        request = urllib.request.Request(self._server + path, data=data, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60, context=self._tls) as response:
                found = json.load(response)
        except urllib.error.HTTPError as error:
            if error.code == 429 and patient:
                time.sleep(float(error.headers.get("Retry-After", "1")))
                return self.call(method, path, body, content)
            text = error.read().decode()
            if "etcdserver: " in text and method != "POST" and patient:
                time.sleep(1)
                return self.call(method, path, body, content)
            raise RefusedError(error.code, text) from error
        assert isinstance(found, dict)
        return found

    def find(self, path: str) -> dict[str, Any] | None:
        """One object, or None."""
        try:
            return self.call("GET", path)
        except RefusedError as error:
            if error.status == 404:
                return None
            raise

    def apply(self, path: str, body: Mapping[str, object]) -> dict[str, Any]:
        """Server-side apply in the name of the tests."""
        return self.call("PATCH", f"{path}?fieldManager=tests&force=true", body, "application/apply-patch+yaml")

    def patch(self, path: str, body: Mapping[str, object]) -> dict[str, Any]:
        """Merge patch."""
        return self.call("PATCH", path, body, "application/merge-patch+json")

    def delete(self, path: str) -> None:
        """Delete; nothing to delete is fine."""
        with contextlib.suppress(RefusedError):
            self.call("DELETE", path)

    def tier(self, name: str = "standard", **spec: object) -> None:
        """Create or change a tier."""
        # All at once, unless a test is about waves: their pauses are longer than any test's patience.
        body = {"upstreams": [UPSTREAM], "rollout": {"waves": [100]}, **spec}
        document = {"apiVersion": "tenantry.dev/v1alpha1", "kind": "TenantTier", "metadata": {"name": name}}
        self.apply(f"{TIERS}/{name}", {**document, "spec": body})

    def tenant(self, name: str, **spec: object) -> None:
        """Create or change a Tenant."""
        document = {"apiVersion": "tenantry.dev/v1alpha1", "kind": "Tenant", "metadata": {"name": name}}
        self.apply(f"{TENANTS}/{name}", {**document, "spec": {"tier": "standard", **spec}})

    def condition(self, name: str, kind: str) -> dict[str, Any] | None:
        """A condition of a Tenant, if it is about its present generation."""
        found = self.find(f"{TENANTS}/{name}")
        if found is None:
            return None
        for each in found.get("status", {}).get("conditions", []):
            if each["type"] == kind and each["observedGeneration"] == found["metadata"]["generation"]:
                return dict(each)
        return None

    def wait_for(self, name: str, kind: str, status: str, reason: str | None = None) -> dict[str, Any]:
        """Wait until the condition says so."""

        def says() -> dict[str, Any] | None:
            found = self.condition(name, kind)
            fits = found and found["status"] == status and (reason is None or found["reason"] == reason)
            return found if fits else None

        return eventually(f"{name} {kind}={status} {reason or ''}", says)

    def gone(self, name: str) -> None:
        """Wait until neither Tenant nor namespace is left."""
        eventually(
            f"{name} is gone",
            lambda: self.find(f"{TENANTS}/{name}") is None and self.find(f"/api/v1/namespaces/tenant-{name}") is None,
            patience=2 * PATIENCE,  # the namespace controller goes through them with ten workers, on two cores
        )

    def empty(self) -> None:
        """Delete all Tenants and wait until their namespaces are gone, too."""
        names = [each["metadata"]["name"] for each in self.call("GET", TENANTS)["items"]]
        for name in names:
            self.delete(f"{TENANTS}/{name}")
        for name in names:
            self.gone(name)

    def objects(self, name: str) -> dict[str, dict[str, Any]]:
        """The namespace, and everything in it that carries the tenant's label, by collection and name."""
        space = f"tenant-{name}"
        found = {"namespace": self.call("GET", f"/api/v1/namespaces/{space}")}
        for collection in COLLECTIONS:
            prefix, _, plural = collection.rpartition("/")
            listed = self.call("GET", f"/{prefix}/namespaces/{space}/{plural}?labelSelector=tenantry.dev/tenant={name}")
            for each in listed["items"]:
                found[f"{plural}/{each['metadata']['name']}"] = each
        return found

    def key(self, name: str, key: str = "default") -> dict[str, Any] | None:
        """A key Secret."""
        return self.find(f"/api/v1/namespaces/tenant-{name}/secrets/key-{key}")

    def policy(self, name: str) -> dict[str, Any]:
        """The policy document that is in force."""
        config_map = self.call("GET", f"/api/v1/namespaces/tenant-{name}/configmaps/tenantry-policy")
        document = json.loads(config_map["data"]["policy.json"])
        assert isinstance(document, dict)
        return document
