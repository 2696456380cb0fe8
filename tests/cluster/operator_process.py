"""The operator as a real process against a real API server, and a proxy that sees and may stop what it writes."""

import asyncio
import contextlib
import functools
import json
import os
import platform
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import yaml
from aiohttp import web
from localcluster import renderhelper
from localcluster.machine import architecture
from localcluster.paths import Checkout
from localcluster.steps import StepLog
from tenantry_operator.kube import config

T = TypeVar("T")

TENANTS = "/apis/tenantry.dev/v1alpha1/tenants"
TIERS = "/apis/tenantry.dev/v1alpha1/tenanttiers"
UPSTREAM = {"name": "sim", "baseURL": "http://simulator.tenantry-system.svc:8080/v1"}
#: Long enough for a busy machine; nothing waits this long when it works.
PATIENCE = 40.0

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


def eventually(what: str, probe: Callable[[], T | None], *, patience: float = PATIENCE) -> T:
    """The first answer of ``probe`` that is neither None nor False."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        found = probe()
        if found is not None and found is not False:
            return found
        time.sleep(0.05)
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

    def call(self, method: str, path: str, body: object = None, content: str = "application/json") -> dict[str, Any]:
        """One request; raises RefusedError. A new CRD's storage is not ready at once: that 429 is waited out."""
        data = None if body is None else json.dumps(body).encode()
        headers = {**self._headers, "Content-Type": content}
        request = urllib.request.Request(self._server + path, data=data, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30, context=self._tls) as response:
                found = json.load(response)
        except urllib.error.HTTPError as error:
            if error.code == 429:
                time.sleep(float(error.headers.get("Retry-After", "1")))
                return self.call(method, path, body, content)
            raise RefusedError(error.code, error.read().decode()) from error
        assert isinstance(found, dict)
        return found

    def install(self) -> None:
        """Our CRDs, as the chart's upgrade hook applies them, and the platform's namespace."""
        command = [sys.executable, "-m", "tenantry", "operator", "--apply-crds", "--kubeconfig", str(self.kubeconfig)]
        subprocess.run(command, timeout=60, check=True)
        system = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "tenantry-system"}}
        self.apply("/api/v1/namespaces/tenantry-system", system)
        eventually("the CRDs are served", lambda: self.find(TENANTS) and self.find(TIERS))

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
        body = {"upstreams": [UPSTREAM], **spec}
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


@dataclass
class Operator:
    """One operator process."""

    process: subprocess.Popen[bytes]
    log: Path
    port: int

    def lines(self) -> list[dict[str, Any]]:
        """Its log."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def says(self, message: str) -> "Operator":
        """Wait until it has logged this."""

        def said() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            return any(line["message"] == message for line in self.lines())

        eventually(f"the operator says {message!r}", said)
        return self

    def metric(self, prefix: str) -> float:
        """The sum of all samples whose text begins so."""
        text = self.get("/metrics")[1]
        return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(prefix))

    def writes(self) -> float:
        """Requests so far that were no reads."""
        counted = [
            line for line in self.get("/metrics")[1].splitlines() if line.startswith("tenantry_kube_requests_total{")
        ]
        reads = ('verb="GET"', 'verb="LIST"')
        return sum(float(line.rpartition(" ")[2]) for line in counted if not any(read in line for read in reads))

    def get(self, path: str) -> tuple[int, str]:
        """Ask its probes."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)


@functools.cache
def renderer() -> str:
    """The chart renderer of this checkout, built if need be."""
    checkout = Checkout.here()
    return str(
        renderhelper.ensure(checkout, architecture(platform.machine()), StepLog(checkout.log_dir / "renderer.log"))
    )


@dataclass
class Operators:
    """Starts operators and ends those that a test has left running."""

    kubeconfig: Path
    directory: Path
    started: list[Operator] = field(default_factory=list)

    def start(self, *, kubeconfig: Path | None = None, lease: str = "tenantry-operator") -> Operator:
        """Start one; it may not be leading yet."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        log = self.directory / f"operator-{len(self.started)}.log"
        command = [sys.executable, "-m", "tenantry", "operator", "--listen", "127.0.0.1", "--port", str(port)]
        command += ["--kubeconfig", str(kubeconfig or self.kubeconfig), "--chart", "charts/tenant"]
        command += ["--tenant-image", "tenantry:test", "--lease-name", lease]
        with log.open("wb") as out:
            environment = {**os.environ, "TENANTRY_RENDER": renderer()}
            process = subprocess.Popen(command, stdout=out, stderr=out, env=environment, start_new_session=True)
        operator = Operator(process, log, port)
        self.started.append(operator)
        return operator

    def release_all(self) -> int:
        """What the uninstall hook runs; its exit status."""
        command = [sys.executable, "-m", "tenantry", "operator", "--release-all", "--kubeconfig", str(self.kubeconfig)]
        return subprocess.run(command, timeout=60, check=False).returncode

    def end(self) -> None:
        """Stop all of them."""
        running = [operator for operator in self.started if operator.process.poll() is None]
        for operator in running:
            operator.process.terminate()
        for operator in running:
            try:
                operator.process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                operator.kill()


@contextlib.contextmanager
def killing_proxy(kubeconfig: Path, directory: Path) -> Iterator["Proxy"]:
    """A proxy before the API server, in a thread of its own."""
    proxy = Proxy(kubeconfig, directory / "proxied")
    thread = threading.Thread(target=lambda: asyncio.run(proxy.run()), daemon=True)
    thread.start()
    proxy.ready.wait(30)
    try:
        yield proxy
    finally:
        proxy.stop()
        thread.join(10)


class Proxy:
    """Passes everything on as the admin; counts writes and can kill a process right after the server did the n-th.

    The process then has no answer: for it, the write may or may not have happened. Renewals of Leases do not count.
    """

    def __init__(self, kubeconfig: Path, proxied: Path) -> None:
        self.kubeconfig = proxied
        self._source = kubeconfig
        self.ready = threading.Event()
        self.writes: list[tuple[str, str, int]] = []
        self.kills = 0
        self._kill_after = 0
        self.victim: Operator | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    def stop(self) -> None:
        """End the proxy."""
        assert self._loop is not None
        assert self._stopping is not None
        self._loop.call_soon_threadsafe(self._stopping.set)

    async def run(self) -> None:
        """Serve until stopped."""
        access = config.from_kubeconfig(self._source)
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        connector = aiohttp.TCPConnector(ssl=access.tls(), limit=0)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:

            async def handle(request: web.Request) -> web.StreamResponse:
                headers = {key: value for key, value in request.headers.items() if key.lower() not in _HOP_BY_HOP}
                token = await access.tokens.token()
                if token:
                    headers["Authorization"] = f"Bearer {token}"
                url = access.server + request.raw_path
                body = await request.read()
                timeout = aiohttp.ClientTimeout(total=None)
                async with session.request(
                    request.method, url, data=body or None, headers=headers, timeout=timeout
                ) as upstream:
                    self._note(request.method, request.path, upstream.status)
                    answer = web.StreamResponse(status=upstream.status)
                    answer.headers.update(
                        {key: value for key, value in upstream.headers.items() if key.lower() not in _HOP_BY_HOP}
                    )
                    await answer.prepare(request)
                    async for chunk in upstream.content.iter_any():
                        await answer.write(chunk)
                    return answer

            app = web.Application(client_max_size=1 << 24)
            app.router.add_route("*", "/{path:.*}", handle)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self._write_kubeconfig(runner.addresses[0][1])
            self.ready.set()
            await self._stopping.wait()
            await runner.cleanup()

    def _write_kubeconfig(self, port: int) -> None:
        document = {
            "current-context": "p",
            "contexts": [{"name": "p", "context": {"cluster": "p", "user": "p"}}],
            "clusters": [{"name": "p", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
            "users": [{"name": "p", "user": {}}],
        }
        self.kubeconfig.write_text(yaml.safe_dump(document))

    def kill_after_writes(self, number: int) -> None:
        """Forget what was written so far, and kill the victim after that many writes from now; 0: never."""
        self.writes.clear()
        self.kills, self._kill_after = 0, number

    def _note(self, method: str, path: str, status: int) -> None:
        if method == "GET" or "/leases" in path:
            return
        self.writes.append((method, path, status))
        if self.victim is not None and self._kill_after and len(self.writes) == self._kill_after:
            self.kills += 1
            os.kill(self.victim.process.pid, signal.SIGKILL)


_HOP_BY_HOP = {"host", "connection", "keep-alive", "transfer-encoding", "content-length", "authorization"}
