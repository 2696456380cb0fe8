"""Rights that the platform's chart grants, and those that were used, according to the API server's audit log.

https://kubernetes.io/docs/reference/config-api/apiserver-audit.v1/: with RBAC, each event says in an annotation which
binding of which role allowed the request.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

#: What a role is called in the audit log's reasons, for example ``ClusterRole "tenantry-operator"``.
_ROLE = re.compile(r' of ((?:Cluster)?Role "[^"]+") to ')


@dataclass(frozen=True, order=True)
class Right:
    """One verb on one resource (``pods``, ``tenants/status``), by one role."""

    role: str
    group: str
    resource: str
    verb: str

    def __str__(self) -> str:
        return f"{self.role}: {self.verb} {self.resource}{f'.{self.group}' if self.group else ''}"


@dataclass(frozen=True)
class Use:
    """One request of one of our accounts. ``role``: who allowed it; empty: refused, or allowed to everybody."""

    account: str
    namespace: str
    right: Right
    allowed: bool
    created: bool

    def rights(self) -> Iterator[Right]:
        """What was needed for it: to apply what does not exist yet takes the right to create it, too."""
        yield self.right
        if self.created and self.right.verb == "patch":
            yield Right(self.right.role, self.right.group, self.right.resource, "create")


def granted(documents: Iterable[Mapping[str, Any]]) -> set[Right]:
    """Every right of every role among these objects."""
    return {
        Right(f'{role["kind"]} "{role["metadata"]["name"]}"', group, resource, verb)
        for role in documents
        if role["kind"] in ("Role", "ClusterRole")
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def used(lines: Iterable[str]) -> Iterator[Use]:
    """The requests of an audit log."""
    for line in lines:
        event = json.loads(line)
        target, notes = event.get("objectRef"), event.get("annotations", {})
        if target is None or event["stage"] not in ("ResponseComplete", "ResponseStarted"):
            continue
        role = _ROLE.search(notes.get("authorization.k8s.io/reason", ""))
        resource = "/".join(filter(None, [target["resource"], target.get("subresource", "")]))
        yield Use(
            account=event["user"]["username"],
            namespace=target.get("namespace", ""),
            right=Right(role[1] if role else "", target.get("apiGroup", ""), resource, event["verb"]),
            allowed=notes.get("authorization.k8s.io/decision") == "allow",
            created=event.get("responseStatus", {}).get("code") == 201,
        )


def unused(grants: set[Right], uses: Iterable[Use]) -> set[Right]:
    """Rights that no request was allowed by."""
    return grants - {right for use in uses if use.allowed for right in use.rights()}


def missing(grants: set[Right], uses: Iterable[Use], *, in_tenants: str) -> set[tuple[Right, str]]:
    """Requests that were refused and that no role grants where they were made, with the namespace.

    Refused for a moment, with no right missing, is also what a role does grant: while an API server that has just
    started has not read the bindings yet; and in the namespace of a tenant before the binding to the role
    ``in_tenants`` is known, or after it is gone with its namespace. A role that nobody is bound to does not hide behind
    this: its rights are ``unused``.
    """

    def reaches(role: str, namespace: str) -> bool:
        if role == in_tenants:
            return namespace.startswith("tenant-")
        return role.startswith("ClusterRole") or bool(namespace)

    def held(use: Use) -> bool:
        return any(reaches(right.role, use.namespace) and replace(right, role="") == use.right for right in grants)

    return {(use.right, use.namespace) for use in uses if not use.allowed and not held(use)}
