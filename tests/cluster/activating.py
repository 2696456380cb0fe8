"""An activator of the test's own, and pods that all say the same: for operators without a cluster of real pods."""

import base64
import json
import socket
import ssl
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from typing import Any

from tests.cluster.cluster import Cluster, RefusedError
from tests.cluster.installation import SYSTEM
from tests.cluster.operator_process import Operator, Operators
from tests.cluster.pod_proxy import PodProxy
from tests.ports import free_port

#: Where the activator claims to be.
ACTIVATOR = "192.0.2.99"


def own_address() -> str:
    """An address of this machine that may stand in an EndpointSlice: no loopback one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # nothing is sent
        found: str = probe.getsockname()[0]
    return found


def start(operators: Operators, proxy: PodProxy, *more: str) -> tuple[Operator, int]:
    """An operator that serves metrics and activators, and at which port."""
    address = own_address()
    flags = ("--advertise-address", address, "--listen", "0.0.0.0", "--secure-port", str(free_port(address)))
    running = operators.start(*flags, "--pod-proxy", proxy.url, *more).says("serving metrics and wake-ups")
    (line,) = [each for each in running.lines() if each["message"] == "serving metrics and wake-ups"]
    return running, line["port"]


@dataclass
class Activator:
    """What `tenantry activator` says to the operator, said by a thread of the test's.

    ``at_once``: it does not wait for news, as the real one does while nobody waits at its door, and so hears of all
    within a tenth of a second. Each question has a connection of its own, ten times a second then.
    """

    cluster: Cluster
    port: int
    at_once: bool = True
    wake: list[str] = field(default_factory=list)
    sleepers: dict[str, dict[str, Any]] = field(default_factory=dict)
    epochs: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._context = ssl.create_default_context()
        self._context.check_hostname, self._context.verify_mode = False, ssl.CERT_NONE
        self._version = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                self._ask()
            except (OSError, KeyError, RefusedError):
                time.sleep(0.2)

    def _ask(self) -> None:
        secret = self.cluster.call("GET", f"/api/v1/namespaces/{SYSTEM}/secrets/tenantry-internal")
        token = base64.b64decode(secret["data"]["activator-token"]).decode()
        body = {
            "instance": "test",
            "address": ACTIVATOR,
            "port": 8000,
            "epoch": self.epochs[-1] if self.epochs else "",
            "version": self._version,
            "wake": self.wake,
            "atOnce": self.at_once,
        }
        answer = self.ask(body, token)
        if not self.epochs or answer["epoch"] != self.epochs[-1]:
            self.epochs.append(answer["epoch"])
            self.sleepers = {}
        for each in answer["sleepers"]:
            self.sleepers[each["tenant"]] = each
        self._version = answer["version"]
        time.sleep(0.1)

    def ask(self, body: object, token: str) -> dict[str, Any]:
        """One question."""
        request = urllib.request.Request(
            f"https://{own_address()}:{self.port}/activator/v1/sync",
            data=json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {token}"},
        )
        with urllib.request.urlopen(request, timeout=15, context=self._context) as response:
            found = json.load(response)
        assert isinstance(found, dict)
        return found

    def stop(self) -> None:
        """No more questions."""
        self._over.set()
        self._thread.join(20)


class Pods:
    """All say that nobody has asked anything for so many seconds; 0: that a stream is open."""

    def __init__(self, idle: float = 0.0) -> None:
        self.idle = idle

    def __call__(self, _: str) -> dict[str, object]:
        busy = int(self.idle == 0)
        return {"requests": busy, "streams": busy, "draining": False, "idleSeconds": self.idle}
