"""Addresses of Redis, and what each tenant's pods get of it."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tenantry_operator.plan import store as plan
from tenantry_operator.plan.store import address

SEED = b"0" * 32
URL = "redis://admin:secret@redis.tenantry-system.svc.cluster.local:6380/3"


def test_a_url_is_read_with_its_defaults() -> None:
    found = address(URL)
    assert (found.tls, found.host, found.port, found.database) == (
        False,
        "redis.tenantry-system.svc.cluster.local",
        6380,
        3,
    )
    assert (found.user, found.password) == ("admin", "secret")
    bare = address("rediss://[fd00::1]\n")
    assert (bare.tls, bare.host, bare.port, bare.database, bare.user, bare.password) == (
        True,
        "fd00::1",
        6379,
        0,
        "",
        "",
    )


def test_what_a_url_escapes_is_read_as_it_was() -> None:
    assert address("redis://a%40b:p%2F%3A@h").password == "p/:"


@pytest.mark.parametrize(
    "url", ["", "secret", "http://:secret@h", "redis://:secret@", "redis://:secret@h:0", "redis://:secret@h/x"]
)
def test_what_is_no_url_of_redis_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(ValueError, match="must be a URL such as redis://") as caught:
        address(url)
    assert "secret" not in str(caught.value)


def test_neither_password_nor_seed_is_in_what_ends_in_logs() -> None:
    found = address(URL)
    assert "secret" not in repr(found)
    assert "000" not in repr(plan.store(found, SEED))


def test_a_host_outside_of_the_cluster_needs_its_address_ranges() -> None:
    with pytest.raises(ValueError, match=r"--redis-cidr is required: Redis at redis.example.com"):
        plan.store(address("redis://redis.example.com"), SEED)
    with pytest.raises(ValueError, match=r"10.0.0.1/8"):
        plan.store(address("redis://redis.example.com"), SEED, ("10.0.0.1/8",))
    assert plan.store(address("redis://10.1.2.3"), SEED).cidrs == ("10.1.2.3/32",)


names = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?", fullmatch=True)


@given(names, names, st.uuids().map(str))
def test_each_tenant_has_a_password_of_its_own_that_stays_the_same(one: str, other: str, uid: str) -> None:
    found = plan.store(address(URL), SEED)
    mine = found.password(one, uid)
    assert mine == plan.store(address(URL), SEED).password(one, uid)
    assert (mine == found.password(other, uid)) is (one == other)
    assert mine != found.password(one, f"{uid}x")
    assert mine != plan.store(address(URL), b"1" * 32).password(one, uid)
    assert len(mine) == 43
    assert found.digest(one, uid) == hashlib.sha256(mine.encode()).hexdigest()


def test_the_pods_url_is_one_of_the_same_redis_as_the_tenants_user() -> None:
    found = plan.store(address("rediss://admin:secret@[fd00::1]:7000/2"), SEED)
    pods = address(found.url("acme", "u"))
    assert (pods.user, pods.password) == ("tenant-acme", found.password("acme", "u"))
    assert (pods.tls, pods.host, pods.port, pods.database) == (True, "fd00::1", 7000, 2)


def test_a_change_of_password_or_place_shows_in_what_is_told_of_the_content() -> None:
    contents = {
        plan.store(address(url), seed).content(tenant, uid)
        for url in (URL, "redis://10.0.0.1")
        for seed in (SEED, b"1" * 32)
        for tenant, uid in (("acme", "u"), ("acme", "v"), ("globex", "u"))
    }
    assert len(contents) == 12
    assert SEED.decode() not in "".join(contents)
