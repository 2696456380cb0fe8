"""Revisions of a tier: what its Tenants were, are and will be made from.

A revision is the tier's defaults, the image of its tenants' pods and the identity of the chart. The first two are kept
and can be gone back to; of the chart there is only the one that this process has, so its identity says merely that
there is something new. Equal content is the same revision: going back by applying the former spec finds the old one.

Kept as ``ControllerRevision`` objects, as StatefulSets and DaemonSets keep theirs
(https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/controller-revision-v1/).
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from tenantry_operator.api.meta import ObjectMeta
from tenantry_operator.api.tier import TierSpec
from tenantry_operator.plan import names

#: Revisions that are kept besides those in use, as StatefulSets do (revisionHistoryLimit).
KEPT = 10


class Image(Struct, frozen=True, kw_only=True, rename="camel"):
    """The image of the tenants' pods."""

    repository: str
    tag: str
    pull_policy: str = "IfNotPresent"


class TierRevision(Struct, frozen=True, kw_only=True):
    """One revision. ``number`` only orders them; the name says which it is."""

    name: str
    tier: str
    number: int
    spec: TierSpec
    image: Image
    chart: str


class _Content(Struct, frozen=True, kw_only=True):
    """``data`` of the object."""

    spec: TierSpec
    image: Image
    chart: str


class _Stored(Struct, frozen=True, kw_only=True):
    """A ControllerRevision, as far as we read it."""

    metadata: ObjectMeta
    data: _Content
    revision: int


def revision_of(
    tier: str, uid: str, spec: TierSpec, image: Image, chart: str, known: Iterable[TierRevision]
) -> TierRevision:
    """The revision that a tier is at now: one of the known ones, or the next."""
    content = replace(spec, rollout=None, summary=None)  # neither reaches a Tenant
    body = msgspec.json.encode([uid, _plain(content), _plain(image), chart], order="deterministic")
    name = f"{tier}-{hashlib.sha256(body).hexdigest()[:10]}"
    known = list(known)
    for each in known:
        if each.name == name:
            return each
    number = max((each.number for each in known), default=0) + 1
    return TierRevision(name=name, tier=tier, number=number, spec=content, image=image, chart=chart)


def to_object(revision: TierRevision, namespace: str) -> dict[str, object]:
    """The ControllerRevision. No ownerReference: it outlives its tier for as long as Tenants are on it."""
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": revision.name,
            "namespace": namespace,
            "labels": {names.MANAGED_BY: names.MANAGER_VALUE, names.TIER_LABEL: revision.tier},
        },
        "data": {"spec": _plain(revision.spec), "image": _plain(revision.image), "chart": revision.chart},
        "revision": revision.number,
    }


def from_object(raw: Mapping[str, object]) -> TierRevision | None:
    """The revision in a ControllerRevision; None for one that is not ours or that nobody can read any more."""
    try:
        stored = msgspec.convert(raw, _Stored)
    except msgspec.ValidationError:
        return None
    tier = stored.metadata.labels.get(names.TIER_LABEL)
    if tier is None:
        return None
    content = stored.data
    return TierRevision(
        name=stored.metadata.name,
        tier=tier,
        number=stored.revision,
        spec=content.spec,
        image=content.image,
        chart=content.chart,
    )


def superfluous(known: Iterable[TierRevision], in_use: Collection[str], kept: int = KEPT) -> list[TierRevision]:
    """The revisions to delete: the oldest of those that are not in use, so that ``kept`` of them stay."""
    idle = sorted((each for each in known if each.name not in in_use), key=lambda each: each.number)
    return idle[: max(0, len(idle) - kept)]


def _plain(value: object) -> object:
    """JSON without what is not said: a field that a later version adds must not make every revision a new one."""
    return _said(msgspec.to_builtins(value))


def _said(value: object) -> object:
    if isinstance(value, dict):
        return {key: _said(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_said(inner) for inner in value]
    return value
