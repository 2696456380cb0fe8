"""The picture of the cluster: what is news and what is the echo of our own writes."""

from msgspec.structs import replace
from tenantry_operator.api.decode import FieldError
from tenantry_operator.live import Credential, Live, TenantRecord
from tenantry_operator.plan.observed import Ref

from tests.unit.operator.tenants import SPACE, UID, child
from tests.unit.operator.tenants import record as read_tenant


def raw_tenant(resource_version: int = 7, generation: int = 1, **more: object) -> dict[str, object]:
    """A Tenant's JSON."""
    metadata = {"name": "acme", "uid": UID, "generation": generation, "resourceVersion": str(resource_version)}
    return {"metadata": metadata, "spec": {"tier": "standard"}, **more}


def record(resource_version: int = 7, generation: int = 1, **more: object) -> TenantRecord:
    """A Tenant as read."""
    return read_tenant(raw_tenant(resource_version, generation, **more))


def raw_tier(resource_version: int, **spec: object) -> dict[str, object]:
    """A tier's JSON."""
    return {"metadata": {"name": "standard", "resourceVersion": str(resource_version)}, "spec": spec}


def test_the_echo_of_our_own_write_is_no_news() -> None:
    live = Live()
    assert live.put_tenant(record(7))
    answer = record(8, status={"namespace": "tenant-acme"})
    live.put_tenant(answer)
    assert not live.put_tenant(record(8, status={"namespace": "tenant-acme"}))
    assert not live.put_tenant(record(7))
    assert live.tenants["acme"] == answer


def test_a_users_change_is_news() -> None:
    live = Live()
    live.put_tenant(record(7))
    assert live.put_tenant(record(9, generation=2))


def test_a_deletion_of_a_former_tenant_of_that_name_is_ignored() -> None:
    live = Live()
    live.put_tenant(record())
    assert not live.drop_tenant("acme", "another")
    assert live.drop_tenant("acme", UID)
    assert not live.drop_tenant("acme", UID)


def test_the_answer_to_a_write_that_comes_after_the_watch_has_told_of_the_tenants_end_does_not_bring_it_back() -> None:
    live = Live()
    live.put_tenant(record(7))
    live.take_answer(record(8))
    assert live.tenants["acme"] == record(8)
    assert live.drop_tenant("acme", UID)
    live.take_answer(record(8))
    assert "acme" not in live.tenants
    assert live.put_tenant(record(9)), "a watch knows better"


def test_a_tenant_that_cannot_be_read_is_known_all_the_same() -> None:
    broken = read_tenant({**raw_tenant(), "spec": {"tier": 5}})
    assert broken.meta.name == "acme"
    assert isinstance(broken.tenant, FieldError)
    assert broken.tenant.field == "spec.tier"


def test_a_tier_is_news_for_the_tenants_that_name_it() -> None:
    live = Live()
    live.put_tenant(record())
    assert live.put_tier(raw_tier(1)) == "standard"
    assert live.put_tier(raw_tier(2)) is None
    assert live.put_tier(raw_tier(3, limits={"requestsPerMinute": 5})) == "standard"
    assert live.tenants_of_tier("standard") == ["acme"]
    assert live.tenants_of_tier("trial") == []
    assert live.drop_tier("standard", 3)


def test_a_tier_that_cannot_be_read_says_so_instead_of_keeping_the_old_one() -> None:
    live = Live()
    live.put_tier(raw_tier(1))
    assert live.put_tier(raw_tier(2, keys="none")) == "standard"
    assert isinstance(live.tiers["standard"], FieldError)


def test_credentials_are_news_for_tenants_that_use_them_directly_or_by_their_tier() -> None:
    live = Live()
    upstream = {"name": "openai", "baseURL": "https://api.openai.com/v1", "credentialsSecret": "openai"}
    live.put_tenant(record())
    live.put_tier(raw_tier(1, upstreams=[upstream]))
    assert live.tenants_using("openai") == ["acme"]
    own = {**upstream, "credentialsSecret": "own"}
    live.put_tenant(read_tenant({**raw_tenant(9, 2), "spec": {"tier": "standard", "upstreams": [own]}}))
    assert live.tenants_using("openai") == []
    assert live.tenants_using("own") == ["acme"]
    assert live.put_credential(Credential("own", "uid", 5, "hash"))
    assert not live.put_credential(Credential("own", "uid", 5, "hash"))
    assert not live.put_credential(Credential("own", "uid", 6, "hash")), "relabelled, not changed"
    assert live.put_credential(Credential("own", "uid", 7, "other"))
    assert not live.drop_credential("own", 6)
    assert live.drop_credential("own", 7)


def test_an_old_event_does_not_overwrite_what_a_write_has_told_us() -> None:
    live = Live()
    assert live.put_child(child("ConfigMap", "a", version=10))
    assert not live.put_child(child("ConfigMap", "a", version=9, fields="old"))
    assert not live.put_child(child("ConfigMap", "a", version=11))
    assert live.put_child(child("ConfigMap", "a", version=12, fields="edited"))


def test_the_late_news_of_a_deletion_does_not_hit_the_object_that_took_its_place() -> None:
    live = Live()
    live.put_child(child("ConfigMap", "a", uid="new", version=20))
    assert not live.drop_child("acme", child("ConfigMap", "a").ref, "old")
    assert len(live.children("acme")) == 1


def test_a_complete_list_finds_what_went_away_unseen_and_spares_what_is_newer() -> None:
    live = Live()
    ghost, kept, fresh = (child("ConfigMap", name, version=at) for name, at in (("ghost", 5), ("kept", 6), ("new", 30)))
    other_kind = child("Service", "ghost", version=5)
    for each in (ghost, kept, fresh, other_kind):
        live.put_child(each)
    news = list(live.replace_kind("ConfigMap", [kept], as_of=20))
    assert news == ["acme"]
    assert {each.ref.name for each in live.children("acme") if each.ref.group_kind == "ConfigMap"} == {"kept", "new"}
    assert live.child("acme", other_kind.ref) is not None


def test_a_complete_list_without_differences_wakes_nobody() -> None:
    live = Live()
    kept = child("ConfigMap", "kept", version=6)
    live.put_child(kept)
    assert list(live.replace_kind("ConfigMap", [replace(kept, version=8)], as_of=20)) == []


def test_an_object_elsewhere_with_our_labels_is_not_taken_in() -> None:
    live = Live()
    foreign = child("ConfigMap", "a")
    foreign = replace(foreign, ref=replace(foreign.ref, namespace="kube-system"))
    assert not live.put_child(foreign)
    assert not live.put_child(child("Namespace", "kube-system"))
    assert live.children("acme") == []


def test_a_list_that_is_older_than_what_we_know_drops_nothing() -> None:
    live = Live()
    live.put_tier(raw_tier(9))
    assert not live.drop_tier("standard", 8)
    assert live.drop_tier("standard", 10)


def test_a_quota_that_becomes_full_or_has_room_again_is_news() -> None:
    live = Live()
    seen = [False, True, True, False]
    news = [
        live.put_child(child("ResourceQuota", "tenant", version=10 + at, full=full)) for at, full in enumerate(seen)
    ]
    assert news == [True, True, False, True]


def test_fewer_secrets_in_the_quotas_count_are_news_and_more_are_not() -> None:
    live, ref = Live(), Ref("ResourceQuota", SPACE, "tenant")
    counts = [None, 1, 3, 2, 2, None, 3, 0]
    news = [live.put_child(child("ResourceQuota", "tenant", version=10 + at, secrets=n)) for at, n in enumerate(counts)]
    assert news == [True, False, False, True, False, False, False, True]
    quota = live.child("acme", ref)
    assert quota is not None
    assert quota.lost == 2
