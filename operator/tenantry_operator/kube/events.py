"""``events.k8s.io/v1`` Events: what ``kubectl describe`` shows under an object.

For transitions only; an Event is a courtesy to people, so its failure is logged and never stops a reconcile.
https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/
"""

import logging
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from tenantry_operator.kube import errors
from tenantry_operator.kube.client import Client, Nothing
from tenantry_operator.kube.resources import EVENTS, Resource

log = logging.getLogger(__name__)

#: The API server refuses longer notes.
NOTE_LIMIT = 1024


#: Events that a Recorder remembers.
REMEMBERED = 50


@dataclass(frozen=True, slots=True)
class Told:
    """An Event, as it is remembered."""

    time: datetime
    about: str
    reason: str
    note: str
    warning: bool


@dataclass(frozen=True, slots=True)
class Subject:
    """The object that an Event is about."""

    resource: Resource
    name: str
    uid: str
    namespace: str | None = None


class Recorder:
    """Writes Events in the name of one controller."""

    def __init__(
        self,
        client: Client,
        *,
        controller: str,
        instance: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._client = client
        self._controller, self._instance = controller, instance
        self._now = now
        #: The last ones, for people: what was recorded or at least tried.
        self.told: deque[Told] = deque(maxlen=REMEMBERED)

    async def record(self, subject: Subject, *, reason: str, note: str, action: str, warning: bool = False) -> None:
        """Write one Event. Events of cluster-scoped objects live in the namespace ``default`` (as in client-go)."""
        namespace, moment = subject.namespace or "default", self._now()
        self.told.append(Told(moment, subject.name, reason, note, warning))
        body = {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"name": f"{subject.name}.{secrets.token_hex(8)}", "namespace": namespace},
            "eventTime": moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": self._controller,
            "reportingInstance": self._instance,
            "type": "Warning" if warning else "Normal",
            "reason": reason,
            "action": action,
            "note": note[:NOTE_LIMIT],
            "regarding": {
                "apiVersion": subject.resource.api_version,
                "kind": subject.resource.kind,
                "name": subject.name,
                "uid": subject.uid,
                **({"namespace": subject.namespace} if subject.namespace else {}),
            },
        }
        try:
            await self._client.create(EVENTS, body, namespace=namespace, into=Nothing)
        except errors.KubeError as error:
            log.info("event %s for %s was not recorded: %s", reason, subject.name, error)
