"""From a resolved tenant to what is handed to its chart and to its pods."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct
from msgspec.structs import replace
from tenantry_service import policy as contract

from tenantry_operator.api.allowance import KeyLimits
from tenantry_operator.api.meta import namespace_of
from tenantry_operator.api.resolve import ResolvedBudget, ResolvedKeeping, ResolvedSpec
from tenantry_operator.api.tenant import Applied, TenantSpec
from tenantry_operator.api.traffic import Upstream
from tenantry_operator.plan import exposure, names, prices
from tenantry_operator.plan.exposure import NOWHERE, Exposure, Reach
from tenantry_operator.plan.keys import IssuedKey
from tenantry_operator.plan.revisions import Image, TierRevision
from tenantry_operator.plan.store import Store, namespace_of_host

UPSTREAMS_DIRECTORY = "/etc/tenantry/upstreams"


class MetricsSource(StrEnum):
    """Where HPAs read requests in flight."""

    BUILTIN = "builtin"  # from the operator
    PROMETHEUS_ADAPTER = "prometheus-adapter"
    KEDA = "keda"  # which makes HPAs itself, so we make none
    NONE = "none"  # nowhere: CPU only


#: As the pods' own metric and that of the operator's API are called.
IN_FLIGHT_METRIC = "tenantry_in_flight_requests"


class Platform(Struct, frozen=True, kw_only=True):
    """What holds for every tenant of this installation."""

    namespace: str
    image_repository: str
    image_tag: str
    image_pull_policy: str = "IfNotPresent"
    exposure: Exposure = Exposure()
    tenant_role: str = "tenantry-operator-tenant"
    service_account: str = "tenantry-operator"
    #: The shared counters; None: each pod counts for itself.
    store: Store | None = None
    #: Namespace of Prometheus, which reads the metrics of tenants' pods; empty: nobody does.
    monitoring_namespace: str = ""
    metrics_source: MetricsSource = MetricsSource.BUILTIN
    #: There is a metrics-server, so that HPAs can go by CPU, too.
    cpu_metrics: bool = False
    scale_down_window_seconds: int = 300


class Wanted(Struct, frozen=True, kw_only=True):
    """All that is to be applied for a tenant, worked out once for each look at it."""

    spec: ResolvedSpec
    #: What is applied beside what the chart renders: the Namespace, and the operator's rights in it.
    own: tuple[Mapping[str, object], ...] = ()
    #: Of the tenant chart; the policy document is in them.
    values: Mapping[str, object]
    #: What ``status.applied.digest`` is compared with.
    digest: str
    #: What of it the tenant itself brought in (see ``inputs``), and from which revision of its tier the rest is.
    inputs: str = ""
    tier_revision: str = ""
    #: For running pods, so that their kubelet refreshes policy and credentials at once.
    pod_annotations: Mapping[str, str] = {}


def split_image(reference: str) -> tuple[str, str]:
    """``repository`` and ``tag`` (or ``sha256:…``) of an image reference. Raises ValueError when it names neither."""
    repository, at, digest = reference.partition("@")
    if at:
        return repository.rpartition(":")[0] if ":" in repository.rpartition("/")[2] else repository, digest
    repository, colon, tag = reference.rpartition(":")
    if not colon or "/" in tag:
        raise ValueError(f"image {reference!r} needs a tag or a digest, for example tenantry:1.0")
    return repository, tag


def policy(tenant: str, generation: int, spec: ResolvedSpec, keys: Sequence[IssuedKey]) -> contract.Policy:
    """The document that the tenant's pods serve. Only keys that the spec still names are in it."""
    return contract.sealed(
        contract.Policy(
            tenant=tenant,
            generation=generation,
            keys=tuple(_records(spec, keys)),
            limits=contract.Limits(
                requests_per_minute=spec.limits.requests_per_minute,
                tokens_per_minute=spec.limits.tokens_per_minute,
                concurrent_requests=spec.limits.concurrent_requests,
                when_unavailable=contract.WhenUnavailable(spec.limits.when_unavailable),
                require_declared_max_tokens=spec.limits.require_declared_max_tokens,
            ),
            budget=_budget(spec.budget),
            models=contract.Models(
                allow=spec.models.allow,
                aliases=spec.models.aliases,
                default=spec.models.default,
                max_output_tokens=spec.models.max_output_tokens,
            ),
            upstreams=tuple(_upstream(upstream) for upstream in spec.upstreams),
            routes=contract.Routes(allow=spec.routes, unknown=contract.UnknownRoute(spec.unknown_route)),
            max_body_bytes=spec.limits.max_body_bytes,
            max_upload_bytes=spec.limits.max_upload_bytes,
            prices={model: prices.of(rates) for model, rates in spec.rates.items()},
            unknown_model=contract.UnknownModel(spec.unknown_model),
            cache=_keeping(spec.cache),
            idempotency=_keeping(spec.idempotency),
        )
    )


def _keeping(keeping: ResolvedKeeping | None) -> contract.Keeping | None:
    if keeping is None:
        return None
    return contract.Keeping(ttl_seconds=keeping.ttl_seconds, max_bytes=keeping.max_bytes)


def _upstream(upstream: Upstream) -> contract.Upstream:
    file = f"{UPSTREAMS_DIRECTORY}/{upstream.name}/{names.SECRET_FIELD}" if upstream.credentials_secret else None
    header = upstream.credential_header
    return contract.Upstream(
        name=upstream.name,
        base_url=upstream.base_url,
        credentials_file=file,
        priority=upstream.priority,
        models=upstream.models or ("*",),
        credential_header=None if header is None else contract.CredentialHeader(header),
    )


def _records(spec: ResolvedSpec, keys: Sequence[IssuedKey]) -> Iterator[contract.Key]:
    """Each key that the spec names, and the former ones that are still in their grace period."""
    issued = {key.name: key for key in keys}
    for wanted in spec.keys:
        key, end = issued.get(wanted.name), wanted.expires_at
        if key is None:
            continue
        bounds = wanted.limits or KeyLimits()
        limits = contract.KeyLimits(
            requests_per_minute=bounds.requests_per_minute,
            tokens_per_minute=bounds.tokens_per_minute,
            concurrent_requests=bounds.concurrent_requests,
        )
        current = contract.Key(
            id=key.id,
            name=key.name,
            sha256=key.sha256,
            expires_at=end,
            limits=None if limits == contract.KeyLimits() else limits,
            budget=_budget(wanted.budget),
        )
        yield current
        for former in key.former:
            until = former.until if end is None else min(former.until, end)
            yield replace(current, id=former.id, sha256=former.sha256, expires_at=until)


def _budget(budget: ResolvedBudget | None) -> contract.Budget | None:
    if budget is None:
        return None
    return contract.Budget(
        amount_nano_usd=budget.amount_nano_usd,
        window=contract.Window(budget.window),
        on_exceeded=contract.OnExceeded(budget.on_exceeded),
    )


def values(
    tenant: str, spec: ResolvedSpec, document: contract.Policy, platform: Platform, reach: Reach = NOWHERE
) -> dict[str, object]:
    """The values of ``charts/tenant`` (its ``values.schema.json`` is the authority)."""
    namespaces, ports = _egress([upstream.base_url for upstream in spec.upstreams])
    limits = {"memory": spec.resources.memory_limit}
    if spec.resources.cpu_limit is not None:
        limits["cpu"] = spec.resources.cpu_limit
    return {
        "tenant": {"name": tenant, "generation": document.generation},
        "image": {
            "repository": platform.image_repository,
            "tag": platform.image_tag,
            "pullPolicy": platform.image_pull_policy,
        },
        "namespace": {"create": False, "name": namespace_of(tenant)},
        "owners": [
            {"kind": owner.kind.value, "name": owner.name} | ({"namespace": owner.namespace} if owner.namespace else {})
            for owner in spec.owners
        ],
        "keys": [key.name for key in spec.keys],
        "policy": msgspec.to_builtins(document),
        "upstreamSecrets": [upstream.name for upstream in spec.upstreams if upstream.credentials_secret],
        "resources": {
            "requests": {"cpu": spec.resources.cpu_request, "memory": spec.resources.memory_request},
            "limits": limits,
        },
        "autoscaling": {
            "enabled": platform.metrics_source is not MetricsSource.KEDA,
            "minReplicas": spec.autoscaling.min_replicas,
            "maxReplicas": spec.autoscaling.max_replicas,
            "targetInFlight": spec.autoscaling.target_in_flight,
            "inFlightMetric": "" if platform.metrics_source is MetricsSource.NONE else IN_FLIGHT_METRIC,
            "cpuMetric": platform.cpu_metrics,
            "scaleDownWindowSeconds": platform.scale_down_window_seconds,
        },
        "placement": {
            "capacity": spec.capacity.value,
            "architectures": [architecture.value for architecture in spec.architectures],
        },
        "service": {"nodePort": spec.node_port},
        "network": {
            "ingressNamespaces": sorted(
                {platform.namespace, platform.monitoring_namespace, *platform.exposure.namespaces} - {""}
            ),
            "egress": {"ports": ports, "namespaces": namespaces},
            "redis": _redis_egress(platform.store),
        },
        "redis": {"enabled": platform.store is not None},
        "route": exposure.values(reach, platform.exposure),
        "suspend": {"traffic": spec.suspend_traffic},
    }


def _egress(base_urls: Sequence[str]) -> tuple[list[str], list[int]]:
    """Namespaces of upstreams inside the cluster, and ports of those outside."""
    namespaces: set[str] = set()
    ports = {443}
    for url in base_urls:
        parts = urlsplit(url)
        labels = (parts.hostname or "").split(".")
        if len(labels) >= 3 and labels[2] == "svc":  # <service>.<namespace>.svc[.<cluster domain>]
            namespaces.add(labels[1])
        else:
            ports.add(parts.port or (443 if parts.scheme == "https" else 80))
    return sorted(namespaces), sorted(ports)


def _redis_egress(store: Store | None) -> dict[str, object]:
    """Where the shared counters are, for the network policy."""
    if store is None:
        return {}
    namespace = namespace_of_host(store.host)
    where: dict[str, object] = {"cidrs": list(store.cidrs)} if namespace is None else {"namespace": namespace}
    return {"port": store.port, **where}


def inputs(
    spec: TenantSpec, keys: Sequence[contract.Key], credentials: Mapping[str, object], reach: Reach = NOWHERE
) -> str:
    """What a tenant itself brings in, as said and not as worked out: a new operator reads the same from it.

    As long as it stays the same, a newer chart, image or operator waits for the tenant's wave.
    """
    said = msgspec.to_builtins(replace(spec, tier_revision=None))
    own = {name: value for name, value in said.items() if value is not None}
    given = msgspec.json.encode([own, keys, credentials, *([reach] if reach != NOWHERE else [])], order="deterministic")
    return hashlib.sha256(given).hexdigest()[:32]


def unmoved(applied: Applied, inputs: str, revision: TierRevision) -> bool:
    """Whether what was applied is of this revision and of these inputs, whatever has become of chart and operator."""
    return applied.tier_revision == revision.name and applied.inputs == inputs


def with_image(platform: Platform, image: Image) -> Platform:
    """The platform with another image for the tenants' pods."""
    return replace(
        platform, image_repository=image.repository, image_tag=image.tag, image_pull_policy=image.pull_policy
    )


def digest(chart_digest: str, own: Sequence[Mapping[str, object]], credentials: Mapping[str, str]) -> str:
    """What ``status.applied.digest`` compares: chart and values, and what the operator adds to them.

    ``own``: the objects that it makes itself; ``credentials``: what tells each copied Secret's content from others.
    """
    added = msgspec.json.encode([chart_digest, own, credentials], order="deterministic")
    return f"sha256:{hashlib.sha256(added).hexdigest()}"


def pod_annotations(document: contract.Policy, credentials: Mapping[str, str]) -> dict[str, str]:
    """What to write on running pods so that their kubelet refreshes policy and credentials at once."""
    sources = msgspec.json.encode(credentials, order="deterministic")
    return {
        names.POLICY_REVISION: document.revision,
        names.CREDENTIALS_REVISION: hashlib.sha256(sources).hexdigest()[:12],
    }
