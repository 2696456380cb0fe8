"""Evictions of tenants' pods, asked about before they happen: of Karpenter's consolidation, of node group upgrades, of
the descheduler, of somebody who types `kubectl drain`.

The API server asks (a validating webhook on ``pods/eviction``). For a pod that has something to lose the answer is 429,
"later", which all of those take as a reason to ask again; meanwhile the pod is handed over like one whose node goes
away, and deleted by us when it has nothing left to do. A budget (PodDisruptionBudget) that says the same would keep
Karpenter from ever considering the node.
https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/ and
https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/
"""

from collections.abc import Callable
from datetime import datetime, timedelta

import msgspec
from msgspec import Struct

from tenantry_operator.interruption import names
from tenantry_operator.interruption.observed import handover
from tenantry_operator.pods import Pod

#: Seconds until the next attempt. `kubectl drain` and Karpenter take their own, which are about as long.
RETRY_AFTER = 5
#: Who has asked and does not come back has changed his mind.
REMEMBERED = timedelta(minutes=1)


class _Options(Struct, frozen=True, rename="camel"):
    dry_run: list[str] | None = None


class _Eviction(Struct, frozen=True, rename="camel"):
    delete_options: _Options | None = None


class _Request(Struct, frozen=True, rename="camel"):
    uid: str
    name: str = ""
    namespace: str = ""
    dry_run: bool = False
    object: _Eviction | None = None


class _Review(Struct, frozen=True):
    request: _Request


class Asked(Struct, frozen=True):
    """One question: may this pod be evicted? ``only_asked``: whatever the answer, nothing is to happen (a dry run)."""

    uid: str
    namespace: str
    pod: str
    only_asked: bool = False


def asked(body: bytes) -> Asked:
    """The question in an AdmissionReview (admission.k8s.io/v1) of an Eviction. Raises msgspec.DecodeError."""
    request = msgspec.json.decode(body, type=_Review).request
    options = request.object.delete_options if request.object is not None else None
    dry = request.dry_run or bool(options is not None and options.dry_run)
    return Asked(uid=request.uid, namespace=request.namespace, pod=request.name, only_asked=dry)


def answer(uid: str, later: str | None) -> dict[str, object]:
    """The AdmissionReview that answers. ``later``: why the pod is not to be evicted yet; None: it may be."""
    response: dict[str, object] = {"uid": uid, "allowed": later is None}
    if later is not None:
        response["status"] = {
            "code": 429,
            "reason": "TooManyRequests",
            "message": later,
            "details": {"retryAfterSeconds": RETRY_AFTER},
        }
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}


class Evictions:
    """Who is asked for, and the answers. ``limit``: longest that an eviction is put off.

    How far a pod is, is on the pod itself. What is remembered here (since when it is asked for) may be lost: it is
    asked for again in a few seconds.
    """

    def __init__(self, limit: timedelta) -> None:
        self._limit = limit
        self._first: dict[str, datetime] = {}
        self._last: dict[str, datetime] = {}
        #: Called when a pod is to be handed over.
        self.wake: Callable[[], None] = lambda: None

    def wanted(self, now: datetime) -> frozenset[str]:
        """The uids of pods that somebody wants to evict."""
        return frozenset(uid for uid, at in self._last.items() if now - at < REMEMBERED)

    def judge(self, pod: Pod | None, now: datetime, *, only_asked: bool = False) -> str | None:
        """Why this pod is not to be evicted yet; None: it may be. None for ``pod``: one that is not a tenant's."""
        if pod is None or pod.terminating or pod.phase in ("Succeeded", "Failed"):
            return None
        begun = pod.pool == names.DRAINING
        if not begun and not pod.ready:
            return None  # serves nobody
        since = (handover(pod).since if begun else None) or self._first.get(pod.uid, now)
        if now - since >= self._limit:
            return None
        if not only_asked:
            self._remember(pod.uid, now)
        if begun and pod.serve == names.NO:
            return f"pod {pod.name} ends what it has begun; it is deleted when that is done"
        return f"pod {pod.name} serves until its replacement is ready; then it is deleted"

    def _remember(self, uid: str, now: datetime) -> None:
        horizon = now - self._limit - REMEMBERED
        if uid not in self._last:  # those who were evicted, or are gone otherwise, are not told of any more
            self._last = {each: at for each, at in self._last.items() if at > horizon}
            self._first = {each: at for each, at in self._first.items() if each in self._last}
        self._first.setdefault(uid, now)
        self._last[uid] = now
        self.wake()
