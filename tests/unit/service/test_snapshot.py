"""Policies compiled: who may call what, and where it goes."""

import hashlib
from datetime import UTC, datetime

import pytest
from tenantry_service import errors
from tenantry_service.errors import NO_UPSTREAM, ApiError
from tenantry_service.policy import Key, Models, PolicyError, Upstream
from tenantry_service.proxy.snapshot import MODEL_CACHE, OTHER_MODEL, Bearer, Snapshot, Target, TenantView, endpoint

from tests.unit.service.playbook import KEY, NOW, policy, snapshot


def view(**more: object) -> TenantView:
    return TenantView(policy(**more), {})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("url", "host", "port", "tls", "path", "authority"),
    [
        ("https://api.openai.com/v1", "api.openai.com", 443, True, b"/v1", b"host: api.openai.com\r\n"),
        ("http://localhost:11434", "localhost", 11434, False, b"/v1", b"host: localhost:11434\r\n"),
        ("http://[::1]:80/openai/v1/", "::1", 80, False, b"/openai/v1", b"host: [::1]:80\r\n"),
    ],
)
def test_a_base_url_becomes_an_address(
    url: str, host: str, port: int, tls: bool, path: bytes, authority: bytes
) -> None:
    found = endpoint(Upstream(name="u", base_url=url), None)
    assert (found.host, found.port, found.tls, found.base_path) == (host, port, tls, path)
    assert authority in found.head_lines
    assert b"authorization" not in found.head_lines


@pytest.mark.parametrize("credential", ["", "two words", "a\r\nx: y", "ключ"])
def test_a_credential_that_would_break_the_header_is_refused_without_being_quoted(credential: str) -> None:
    with pytest.raises(PolicyError) as caught:
        endpoint(Upstream(name="u", base_url="http://x"), credential)
    assert not credential or credential not in str(caught.value)


def test_the_lowest_priority_that_serves_the_model_is_asked() -> None:
    found = view(
        upstreams=(
            Upstream(name="spare", base_url="http://b", priority=5),
            Upstream(name="first", base_url="http://a", priority=1, models=("gpt-*",)),
        )
    )
    for model, name in (("gpt-4o", "first"), ("o3", "spare")):
        target = found.find(model)
        assert isinstance(target, Target)
        assert target.endpoint.name == name


def test_a_model_that_no_upstream_serves_is_our_fault_and_not_the_callers() -> None:
    assert view(upstreams=(Upstream(name="a", base_url="http://a", models=("gpt-*",)),)).find("o3") is NO_UPSTREAM


def test_labels_are_closed() -> None:
    found = view(models=Models(allow=("*", "house-model"), aliases={"fast": "gpt-4o"}))
    assert [found.label(model) for model in ("gpt-4o", "house-model", "fast")] == ["gpt-4o", "house-model", "fast"]
    assert found.label("typo-4o") == OTHER_MODEL
    assert found.label("*") == OTHER_MODEL


def test_invented_model_names_do_not_fill_the_memory() -> None:
    found = view(models=Models(allow=("gpt-*",)))
    for number in range(2 * MODEL_CACHE):
        assert isinstance(found.find(f"invented-{number}"), ApiError)
    assert len(found._targets) <= MODEL_CACHE


def test_one_key_id_belongs_to_one_tenant() -> None:
    with pytest.raises(PolicyError, match="two policies"):
        Snapshot([view(), view()])


def test_a_remembered_key_is_looked_at_again_when_it_expires_or_the_policy_changes() -> None:
    expiring = Key(
        id="abcdefghijkl",
        name="default",
        sha256=hashlib.sha256(KEY.encode()).hexdigest(),
        expires_at=datetime.fromtimestamp(NOW + 60, UTC),
    )
    now_good, revoked = snapshot(policy(key=expiring)), snapshot(policy(key=Key(id="x", name="x", sha256="0" * 64)))
    bearer = Bearer(f"Bearer {KEY}".encode())
    assert bearer.caller(now_good, NOW) is bearer.caller(now_good, NOW + 59)
    assert bearer.caller(revoked, NOW) is errors.WRONG_KEY
    assert bearer.caller(now_good, NOW + 60) is errors.EXPIRED_KEY
