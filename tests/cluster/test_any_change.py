"""Whatever a Tenant's spec is changed to: changed back, everything is as before; and what is no spec is refused.

The specs come from the schema of the CRD. ``--hypothesis-seed`` draws others than CI does.
"""

import itertools
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, assume, core, given, settings
from hypothesis import strategies as st
from tenantry_operator.api.decode import FieldError
from tenantry_operator.api.resolve import resolve
from tenantry_operator.plan.desired import policy, values

from tests.cluster.cluster import TENANTS, TIERS, Cluster, RefusedError
from tests.cluster.installation import SYSTEM, Installation
from tests.cluster.kubectl import ROOT
from tests.cluster.operator_process import Operators
from tests.cluster.schema_strategies import allowed, forbidden
from tests.cluster.snapshots import Leaves, differences, snapshot, told
from tests.unit.operator.tenants import KEY, PLATFORM, tenant, tier

#: Tenants that change at once, and how often that is done.
AT_ONCE, TIMES = 8, 1
#: Seconds without a change after which all has been applied.
STILL = 2.0

CREDENTIALS = "any-change"

#: Fields that are not drawn: with them nothing would be applied, or the tenant could not be deleted afterwards; a
#: rotation cannot be taken back, and a node port belongs to one tenant at a time.
LEFT_OUT = (
    "suspend.reconcile",
    "deletionPolicy",
    "deletionProtection",
    "keys[].rotation",
    "exposure.nodePort",
    "tierRevision",
)
#: Owners as rules over more than one field want them.
OWNERS = st.one_of(
    st.fixed_dictionaries({"kind": st.sampled_from(["User", "Group"]), "name": st.sampled_from(["ada", "bob@a.io"])}),
    st.fixed_dictionaries(
        {"kind": st.just("ServiceAccount"), "name": st.just("ci"), "namespace": st.sampled_from(["build", "test"])}
    ),
)

#: Durations whose bounds are a rule.
TTLS = dict.fromkeys(("cache.ttl", "idempotency.ttl"), st.sampled_from(["1s", "90m", "24h", "168h"]))

#: What is drawn from less than the schema allows: things that exist, and no more pods than the cluster has room for.
NARROWED = {
    **TTLS,
    "owners[]": OWNERS,
    "tier": st.just("standard"),
    "upstreams[].credentialsSecret": st.just(CREDENTIALS),
    "keys[].name": st.sampled_from(["default", "ci", "old"]),
    "autoscaling.minReplicas": st.integers(0, 2),
    "autoscaling.maxReplicas": st.integers(1, 4),
}


def schema(plural: str) -> dict[str, Any]:
    """The schema of a kind's spec, as it is published."""
    document = yaml.safe_load((ROOT / "crds" / f"{plural}.yaml").read_text())
    (version,) = document["spec"]["versions"]
    found: dict[str, Any] = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return found


def keeps_rules(path: str, value: Any) -> bool:
    """Whether a field keeps the rules over more than one value, by the operator's own reading."""
    if path == "upstreams[]":
        path, value = "upstreams", [value]
    if "." in path or "[]" in path:
        return True
    try:
        understood({path: value})
    except FieldError:
        return False
    return True


def understood(spec: dict[str, Any]) -> object:
    """What the operator makes of a spec. Raises FieldError for one that it cannot work with."""
    resolved = resolve(tenant(**spec), tier())
    return values("acme", resolved, policy("acme", 1, resolved, [KEY]), PLATFORM)


SPECS = allowed(schema("tenants"), {**NARROWED, **dict.fromkeys(LEFT_OUT)}, check=keeps_rules)
REVISION = st.sampled_from(["standard-0a1b2c3d4e", "standard-former"])
ANY_SPEC = allowed(
    schema("tenants"),
    {**TTLS, "tier": st.just("standard"), "tierRevision": REVISION, "owners[]": OWNERS},
    check=keeps_rules,
)

SEEDED = settings(
    derandomize=core.global_force_seed is None,
    deadline=None,
    phases=[Phase.generate],  # a smaller example would cost a minute of everybody's time for each step
    suppress_health_check=list(HealthCheck),
    database=None,
)


@pytest.fixture(scope="module")
def running(
    cluster: Cluster, installation: Installation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """The cluster, with an operator and what the drawn specs name."""
    cluster.tier()
    labels = {"tenantry.dev/upstream-credentials": "true"}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": CREDENTIALS, "labels": labels}}
    path = f"/api/v1/namespaces/{SYSTEM}/secrets/{CREDENTIALS}"
    cluster.apply(path, {**secret, "stringData": {"api-key": "sk"}})
    operators = Operators(installation.operator, tmp_path_factory.mktemp("any-change"))
    operators.start(lease="any-change")
    try:
        yield cluster
        cluster.empty()
    finally:
        operators.end()
        cluster.delete(path)


NUMBERS = itertools.count(1)


@pytest.mark.timeout(500)
@settings(SEEDED, max_examples=TIMES)
@given(changes=st.lists(st.tuples(SPECS, SPECS), min_size=AT_ONCE, max_size=AT_ONCE))
def test_changed_and_changed_back_everything_is_as_before(
    running: Cluster, changes: list[tuple[dict[str, Any], dict[str, Any]]]
) -> None:
    assume(all(one != other for one, other in changes))  # the first example is always the least of all
    drawn = {f"any-{next(NUMBERS):02}": pair for pair in changes}
    before = settled(running, {name: one for name, (one, _) in drawn.items()})
    between = settled(running, {name: other for name, (_, other) in drawn.items()})
    after = settled(running, {name: one for name, (one, _) in drawn.items()}, like=before)
    wrong = {
        name: f"{drawn[name][0]} -> {drawn[name][1]} and back:\n{told(different, before[name], after[name])}"
        for name in drawn
        if (different := lasting(before[name], after[name]))
    }
    assert not wrong, "\n".join(wrong.values())
    assert any(lasting(before[name], between[name]) for name in drawn), "the change between must have come to something"
    for name in drawn:
        running.delete(f"{TENANTS}/{name}")


def settled(cluster: Cluster, specs: dict[str, Any], like: dict[str, Leaves] | None = None) -> dict[str, Leaves]:
    """Give the tenants these specs, and wait until nothing changes any more (and, if told, all is ``like`` that)."""
    for name, spec in specs.items():
        document = {"apiVersion": "tenantry.dev/v1alpha1", "kind": "Tenant", "metadata": {"name": name}, "spec": spec}
        if cluster.find(f"{TENANTS}/{name}") is None:
            cluster.call("POST", TENANTS, document)
        else:  # not by server-side apply, which leaves null where a field that it owned was the only one of its object
            replaced = [{"op": "replace", "path": "/spec", "value": spec}]
            cluster.call("PATCH", f"{TENANTS}/{name}", replaced, "application/json-patch+json")
    deadline = time.monotonic() + 120
    found, since = snapshot(cluster, specs), time.monotonic()
    while time.monotonic() < deadline:
        time.sleep(0.4)
        done = all(observed(cluster, specs))  # before the look, which then is at what was applied
        fresh = snapshot(cluster, specs)
        if any(lasting(found[name], fresh[name]) for name in specs) or not done:
            since = time.monotonic()
        found = fresh
        alike = like is None or not any(lasting(like[name], found[name]) for name in specs)
        if alike and time.monotonic() - since > STILL:
            break
    return found


def observed(cluster: Cluster, specs: dict[str, Any]) -> Iterator[bool]:
    """Of each tenant, whether the operator has applied its present spec."""
    for each in cluster.call("GET", TENANTS)["items"]:
        if each["metadata"]["name"] in specs:
            status = each.get("status", {})
            yield status.get("observedGeneration") == each["metadata"]["generation"] and "applied" in status


def lasting(one: Leaves, other: Leaves) -> set[tuple[str, ...]]:
    """Differences in what follows from the spec, and not from what happened before."""
    return {path for path in differences(one, other) if not is_history(path)}


def is_history(path: tuple[str, ...]) -> bool:
    """Whether a field tells of the past, or belongs to somebody else."""
    kind, _, name = path[0].partition("/")
    where = path[1:]
    match kind:
        case "tenant":  # revisions count; what the conditions say of the pods depends on how far they are
            return where[0] != "metadata" or where[1] == "managedFields"
        case "secrets" if name.startswith("key-"):  # a key that was revoked is not the key that is issued later
            return where[0] == "data" or "annotations" in where
        case "configmaps":
            return {"keys", "revision"} & set(where) != set() or "tenantry.dev/policy-revision" in where
        case "deployments":  # the number of pods within its bounds is up to the HPA, the rest to its controller
            return where[0] == "status" or where[:2] == ("spec", "replicas") or where[-1].endswith("/revision")
    return where[0] == "status" or (
        where[:2] == ("metadata", "managedFields") and "tenantry-operator+Apply+" not in where
    )


@settings(SEEDED, max_examples=10)
@given(specs=st.lists(ANY_SPEC, min_size=10, max_size=10))
def test_what_the_api_server_accepts_the_operator_can_work_with(running: Cluster, specs: list[dict[str, Any]]) -> None:
    refusals = [refusal for spec in specs if (refusal := refused(running, TENANTS, "Tenant", spec))]
    assert len(refusals) < len(specs) / 2, refusals
    for spec in specs:
        understood({key: value for key, value in spec.items() if key != "tier"})


@pytest.mark.parametrize(
    ("plural", "kind", "path"), [("tenants", "Tenant", TENANTS), ("tenanttiers", "TenantTier", TIERS)]
)
def test_values_that_no_field_allows_are_refused_by_the_api_server(
    cluster: Cluster, plural: str, kind: str, path: str
) -> None:
    cases = forbidden(schema(plural))
    assert len(cases) > 150
    accepted = []
    for field, value in cases:
        spec = {"tier": "standard"} if kind == "Tenant" else {}
        refusal = refused(cluster, path, kind, placed(spec, field, value))
        if not refusal:
            accepted.append((field, value))
    assert accepted == TAKEN_FOR_NOTHING


#: The API server takes an empty list for an absent time. It is stored as it is, and the operator reports InvalidSpec.
TAKEN_FOR_NOTHING: list[tuple[str, object]] = [("keys[].expiresAt", [])]


def test_what_only_the_operator_refuses_is_reported_and_no_crash() -> None:
    for field, value in TAKEN_FOR_NOTHING:
        with pytest.raises(FieldError):
            understood(placed({}, field, value))


def refused(cluster: Cluster, path: str, kind: str, spec: dict[str, Any]) -> str:
    """What the API server has against an object with this spec; nothing is made."""
    document = {"apiVersion": "tenantry.dev/v1alpha1", "kind": kind, "metadata": {"name": "drawn"}, "spec": spec}
    try:
        cluster.call("POST", f"{path}?dryRun=All&fieldValidation=Strict", document)
    except RefusedError as error:
        if error.status not in (400, 422):
            raise
        return str(error)
    return ""


#: A complete item of each list of objects, and of the map of them.
ITEMS: dict[str, dict[str, Any]] = {
    "owners": {"kind": "User", "name": "ada"},
    "keys": {"name": "default"},
    "upstreams": {"name": "openai", "baseURL": "https://api.openai.com/v1"},
    "*": {"input": "1", "output": "2"},
}


def placed(spec: dict[str, Any], field: str, value: Any) -> dict[str, Any]:
    """The spec with this value at this place."""
    head, _, rest = field.partition(".")
    if not rest:
        return {**spec, head: value}
    if head.endswith("[]"):
        name = head.removesuffix("[]")
        return {**spec, name: [placed(ITEMS[name], rest, value)]}
    return {**spec, head: placed(spec.get(head, ITEMS.get(head, {})), rest, value)}
