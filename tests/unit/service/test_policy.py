"""The policy document: what is refused, and with which words."""

import json

import pytest
from tenantry_service import policy as policies
from tenantry_service.policy import Policy, PolicyError, Rates, Upstream

MINIMAL = {"tenant": "acme", "generation": 1, "upstreams": [{"name": "main", "baseUrl": "https://api.openai.com/v1"}]}


def document(**changes: object) -> bytes:
    return json.dumps({**MINIMAL, **changes}).encode()


def test_a_document_survives_encoding_and_decoding() -> None:
    policy = policies.sealed(
        Policy(
            tenant="acme",
            generation=7,
            upstreams=(Upstream(name="main", base_url="http://up/v1", credentials_file="/etc/key"),),
            prices={"m": Rates(input=1, output=2)},
        )
    )
    assert policies.decode(policies.encode(policy)) == policy


def test_the_revision_follows_the_content_and_not_the_generation() -> None:
    first = policies.decode(document())
    assert policies.sealed(first).revision == policies.sealed(policies.decode(document(generation=2))).revision
    assert policies.sealed(first).revision != policies.sealed(policies.decode(document(maxBodyBytes=5))).revision


def test_fields_of_a_newer_operator_are_ignored() -> None:
    assert policies.decode(document(fromTheFuture={"a": 1})).tenant == "acme"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"tenant": "No Capitals"}, "$.tenant"),
        ({"limits": {"requestsPerMinute": 0}}, "$.limits.requestsPerMinute"),
        ({"limits": {"whenUnavailable": "Panic"}}, "$.limits.whenUnavailable"),
        ({"budget": {"amountNanoUsd": -1, "window": "Day"}}, "$.budget.amountNanoUsd"),
        ({"budget": {"amountNanoUsd": 1, "window": "Year"}}, "$.budget.window"),
        ({"upstreams": []}, "$.upstreams"),
        ({"upstreams": [{"name": "a", "baseUrl": "ftp://x"}]}, "$.upstreams[0].baseUrl"),
        ({"upstreams": [{"name": "a", "baseUrl": "http://u:p@x"}]}, "$.upstreams[0].baseUrl"),
        ({"upstreams": [{"name": "a", "baseUrl": "http://x/v1?k=1"}]}, "$.upstreams[0].baseUrl"),
        ({"upstreams": [{"name": "a", "baseUrl": "http://x\r\nhost: y"}]}, "$.upstreams[0].baseUrl"),
        ({"upstreams": [{"name": "a", "baseUrl": "http://x:99999"}]}, "$.upstreams[0].baseUrl"),
        ({"upstreams": MINIMAL["upstreams"] * 2}, "$.upstreams[1].name"),  # type: ignore[operator]
        ({"keys": [{"id": "a", "name": "k", "sha256": "00"}]}, "$.keys[0].sha256"),
        (
            {"keys": [{"id": "a", "name": "k", "sha256": "0" * 64, "expiresAt": "2026-01-01T00:00:00"}]},
            "$.keys[0].expiresAt",
        ),
        ({"apiVersion": "policy.tenantry.dev/v9"}, "$.apiVersion"),
    ],
)
def test_a_wrong_field_is_named(changes: dict[str, object], field: str) -> None:
    with pytest.raises(PolicyError) as caught:
        policies.decode(document(**changes))
    assert caught.value.field == field


@pytest.mark.parametrize("nonsense", [b"", b"{", b"[]", b"null", b"\xff"])
def test_what_is_no_document_is_refused(nonsense: bytes) -> None:
    with pytest.raises(PolicyError) as caught:
        policies.decode(nonsense)
    assert caught.value.field == "$"


def test_a_document_that_is_nested_without_end_is_refused_and_not_a_crash() -> None:
    deep = b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"," + document()[1:]
    with pytest.raises(PolicyError):
        policies.decode(deep)
