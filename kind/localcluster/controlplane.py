"""A bare control plane: etcd, kube-apiserver, controller-manager and scheduler as processes, ready in about 3 s.

For tests that need the real API server and its controllers but no nodes; KWOK (kwok.sigs.k8s.io) can play nodes and
pods. All listen on 127.0.0.1 only, at free ports, keep their files in one directory, and end with the `with` block (or
with this process, however that ends).
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from localcluster import tools
from localcluster.config import ZONES, capacity_labels, provider_id
from localcluster.paths import Checkout
from localcluster.steps import ProgramFailed, StepLog

SERVICE_SUBNET = "10.96.0.0/16"

#: kubeadm takes no loopback address; this one (RFC 5737, documentation) it writes, and we replace.
ELSEWHERE = "192.0.2.1"

#: Seconds until the API server must be ready. It takes 3 on an idle machine with two cores.
START_TIMEOUT = 90.0

#: Rates and workers with which the API server, not its clients, is the limit: with the defaults, a thousand Deployments
#: take four minutes to turn Ready, with these one.
FAST_CLIENT = ("--kube-api-qps=500", "--kube-api-burst=1000")
FAST_CONTROLLERS = (
    "--concurrent-namespace-syncs=50",
    "--concurrent-deployment-syncs=20",
    "--concurrent-replicaset-syncs=20",
)

#: What the audit log records: one line per answered request of the platform's own accounts, none of its content.
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata", "userGroups": ["system:serviceaccounts:tenantry-system"]}, {"level": "None"}],
}


class ControlPlane:
    """A control plane of one's own, as a context manager.

    `directory` takes all its files and must be empty; `nodes` is the number of nodes that KWOK plays (0: no KWOK);
    with `audit_log` every request of the platform's accounts is written there as a line of JSON (audit.k8s.io/v1).
    """

    def __init__(
        self, directory: Path, *, nodes: int = 0, audit_log: Path | None = None, checkout: Checkout | None = None
    ) -> None:
        self.directory = directory
        self.kubeconfig = directory / "kubeconfig"
        self.audit_log = audit_log
        self._nodes = nodes
        self._checkout = checkout or Checkout.here()
        self._kube = tools.multicall(self._checkout)
        self._running: list[tuple[str, subprocess.Popen[bytes], IO[bytes]]] = []

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End all programs, the last started first; may be called again."""
        while self._running:
            _, process, output = self._running.pop()
            process.kill()  # nothing is to be kept, so nothing needs to be flushed
            process.wait()
            output.close()

    def restart_apiserver(self) -> None:
        """Kill the API server, start it anew at the same port, and wait until it serves. The others stay and wait."""
        at = next(number for number, (name, _, _) in enumerate(self._running) if name == "kube-apiserver")
        _, process, output = self._running[at]
        arguments = process.args
        assert isinstance(arguments, list)
        process.kill()
        process.wait()
        self._running[at] = ("kube-apiserver", self._spawn(arguments, output), output)
        with closing(StepLog(self.directory / "restart.log")) as with_log:
            kubectl = [self._kube, "kubectl", "--kubeconfig", self.kubeconfig]
            self._wait([*kubectl, "get", "--raw", "/readyz"], with_log)

    def _start(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        client, peer, api, controllers, scheduler = free_ports(5)
        pki = self.directory / "pki"
        with_log = StepLog(self.directory / "setup.log")
        config = self.directory / "kubeadm.json"
        config.write_text(kubeadm_config(api, pki))
        self._program("etcd", etcd_arguments(self.directory / "etcd", client, peer))
        kubeadm = [self._kube, "kubeadm", "init", "phase"]
        with_log.run([*kubeadm, "certs", "all", "--config", config])
        with_log.run([*kubeadm, "kubeconfig", "all", "--config", config, "--kubeconfig-dir", self.directory])
        for written in self.directory.glob("*.conf"):
            written.write_text(written.read_text().replace(ELSEWHERE, "127.0.0.1"))
        (self.directory / "super-admin.conf").rename(self.kubeconfig)
        if self.audit_log is not None:
            (self.directory / "audit.json").write_text(json.dumps(AUDIT_POLICY))
        audit = None if self.audit_log is None else (self.directory / "audit.json", self.audit_log)
        self._program("kube-apiserver", apiserver_arguments(pki, client, api, audit))
        kubectl = [self._kube, "kubectl", "--kubeconfig", self.kubeconfig]
        self._wait([*kubectl, "get", "--raw", "/readyz"], with_log)
        key = f"--service-account-private-key-file={pki / 'sa.key'}"
        common = ["--leader-elect=false", "--bind-address=127.0.0.1", *FAST_CLIENT]
        conf = f"--kubeconfig={self.directory / 'controller-manager.conf'}"
        root = f"--root-ca-file={pki / 'ca.crt'}"
        accounts = "--use-service-account-credentials=true"
        argv = [conf, key, root, accounts, f"--secure-port={controllers}", *common, *FAST_CONTROLLERS]
        self._program("kube-controller-manager", argv)
        conf = f"--kubeconfig={self.directory / 'scheduler.conf'}"
        self._program("kube-scheduler", [conf, f"--secure-port={scheduler}", *common])
        # A namespace without its default account refuses pods: this is when the controllers work.
        self._wait([*kubectl, "get", "serviceaccount", "default"], with_log)
        if self._nodes:
            self._play_nodes(kubectl, with_log)
        with_log.close()

    def _play_nodes(self, kubectl: Sequence[object], log: StepLog) -> None:
        kwok = tools.kwok(self._checkout)
        selector = "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake"
        stages = f"--config={tools.stages(self._checkout)}"
        argv = [f"--kubeconfig={self.kubeconfig}", selector, stages, "--node-lease-duration-seconds=40"]
        self._program("kwok", argv, program=kwok)
        items = {"apiVersion": "v1", "kind": "List", "items": [fake_node(number) for number in range(self._nodes)]}
        log.run([*kubectl, "create", "--filename", "-"], input=json.dumps(items))
        log.run([*kubectl, "wait", "--for=condition=Ready", "nodes", "--all", "--timeout=60s"])

    def _program(self, name: str, argv: Sequence[str], program: Path | None = None) -> None:
        output = (self.directory / f"{name}.log").open("wb")
        command = [str(program)] if program else [str(self._kube), name]
        # The kernel ends it when we end, even by kill -9: a test run leaves no server behind.
        process = self._spawn(["setpriv", "--pdeathsig", "KILL", *command, *argv], output)
        self._running.append((name, process, output))

    def _spawn(self, command: Sequence[str], output: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=self.directory,
            env=environment(os.environ),
        )

    def _wait(self, argv: Sequence[object], log: StepLog) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while log.run(argv, check=False, timeout=20) != 0:
            for name, process, _ in self._running:
                if process.poll() is not None or time.monotonic() > deadline:
                    tail = (self.directory / f"{name}.log").read_text(errors="replace")[-3000:]
                    raise ProgramFailed([name], f"does not serve; the end of its log:\n{tail}")
            time.sleep(0.1)


def environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without what would lead the programs elsewhere."""
    return {name: value for name, value in inherited.items() if name not in {"KUBECONFIG", "NOTIFY_SOCKET"}}


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 that nobody has, all different."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    found = [int(server.getsockname()[1]) for server in held]
    for server in held:
        server.close()
    return found


def kubeadm_config(port: int, pki: Path) -> str:
    """Return the configuration by which kubeadm makes certificates and kubeconfigs (kubeadm v1beta4)."""
    documents = [
        {
            "apiVersion": "kubeadm.k8s.io/v1beta4",
            "kind": "InitConfiguration",
            "localAPIEndpoint": {"advertiseAddress": ELSEWHERE, "bindPort": port},
        },
        {
            "apiVersion": "kubeadm.k8s.io/v1beta4",
            "kind": "ClusterConfiguration",
            "kubernetesVersion": f"v{tools.KUBERNETES}",
            "certificatesDir": str(pki),
            "controlPlaneEndpoint": f"{ELSEWHERE}:{port}",
            "encryptionAlgorithm": "ECDSA-P256",  # RSA keys would take longer than all the rest
            "networking": {"serviceSubnet": SERVICE_SUBNET},
            "apiServer": {"certSANs": ["127.0.0.1", "localhost"]},
        },
    ]
    return "\n---\n".join(json.dumps(document) for document in documents)


def etcd_arguments(data: Path, client: int, peer: int) -> list[str]:
    """Return etcd's arguments: one member, in a hurry rather than durable."""
    urls = {"client": f"http://127.0.0.1:{client}", "peer": f"http://127.0.0.1:{peer}"}
    return [
        f"--data-dir={data}",
        "--unsafe-no-fsync",
        f"--listen-client-urls={urls['client']}",
        f"--advertise-client-urls={urls['client']}",
        f"--listen-peer-urls={urls['peer']}",
        f"--initial-advertise-peer-urls={urls['peer']}",
        f"--initial-cluster=default={urls['peer']}",
        "--log-level=warn",
    ]


def apiserver_arguments(pki: Path, etcd: int, port: int, audit: tuple[Path, Path] | None) -> list[str]:
    """Return the API server's arguments; `audit` is (policy, log)."""
    argv = [
        f"--etcd-servers=http://127.0.0.1:{etcd}",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        # No Endpoints of the Service `kubernetes`: a loopback address may not stand there.
        "--endpoint-reconciler-type=none",
        f"--tls-cert-file={pki / 'apiserver.crt'}",
        f"--tls-private-key-file={pki / 'apiserver.key'}",
        f"--client-ca-file={pki / 'ca.crt'}",
        # Aggregated APIs: their servers know the front proxy by a certificate authority of its own.
        f"--requestheader-client-ca-file={pki / 'front-proxy-ca.crt'}",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={pki / 'front-proxy-client.crt'}",
        f"--proxy-client-key-file={pki / 'front-proxy-client.key'}",
        "--enable-aggregator-routing=true",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={pki / 'sa.pub'}",
        f"--service-account-signing-key-file={pki / 'sa.key'}",
        f"--service-cluster-ip-range={SERVICE_SUBNET}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--kubelet-preferred-address-types=InternalIP",
        "--profiling=false",
    ]
    if audit is not None:
        argv += [f"--audit-policy-file={audit[0]}", f"--audit-log-path={audit[1]}"]
    return argv


def fake_node(number: int) -> dict[str, object]:
    """Return a Spot node for KWOK to play, of the size of an m7g.8xlarge, zones in turn."""
    zone = ZONES[number % len(ZONES)]
    name = f"node-{number}"
    room = {"cpu": "32", "memory": "128Gi", "pods": "110", "ephemeral-storage": "500Gi"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "arm64",
                **capacity_labels("spot", zone),
            },
            "annotations": {"kwok.x-k8s.io/node": "fake"},
        },
        "spec": {"providerID": provider_id("kwok", name, zone)},
        "status": {"allocatable": room, "capacity": room},
    }
