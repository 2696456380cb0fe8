"""ApplySet: a tenant's objects are exactly those that were rendered. KEP-3659, with the Tenant as the set's parent.

The parent's annotation lists every kind that members may have *before* the first member is written, so that whoever
comes later, also another version of the operator, knows where to look for members:

1. ``widen``: id label and kinds on the Tenant, together with our finalizer, in one write. All managed kinds are listed
   at once, so this happens once in a Tenant's life and again only when a version brings a new kind.
   Killed after it: an empty set, which is what the next run starts from.
2. ``apply``: every object by server-side apply, stage by stage (see ``kinds``). Killed in between: the objects written
   so far carry the set's label; the next run applies all of them again, which changes nothing for those.
3. ``prune``: members that were not applied are deleted, each by its uid, so that an object which somebody
   made anew under the same name survives. Killed in between: the next run finds the rest.

Kinds that an older or newer version has listed and this one does not manage stay listed (a superset is legal):
this version cannot see whether members of them are left.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import TypeVar

import msgspec

from tenantry_operator import metrics
from tenantry_operator.api.conditions import Reason
from tenantry_operator.api.meta import FINALIZER, ObjectMeta, namespace_of
from tenantry_operator.apply.kinds import BY_GROUP_KIND, BY_KIND, GROUP_KINDS, STAGES, Stage
from tenantry_operator.apply.namespace import terminating
from tenantry_operator.apply.rights import once_granted
from tenantry_operator.kube import errors
from tenantry_operator.kube.client import Client
from tenantry_operator.kube.resources import DEPLOYMENTS, HTTP_ROUTES, SECRETS, Resource
from tenantry_operator.plan import names, objects
from tenantry_operator.plan.drift import Drift, put_back
from tenantry_operator.plan.facts import Failure
from tenantry_operator.plan.observed import (
    Child,
    LiveAny,
    LiveDeployment,
    LiveObject,
    LiveRoute,
    Ref,
    child,
    own_fields,
    version,
)

log = logging.getLogger(__name__)

T = TypeVar("T")

#: The kinds of which more is read than who owns which field.
_READ_AS: Mapping[Resource, type[LiveAny]] = {DEPLOYMENTS: LiveDeployment, HTTP_ROUTES: LiveRoute}


class Member(msgspec.Struct, frozen=True):
    """One object to apply."""

    resource: Resource
    ref: Ref
    body: Mapping[str, object]


class _Named(msgspec.Struct):
    name: str
    namespace: str = ""
    labels: dict[str, str] = {}


class _Head(msgspec.Struct, rename="camel"):
    api_version: str
    kind: str
    metadata: _Named


def preparation(meta: ObjectMeta) -> list[dict[str, object]]:
    """``widen`` as a JSON patch on the Tenant: our finalizer and the set's id and kinds.

    It tests the resourceVersion first, because it replaces lists that others may have changed meanwhile.
    """
    listed = set(filter(None, meta.annotations.get(names.SET_GROUP_KINDS, "").split(",")))
    annotations = {
        **meta.annotations,
        names.SET_GROUP_KINDS: ",".join(sorted(listed | GROUP_KINDS)),
        names.SET_TOOLING: names.TOOLING,
    }
    finalizers = [*(each for each in meta.finalizers if each != FINALIZER), FINALIZER]
    return [
        {"op": "test", "path": "/metadata/resourceVersion", "value": meta.resource_version},
        {"op": "test", "path": "/metadata/uid", "value": meta.uid},
        {"op": "add", "path": "/metadata/finalizers", "value": finalizers},
        {"op": "add", "path": "/metadata/labels", "value": {**meta.labels, names.SET_ID: names.set_id(meta.name)}},
        {"op": "add", "path": "/metadata/annotations", "value": annotations},
    ]


def members(tenant: str, rendered: Iterable[Mapping[str, object]]) -> list[Member]:
    """Rendered objects as members of the tenant's set, each checked to be one that we may apply. Raises Failure.

    Refused: a kind that is not managed, another namespace than the tenant's, another set's id, two of the same name.
    """
    found: dict[Ref, Member] = {}
    own = names.set_id(tenant)
    for each in rendered:
        head = msgspec.convert(each, _Head)
        what = f"{head.kind} {head.metadata.name}"
        resource = BY_KIND.get((head.api_version, head.kind))
        if resource is None:
            raise Failure(Reason.RENDER_FAILED, f"the chart renders {what} ({head.api_version}), a kind not managed")
        body = objects.member(each, tenant, namespaced=resource.namespaced)
        namespace = (head.metadata.namespace or namespace_of(tenant)) if resource.namespaced else ""
        if (namespace or head.metadata.name) != namespace_of(tenant):
            raise Failure(Reason.RENDER_FAILED, f"the chart renders {what} outside the tenant's namespace")
        if head.metadata.labels.get(names.PART_OF, own) != own:
            raise Failure(Reason.OBJECT_CONFLICT, f"the chart renders {what} as part of another set")
        ref = Ref(resource.group_kind, namespace, head.metadata.name)
        if ref in found:
            raise Failure(Reason.RENDER_FAILED, f"the chart renders {what} twice")
        found[ref] = Member(resource, ref, body)
    return list(found.values())


class ApplySet:
    """The members of one tenant.

    ``known``: what was last seen of them. ``fresh``: the namespace was made in this very run and holds nothing older.
    ``compare``: look at each object before it is applied, to tell in ``drifts`` what was put back. ``taken``: is handed
    each object as it was answered, at once, so that its watch event is old news; but no Secret, which no watch reports.
    """

    def __init__(
        self,
        client: Client,
        tenant: str,
        known: Sequence[Child],
        *,
        fresh: bool = False,
        compare: bool = False,
        taken: Callable[[Child], object] = lambda _: None,
    ) -> None:
        self._client, self._taken = client, taken
        self._fresh = fresh
        self._tenant = tenant
        self._id = names.set_id(tenant)
        self._known = {each.ref: each for each in known}
        self._compare = compare
        self.drifts: list[Drift] = []

    async def apply(self, wanted: Sequence[Member]) -> list[Child]:
        """Write all members, stage by stage; gives what they became. Raises Failure or KubeError at the first refusal
        (others of the same stage may have been written)."""
        applied: list[Child] = []
        for stage in Stage:
            batch = [member for member in wanted if STAGES[member.resource] is stage]
            applied += await _all(self._apply(member) for member in batch)
        return applied

    async def _apply(self, member: Member) -> Child:
        after = await self._compared(member) if self._compare else await self._counted(member)
        found = child(member.resource.group_kind, after)
        if member.resource is not SECRETS:
            self._taken(found)
        return found

    async def _compared(self, member: Member) -> LiveAny:
        before = await self._find(member)
        after = await self._counted(member)
        fields = () if before is None else put_back(own_fields(before.metadata), own_fields(after.metadata))
        if before is None or fields:
            self.drifts.append(Drift(kind=member.resource.kind, name=member.ref.name, fields=fields))
        return after

    async def _counted(self, member: Member) -> LiveAny:
        known, result = self._known.get(member.ref), "failed"
        try:
            after = await self._put(member)
            same = known is not None and known.version == version(after.metadata.resource_version)
            result = "created" if known is None else "unchanged" if same else "changed"
        except Failure:
            result = "refused"
            raise
        finally:
            metrics.APPLIES.labels(member.resource.kind, result).inc()
        return after

    async def _put(self, member: Member) -> LiveAny:
        known = self._known.get(member.ref)
        what = f"{member.resource.kind} {member.ref.name}"
        try:
            if known is not None:
                self._check(known.set_id, what)
                return await self._write(member, force=True)
            try:
                # Not seen as ours: without force, so that another applier's label stops us and is not overwritten.
                return await once_granted(lambda: self._write(member, force=False), fresh=self._fresh)
            except errors.Conflict:
                await self._look(member, what)
                return await self._write(member, force=True)
        except errors.NamespaceTerminating:
            raise terminating(member.ref.namespace) from None
        except (errors.Invalid, errors.BadRequest) as error:
            raise Failure(Reason.APPLY_FORBIDDEN, f"{what}: {error.message}") from error

    async def _write(self, member: Member, *, force: bool) -> LiveAny:
        return await self._client.apply(
            member.resource,
            member.ref.name,
            member.body,
            namespace=member.ref.namespace or None,
            force=force,
            into=_READ_AS.get(member.resource, LiveObject),
        )

    async def _find(self, member: Member) -> LiveObject | None:
        namespace = member.ref.namespace or None
        return await self._client.find(member.resource, member.ref.name, namespace=namespace, into=LiveObject)

    async def _look(self, member: Member, what: str) -> None:
        live = await self._find(member)
        if live is not None:
            self._check(live.metadata.labels.get(names.PART_OF, ""), what)

    def _check(self, set_id: str, what: str) -> None:
        if set_id not in ("", self._id):
            raise Failure(
                Reason.OBJECT_CONFLICT,
                f"{what} belongs to another set ({set_id}); it is left alone. Delete it, or take its label"
                f" {names.PART_OF} away",
            )

    async def prune(self, applied: Sequence[Child], *, keys: Collection[str]) -> list[Child]:
        """Delete the members that were not applied; gives those that are gone. Unwatched Secrets are listed for it.

        ``keys`` names the Secrets with API keys: they are members that are never applied, only created once.
        """
        keep = {each.uid for each in applied}
        # Never a Namespace: the tenant's own is not an orphan, and no other can be a member.
        candidates = [
            each
            for each in self._known.values()
            if each.set_id == self._id and each.at_home and each.ref.namespace and not each.terminating
        ]
        if not self._fresh:
            secrets = await self._client.list(
                SECRETS,
                namespace=namespace_of(self._tenant),
                labels=f"{names.PART_OF}={self._id}",
                into=LiveObject,
            )
            candidates += [child(SECRETS.group_kind, live) for live in secrets if live.metadata.name not in keys]
        orphans = [each for each in candidates if each.uid not in keep]
        return await _all(self._delete(orphan) for orphan in orphans)

    async def _delete(self, orphan: Child) -> Child:
        resource = BY_GROUP_KIND[orphan.ref.group_kind]
        try:
            await self._client.delete(resource, orphan.ref.name, namespace=orphan.ref.namespace or None, uid=orphan.uid)
            log.info("pruned", extra={"object": f"{resource.kind}/{orphan.ref.name}"})
            if self._compare:
                self.drifts.append(Drift(kind=resource.kind, name=orphan.ref.name, stray=True))
        except errors.NotFound:
            pass  # that is what we wanted
        except errors.Conflict:
            log.info("not pruned: another object by now", extra={"object": orphan.ref.name})
        return orphan


async def _all(work: Iterable[Awaitable[T]]) -> list[T]:
    """Run side by side, wait for all, then raise the first error: nothing goes on in the background."""
    results = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]
